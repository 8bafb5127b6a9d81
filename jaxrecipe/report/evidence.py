"""What a check looked at, as plain data: it is never pixels, and each renderer draws it in its own way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Scalar = float | int | str | bool


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
