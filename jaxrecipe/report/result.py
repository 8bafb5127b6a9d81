"""One check's outcome as plain data: a leaf that anything may import."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxrecipe.diagnosis.finding import Finding, worst_first
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.evidence import Curve, Evidence, Histogram, Images, Matrix, Scalar, Table

__all__ = [
    "Curve",
    "Evidence",
    "Histogram",
    "Images",
    "Matrix",
    "Result",
    "Scalar",
    "Status",
    "Table",
    "skipped",
]


class Status(enum.StrEnum):
    """How a check ended.

    PASS: measured and right. WARN: worth a look. FAIL: almost certainly a bug. SKIP: does not apply, or could not be
    run, and says why. EXPECTED: failed or warned, and the user had said that it would and why. CRASHED: the check
    itself raised.
    TIMEOUT: the check was ended by its wall-time limit, which says nothing about the set-up.
    """

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    EXPECTED = "EXPECTED"
    CRASHED = "CRASHED"
    TIMEOUT = "TIMEOUT"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check's outcome. A check returns it with what it found; the recipe adds which one it was and what it took.

    Attributes:
        summary: one sentence that says what was measured and is right, or why the check does not apply.
        findings: everything that is wrong, worst first.
        measures: every number that was measured, with its bounds, those of the findings included.
        evidence: what it looked at, to be drawn.
        ended: how it ended where the findings do not say: SKIP, CRASHED or TIMEOUT.
        expected: why the user expects it to fail or warn; empty where they do not. A finding is then EXPECTED.
        name: the check, named after the recipe's step.
        stage: the recipe's stage: "data", "skeleton", "overfit", ... .
        thresholds: every threshold in force, by the name under which it can be overridden.
        seconds: wall time, compiling included.
        programs: how many programs were compiled.
    """

    summary: str
    findings: tuple[Finding, ...] = ()
    measures: tuple[Measure, ...] = ()
    evidence: Sequence[Evidence] = ()
    ended: Status | None = None
    expected: str = ""
    name: str = ""
    stage: str = ""
    thresholds: Mapping[str, Scalar] = field(default_factory=dict)
    seconds: float = 0.0
    programs: int = 0

    def __post_init__(self) -> None:
        """Findings stand worst first, and their measures among all."""
        object.__setattr__(self, "findings", worst_first(self.findings))
        known = {measure.name for measure in self.measures}
        among = {m.name: m for finding in self.findings for m in finding.measures if m.name not in known}
        object.__setattr__(self, "measures", (*self.measures, *among.values()))

    @property
    def status(self) -> Status:
        """How the check ended."""
        if self.ended is not None:
            return self.ended
        if not self.findings:
            return Status.PASS
        return Status.EXPECTED if self.expected else Status(self.findings[0].severity.value)

    @property
    def headline(self) -> str:
        """The worst finding and how many more there are, or the summary where there is none; and what was expected."""
        if self.ended is not None:
            return self.summary
        if not self.findings:
            surprise = f"It was expected to fail ({self.expected}) and did not: remove the expectation."
            return f"{self.summary} {surprise}" if self.expected else self.summary
        worst, *others = self.findings
        more = f" And {len(others)} more." if others else ""
        reason = f" Expected ({worst.severity}): {self.expected}" if self.expected else ""
        return f"{worst.message}{more}{reason}"

    @property
    def finding(self) -> str:
        """The headline, under the name that it had before findings had codes."""
        return self.headline

    @property
    def hint(self) -> str:
        """What to do about the worst finding; empty on PASS."""
        return self.findings[0].hint if self.findings else ""

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of everything found, worst first."""
        return tuple(finding.code for finding in self.findings)

    @property
    def measured(self) -> dict[str, float]:
        """The numbers by name."""
        return {measure.name: measure.value for measure in self.measures}

    @property
    def failed(self) -> bool:
        """Whether this alone makes a report fail: FAIL, or a check that crashed and so proved nothing."""
        return self.status in (Status.FAIL, Status.CRASHED)


def skipped(reason: str) -> Result:
    """The result of a check that does not apply, or cannot be run, with the reason and what would enable it."""
    return Result(summary=reason, ended=Status.SKIP)
