"""Exponents of many arrays beside what a format holds, as evidence."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrecipe.precision.numerics import HIGHEST, LOWEST, Exponents, exponent_of, format_of
from jaxrecipe.report.result import Matrix

MARGIN = 30
"""Exponents drawn on either side of the numbers where the format is much wider."""


def exponent_map(found: Exponents, dtype: Any, *, scale: float = 1.0, title: str = "exponents") -> Matrix:
    """Layers × exponents as a picture: each row's share at each exponent, under a row that draws what the format holds.

    The first row is 1 where the format holds the number with all digits after scaling, and ½ where it loses some. Of a
    range that is much wider than the numbers (bfloat16's) only `MARGIN` exponents on either side of them are drawn.
    """
    shift, limits = exponent_of(scale), format_of(dtype)
    lowest, highest = limits.lowest - shift, limits.highest - shift
    used = (lowest, highest) if found.lowest is None or found.highest is None else (found.lowest, found.highest)
    first = max(LOWEST, min(used[0], max(lowest, used[0] - MARGIN), highest))
    last = min(HIGHEST, max(used[1], min(highest, used[1] + MARGIN)))
    exponent = np.arange(first, last + 1)
    held = np.where(exponent < limits.lowest_normal - shift, 0.5, 1.0) * ((exponent >= lowest) & (exponent <= highest))
    total = np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    rows = (found.counts / total)[:, first - LOWEST : last - LOWEST + 1]
    return Matrix(
        title=title,
        values=np.concatenate([held[None], rows]),
        row_label="array",
        column_label="exponent of two",
        row_names=(f"[{jnp.dtype(dtype).name} at scale {scale:g}]", *found.names),
        column_names=tuple(str(value) for value in exponent),
    )
