"""One thing that is wrong: a stable code, how bad it is, the numbers, and what may have caused it."""

from dataclasses import dataclass

from jaxrecipe.diagnosis.causes.table import CAUSES, Cause
from jaxrecipe.diagnosis.measure import Measure, Severity


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found.

    Attributes:
        code: what is wrong, stable over versions ("loss/softmax-twice"): a row of the table of causes. Where the check
            sees a symptom, the code names the symptom and `causes` what may be behind it.
        severity: how bad it is.
        message: one sentence with the numbers of this set-up: what is wrong, not what to do.
        measures: the numbers that it rests on, the deciding one first.
        causes: what may have caused it, the likeliest first; by default what the code itself says.
    """

    code: str
    severity: Severity
    message: str
    measures: tuple[Measure, ...] = ()
    causes: tuple[Cause, ...] = ()

    def __post_init__(self) -> None:
        """What is given no causes is its own."""
        if not self.causes and self.code in CAUSES:
            object.__setattr__(self, "causes", (CAUSES[self.code],))

    @property
    def hint(self) -> str:
        """What to do: the first cause's advice, and what else to think of."""
        if not self.causes:
            return ""
        first, *others = self.causes
        also = f" Otherwise: {'; '.join(_clause(other.title) for other in others)}." if others else ""
        return f"{first.advice}{also}"


def failure(code: str, message: str, *, measures: tuple[Measure, ...] = (), causes: tuple[Cause, ...] = ()) -> Finding:
    """A finding that is almost certainly a bug."""
    return Finding(code=code, severity=Severity.FAIL, message=message, measures=measures, causes=causes)


def warning(code: str, message: str, *, measures: tuple[Measure, ...] = (), causes: tuple[Cause, ...] = ()) -> Finding:
    """A finding that is worth a look."""
    return Finding(code=code, severity=Severity.WARN, message=message, measures=measures, causes=causes)


def worst_first(findings: tuple[Finding, ...] | list[Finding]) -> tuple[Finding, ...]:
    """Failures before warnings, otherwise in the order given."""
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.FAIL))


def _clause(title: str) -> str:
    """A title as part of a longer sentence."""
    return title.rstrip(".")
