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

Scalar = float | int | str | bool


class Status(enum.StrEnum):
    """How a check ended.

    PASS: measured and right. WARN: odd, worth a look. FAIL: almost certainly a bug. SKIP: does not apply, and says why.
    EXPECTED: failed or warned, and the user had said that it would and why. CRASHED: the check itself raised.
    """

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    EXPECTED = "EXPECTED"
    CRASHED = "CRASHED"


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
    """One check's outcome.

    Attributes:
        name: the check, named after the recipe's step.
        stage: the recipe's stage: "data", "skeleton", "overfit", ... .
        status: how it ended.
        finding: one sentence that says what was found.
        hint: what to do about it; empty on PASS.
        measured: what was measured, by name.
        expected: what was wanted of each, in words or numbers, by the same names.
        thresholds: every threshold in force, by the name under which it can be overridden.
        evidence: what it looked at, to be drawn.
        seconds: wall time, compiling included.
        programs: how many programs were compiled.
    """

    name: str
    stage: str
    status: Status
    finding: str
    hint: str = ""
    measured: Mapping[str, Scalar] = field(default_factory=dict)
    expected: Mapping[str, Scalar] = field(default_factory=dict)
    thresholds: Mapping[str, Scalar] = field(default_factory=dict)
    evidence: Sequence[Evidence] = ()
    seconds: float = 0.0
    programs: int = 0

    @property
    def failed(self) -> bool:
        """Whether this alone makes a report fail: FAIL, or a check that crashed and so proved nothing."""
        return self.status in (Status.FAIL, Status.CRASHED)


class RecipeFailed(Exception):  # noqa: N818  (it reads as what happened: the recipe failed)
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
            RecipeFailed: if a check failed or crashed; its message lists each with its finding and hint.
        """
        if not self.ok:
            raise RecipeFailed(self)

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
    lines = [f"  {result.status} {result.stage}/{result.name}: {result.finding}"]
    for name, wanted in result.expected.items():
        if name in result.measured:
            lines.append(f"      {name}: measured {result.measured[name]}, expected {wanted}")
    return "\n".join([*lines, f"      hint: {result.hint}"] if result.hint else lines)
