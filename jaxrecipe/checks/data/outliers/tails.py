"""The range that the bulk of some values leads one to expect for all of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FEWEST = 50
"""Fewer values have no tails to speak of."""
FEWEST_LEVELS = 8
"""With fewer different values than this a number is a category, whose rare values are no outliers."""
LOOKED_AT = 1000
"""Values in which different ones are counted."""
MANY = 500
"""Values from which on the tail is laid through farther quantiles."""
FAR_QUANTILES, NEAR_QUANTILES = (0.90, 0.98), (0.75, 0.95)
"""Through which quantiles the tail is laid: with many values, and with few."""
LEAST_POWER = 0.5
"""A tail heavier than this is taken for lighter: beyond exp(-sqrt(x)) nothing would ever be an outlier."""
GROUP = 20
"""A group behind a gap is at most one part in so many; a larger one is a second kind of examples."""
GAP = 2.0, 5.0
"""A gap is wider than so many times the near quantile, and than so many times the widest gap within the bulk."""


@dataclass(frozen=True)
class Bounds:
    """What a value may be: beyond `low` and `high` chance puts one only with the asked-for probability."""

    low: float
    high: float


UNBOUNDED = Bounds(-np.inf, np.inf)
"""Where nothing can be said."""


def bounds(values: Float64[np.ndarray, "n"], chance: float) -> Bounds:
    """The range that the tails of the bulk lead one to expect for so many examples.

    On each side of the median a tail exp(-(x/c)^k) is laid through two quantiles (90 and 98 %; 75 and 95 % below 500
    examples), and drawn out to where one of all examples lies beyond with probability `chance`. At a chance of one in a
    million about 7 standard deviations for 1,400 normally distributed numbers, far more for heavy tails. A group of at
    most a twentieth that a wide gap parts from all the rest is beyond too, even when it is large enough to bend the
    quantiles.
    """
    ordered = np.sort(values[np.isfinite(values)])
    if len(ordered) < FEWEST or len(np.unique(ordered[:: max(1, len(ordered) // LOOKED_AT)])) < FEWEST_LEVELS:
        return UNBOUNDED
    return Bounds(-_upper_bound(-ordered[::-1], chance), _upper_bound(ordered, chance))


def _upper_bound(ordered: Float64[np.ndarray, "n"], chance: float) -> float:
    """The upper bound of sorted values."""
    n = len(ordered)
    inner, outer = FAR_QUANTILES if n >= MANY else NEAR_QUANTILES
    median = float(np.quantile(ordered, 0.5))
    near, far = (float(np.quantile(ordered, share)) - median for share in (inner, outer))
    if near <= 0 or far <= near:
        return np.inf
    depths = [np.log(0.5 / (1 - share)) for share in (inner, outer)]
    power = max(LEAST_POWER, float(np.log(far / near) / np.log(depths[1] / depths[0])))
    bound = median + far * (np.log(0.5 * n / chance) / depths[1]) ** power
    return float(min(bound, _middle_of_gap(ordered, median, near)))


def _middle_of_gap(ordered: Float64[np.ndarray, "n"], median: float, near: float) -> float:
    """Where a wide gap parts a small group at the top from all the rest; infinity where none does."""
    n = len(ordered)
    if float(np.quantile(ordered, 0.95)) - median > GAP[0] * near:  # the group would be more than a twentieth
        return np.inf
    top = ordered[n - n // GROUP - 1 :]
    gaps = np.diff(top)[: len(top) - max(5, n // MANY)]  # not between the last few, which are always far apart
    widest_within = np.diff(ordered[n // 10 : n - n // 10]).max()
    if not gaps.size or gaps.max() <= max(GAP[0] * near, GAP[1] * widest_within):
        return np.inf
    return float(top[int(gaps.argmax())] + gaps.max() / 2)
