"""What a check finds, as plain data: Result, Evidence and Report. Needs only the standard library and numpy.

Evidence is data and never pixels: each renderer (text, HTML) draws it in its own way. The renderers are imported
where they are used, so that this module stays a leaf that anything may import.
"""

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding, worst_first
from jaxrecipe.diagnosis.measure import Measure, Severity

Scalar = float | int | str | bool


class Status(enum.StrEnum):
    """How a check ended.

    PASS: measured and right. WARN: worth a look. FAIL: almost certainly a bug. SKIP: does not apply, or could not be run, and
    says why. EXPECTED: failed or warned, and the user had said that it would and why. CRASHED: the check itself raised.
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
class Curve:
    """Named lines over one axis. `x` is `[points]`, each series `[points]`; `levels` are horizontal reference lines."""

    title: str
    x: np.ndarray
    series: Mapping[str, np.ndarray]
    x_label: str = "step"
    y_label: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts `[bins]` between edges `[bins + 1]`; several series share the edges."""

    title: str
    edges: np.ndarray
    counts: Mapping[str, np.ndarray]
    x_label: str = ""
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A grid of numbers `[rows, columns]`, drawn as a heat map."""

    title: str
    values: np.ndarray
    row_label: str = ""
    column_label: str = ""
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pictures `[n, height, width]` or `[n, height, width, channels]` (1, 3 or 4), as they are, with a caption each.

    Values are shown on one scale, from `low` (black) to `high` (white).
    """

    title: str
    images: np.ndarray
    captions: Sequence[str] = ()
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of numbers and words under named columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Scalar]]


Evidence = Curve | Histogram | Matrix | Images | Table


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check's outcome. A check returns it with what it found; the recipe fills in which check it was and what it took.

    Attributes:
        summary: one sentence that says what was measured and is right, or why the check does not apply.
        findings: everything that is wrong, worst first.
        measures: every number that was measured, with its bounds, those of the findings included.
        evidence: what it looked at, to be drawn.
        ended: how it ended where the findings do not say: SKIP, EXPECTED, CRASHED or TIMEOUT.
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
    name: str = ""
    stage: str = ""
    thresholds: Mapping[str, Scalar] = field(default_factory=dict)
    seconds: float = 0.0
    programs: int = 0

    def __post_init__(self) -> None:
        """Findings stand worst first, and their measures among all."""
        known = {measure.name for measure in self.measures}
        among = [m for finding in self.findings for m in finding.measures if m.name not in known]
        object.__setattr__(self, "findings", worst_first(self.findings))
        object.__setattr__(self, "measures", (*self.measures, *{measure.name: measure for measure in among}.values()))

    @property
    def status(self) -> Status:
        """How the check ended."""
        if self.ended is not None:
            return self.ended
        worst = next(iter(self.findings), None)
        return Status.PASS if worst is None else Status(worst.severity.value)

    @property
    def headline(self) -> str:
        """One sentence: the worst finding (and how many more there are), or the summary where there is none."""
        if not self.findings or self.ended is not None:
            return self.summary
        more = f" {len(self.findings) - 1} more in the report." if len(self.findings) > 1 else ""
        return self.findings[0].message + more

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


def unsorted_result(
    *,
    name: str,
    stage: str,
    status: Status,
    finding: str,
    hint: str = "",
    measured: Mapping[str, Scalar] | None = None,
    expected: Mapping[str, Scalar] | None = None,
    evidence: Sequence[Evidence] = (),
) -> Result:
    """On the way out: a check that does not yet name codes. To be removed with its last caller."""
    del expected
    numbers = {key: value for key, value in (measured or {}).items() if isinstance(value, int | float)}
    measures = tuple(Measure(name=key, value=float(value)) for key, value in numbers.items())
    findings: tuple[Finding, ...] = ()
    if status in (Status.WARN, Status.FAIL):
        cause = Cause(code=f"unsorted/{name}", title=hint, harm="", fix="")
        findings = (
            Finding(code=cause.code, severity=Severity(status.value), message=finding, causes=(cause,) if hint else ()),
        )
    ended = status if status in (Status.SKIP, Status.CRASHED) else None
    reason = f"{finding} {hint}".strip() if ended else finding
    return Result(
        summary=reason, findings=findings, measures=measures, evidence=evidence, ended=ended, name=name, stage=stage
    )


class RecipeFailedError(Exception):
    """At least one check failed. The message lists each with its finding and hint; `report` holds everything.

    Args:
        report: the report with the failed checks.
    """

    def __init__(self, report: "Report") -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        head = f"{self.report.task}: {self.report.verdict} (of {len(self.report.results)})"
        return "\n".join([head, *(_failure(result) for result in self.report.failed)])


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """All results of one run of the recipe. `print` it, `save` it, or let a notebook show it.

    Attributes:
        task: the name of the task.
        results: in the order in which the checks ran.
        seed: what everything random followed from.
        seconds: wall time of the whole run.
        programs: how many programs were compiled.
        versions: of the packages, and the devices, that the results depend on.
        notes: anything else worth saying at the end, one sentence each.
    """

    task: str
    results: tuple[Result, ...]
    seed: int = 0
    seconds: float = 0.0
    programs: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no check failed or crashed. Warnings and expected failures are no failures."""
        return not self.failed

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that are FAIL or CRASHED."""
        return tuple(result for result in self.results if result.failed)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What may be behind the failures (or, without any, the warnings), each cause once, the likeliest first.

        Every finding shares one vote among its causes, the first of n getting the most (weights 1, 1/2, 1/3, ...).
        """
        wanted = Severity.FAIL if any(result.status is Status.FAIL for result in self.results) else Severity.WARN
        votes: dict[str, float] = {}
        known: dict[str, Cause] = {}
        for result in self.results:
            for finding in result.findings if result.ended is None else ():
                if finding.severity is wanted:
                    total = sum(1 / rank for rank in range(1, len(finding.causes) + 1))
                    for rank, cause in enumerate(finding.causes, start=1):
                        known.setdefault(cause.code, cause)
                        votes[cause.code] = votes.get(cause.code, 0.0) + 1 / rank / total
        return tuple(known[code] for code in sorted(votes, key=lambda code: -votes[code]))

    @property
    def by_name(self) -> dict[str, Result]:
        """The results by the names of their checks."""
        return {result.name: result for result in self.results}

    @property
    def counts(self) -> dict[Status, int]:
        """How many results have each status; every status is there."""
        return {status: sum(result.status is status for result in self.results) for status in Status}

    @property
    def verdict(self) -> str:
        """The report in a few words. A crashed check is called just that: it says nothing about the set-up."""
        failed, crashed, warned = (self.counts[status] for status in (Status.FAIL, Status.CRASHED, Status.WARN))
        if not self.results:
            return "No check was run"
        words = f"{failed or 'No'} {'checks' if failed > 1 else 'check'} failed"
        if crashed:
            words += f", {crashed} crashed"
        elif warned and not failed:
            words += f", {warned} {'warnings' if warned > 1 else 'warning'}"
        return words

    def raise_if_failed(self) -> None:
        """Do nothing when `ok`.

        Raises:
            RecipeFailedError: if a check failed or crashed; its message lists each with its finding and hint.
        """
        if not self.ok:
            raise RecipeFailedError(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as a page (.html), as data (.json) or as plain text (.txt), replacing the file in one go.

        Raises:
            ValueError: if the suffix is another one.
            OSError: if the directory does not exist or cannot be written to.
        """
        from jaxrecipe.report.files import write_text

        target = Path(path)
        write_text(target, self._rendered(target))

    def to_json(self) -> str:
        """All of the report as strict JSON. `from_json` gives it back without loss; the format is in report/serial.py."""
        from jaxrecipe.report.serial import dumps

        return dumps(self)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote; arrays come back as numpy arrays of the same dtype and shape.

        Raises:
            ValueError: if the text is not such a report.
        """
        from jaxrecipe.report.serial import loads

        return loads(text)

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items() if number)
        return f"Report({self.task!r}: {counts or 'no checks'}, seed {self.seed})"

    def __str__(self) -> str:
        from jaxrecipe.report.text import plain

        return plain(self)

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        from jaxrecipe.report.text import render

        yield render(self, width=options.max_width)

    def _repr_html_(self) -> str:
        from jaxrecipe.report.html import framed

        return framed(self)

    def _rendered(self, path: Path) -> str:
        """What to write into a file of this suffix."""
        from jaxrecipe.report import html, text

        writers = {".html": html.page, ".json": Report.to_json, ".txt": text.plain}
        writer = writers.get(path.suffix.lower())
        if writer is None:
            raise ValueError(f"Report.save: got {str(path)!r}; the suffix must be one of {', '.join(writers)}")
        return writer(self)


def _failure(result: Result) -> str:
    """One failed check in an error message."""
    lines = [f"  {result.status} {result.stage}/{result.name}: {result.headline}"]
    for measure in result.measures:
        if measure.verdict is not None:
            lines.append(f"      {measure.name}: measured {measure.value:.4g}, expected {measure.wanted}")
    return "\n".join([*lines, f"      hint: {result.hint}"] if result.hint else lines)
