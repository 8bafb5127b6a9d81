"""What a check finds, as plain data: Result, Evidence and Report. Needs only the standard library and numpy.

Evidence is data and never pixels: each renderer (text, HTML) draws it in its own way.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
