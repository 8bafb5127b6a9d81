"""What both renderers need of numbers and words: how to write them, and how to show many in little room."""

import math
import unicodedata
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, Shaped


def number(value: Any) -> str:
    """A scalar for people: four significant digits, thousands separated, words as they are."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return clean(str(value))
    if not math.isfinite(value):
        return {"nan": "NaN"}.get(str(value), str(value))
    if 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def seconds(value: float) -> str:
    """A duration for people."""
    if not math.isfinite(value):
        return number(value)
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    return f"{round(value) // 60} min {round(value) % 60:02d} s"


def plural(count: int, noun: str) -> str:
    """`1 check`, `2 checks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def clean(text: str) -> str:
    """Words that cannot move the cursor, change colors or reverse the line: control characters become `�`."""
    return "".join(
        "�" if unicodedata.category(c) in ("Cc", "Cs", "Cf") and c not in "\n\u200d\ufeff" else c for c in text
    )


def shorten(text: str, most: int) -> str:
    """At most that many characters on one line, the middle left out."""
    line = " ".join(clean(text).split())
    keep = most - 1
    return line if len(line) <= most else line[: keep - keep // 3] + "…" + line[len(line) - keep // 3 :]


def floats(values: Any) -> Float[np.ndarray, "..."]:
    """Any array of numbers as float64, so that every dtype can be drawn."""
    return np.asarray(np.asarray(values), np.float64)


def finite_range(values: Float[np.ndarray, "..."]) -> tuple[float, float] | None:
    """Least and greatest finite value, or None when there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def logged(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Base-10 logarithm; NaN where there is none (zero, negative)."""
    return np.log10(np.where(values > 0, values, np.nan))


def unit_scaled(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Finite values moved to 0..1 (all 0.5 when equal); the others stay as they are."""
    found = finite_range(values)
    if found is None:
        return values
    # Halved first: the distance between the extremes of float64 is not a float64.
    half = found[1] / 2 - found[0] / 2
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values / 2 - found[0] / 2) / half if half > 0 else np.full_like(values, 0.5)
    return np.where(np.isfinite(values), scaled, values)


def strongest(
    values: Shaped[np.ndarray, "rows columns"], rows: int, columns: int
) -> Shaped[np.ndarray, "few_rows few_columns"]:
    """A matrix in at most `rows` × `columns` cells: of each block of cells the largest magnitude, NaN before all.

    A single cell that should not be there (one leak in a dependency chart) must survive the shrinking; a mean would
    hide it.
    """
    for axis, most in ((0, rows), (1, columns)):
        width = block_width(values.shape[axis], most)
        starts = range(0, values.shape[axis], width)
        values = np.stack(
            [_strongest_of(np.take(values, range(s, min(s + width, values.shape[axis])), axis), axis) for s in starts],
            axis,
        )
    return values


def block_width(size: int, most: int) -> int:
    """How many cells share one when `size` cells must fit into `most`."""
    return max(1, -(-size // most))


def thinned(y: Float[np.ndarray, "points"], most: int) -> Int[np.ndarray, "kept"]:
    """Indices of about `most` points that draw the same line: extremes of each stretch, and what is not finite."""
    if y.size <= most:
        return np.arange(y.size)
    kept = [0, y.size - 1]
    for stretch in np.array_split(np.arange(y.size), max(1, most // 3)):
        finite = stretch[np.isfinite(y[stretch])]
        if finite.size:
            kept += [int(finite[y[finite].argmin()]), int(finite[y[finite].argmax()])]
        if finite.size < stretch.size:
            kept.append(int(stretch[~np.isfinite(y[stretch])][0]))
    return np.unique(kept)


def _strongest_of(block: Num[np.ndarray, "a b"], axis: int) -> Num[np.ndarray, "c"]:
    magnitude = np.where(np.isnan(block), np.inf, np.abs(block))
    return np.take_along_axis(block, np.expand_dims(magnitude.argmax(axis), axis), axis).squeeze(axis)
