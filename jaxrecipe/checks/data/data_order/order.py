"""How much what is observed of the examples depends on where in the order they come, against chance."""

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from jaxtyping import Float64, Int
from scipy.special import gammaln

from jaxrecipe.checks.data.data_order.loader import MOST_COLUMNS, Observed

PERMUTATIONS = 40
"""Random orders that say what chance does: the spread is then known to about a tenth."""
SMALLEST_BLOCK = 16
"""Smaller batches are taken together: the classes of one or two examples say nothing."""
FEWEST_BLOCKS = 4
"""With fewer batches than this even a sorted order is one of a handful."""
STRETCHES = 60
"""Stretches into which the order is divided for the chart."""
ROUNDING = 1e-9
"""Spread of a column, as a share of its size, below which it is constant but for rounding in float64."""


@dataclass(frozen=True)
class Dependence:
    """How much of what is observed depends on where in the order it comes.

    Attributes:
        share: of the variance that sorting would put between batches, what is there beyond chance: 0 in random order, 1
            when sorted.
        chance: probability of so much or more in a random order.
        profile: mean of each column (share of each class) in up to 60 stretches of the order, `[stretches, columns]`.
        names: of the columns.
    """

    share: float
    chance: float
    profile: Float64[np.ndarray, "stretches columns"]
    names: tuple[str, ...]


def dependence_on_order(observed: Observed, sizes: list[int], seed: int) -> Dependence | None:
    """Compare the variance between batches with that in random orders; None where nothing can be said.

    For classes this is the chi-squared statistic of batch against class, for values the F statistic. Mean and spread in
    random orders come from permutations, the tail from the chi-squared distribution of that mean and spread (Wilson and
    Hilferty).
    """
    columns, names = _columns(observed, seed)
    if not np.isfinite(columns).all():
        return None
    spread = columns.std(axis=0)
    varies = spread > ROUNDING * (np.abs(columns).max(axis=0, initial=0.0) + 1e-30)
    starts = _block_starts(sizes)
    if not varies.any() or len(starts) < FEWEST_BLOCKS:
        return None
    scaled = ((columns - columns.mean(axis=0)) / np.where(varies, spread, 1.0))[:, varies]
    rng = np.random.default_rng([seed, 313])
    orders = (rng.permutation(len(scaled)) for _ in range(PERMUTATIONS))
    random = np.array([_between_blocks(scaled[order], starts) for order in orders])
    mean, deviation = float(random.mean()), float(max(random.std(ddof=1), ROUNDING))
    found, top = _between_blocks(scaled, starts), 1.0
    if observed.values.shape[1] == 1:
        top = _between_blocks(scaled[np.argsort(observed.values[:, 0], kind="stable")], starts)
    share = max(0.0, (found - mean) / max(top - mean, ROUNDING))
    return Dependence(share, _tail(found, mean, deviation), _profile(columns, len(starts)), names)


def _tail(found: float, mean: float, deviation: float) -> float:
    """Probability of so much or more under a chi-squared distribution of that mean and deviation."""
    freedom = 2 * mean**2 / deviation**2
    z = ((found / mean) ** (1 / 3) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom))
    return float(0.5 * erfc(z / sqrt(2)))


def _profile(columns: np.ndarray, blocks: int) -> np.ndarray:
    """Mean of each column in stretches of the order."""
    stretches = np.linspace(0, len(columns), min(STRETCHES, blocks) + 1).astype(int)[:-1]
    counts = np.diff([*stretches, len(columns)])[:, None]
    return np.add.reduceat(columns, stretches, axis=0) / counts


def _columns(observed: Observed, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers as a column of yes and no each; many classes as random signs, which depend on the order as much."""
    if not observed.categories:
        return observed.values, tuple(map(str, range(observed.values.shape[1])))
    classes, numbers = np.unique(observed.values[:, 0], return_inverse=True)
    if len(classes) <= MOST_COLUMNS:
        return np.eye(len(classes))[numbers], tuple(f"{one:g}" for one in classes)
    signs = np.random.default_rng([seed, 317]).choice([-1.0, 1.0], size=(len(classes), MOST_COLUMNS))
    return signs[numbers], ()


def _block_starts(sizes: list[int]) -> Int[np.ndarray, "blocks"]:
    """Where the batches begin; small ones taken together, a short last one given to the one before."""
    starts, size = [0], 0
    for number in sizes:
        size += number
        if size >= SMALLEST_BLOCK:
            starts.append(starts[-1] + size)
            size = 0
    return np.array(starts[:-1] if len(starts) > 1 else starts)


def _between_blocks(scaled: np.ndarray, starts: np.ndarray) -> float:
    """Share of the variance of standardized columns that lies between blocks."""
    counts = np.diff([*starts, len(scaled)])[:, None]
    sums = np.add.reduceat(scaled, starts, axis=0)
    return float((sums**2 / counts).sum() / scaled.size)


def log_chance_of_same_order(values: np.ndarray) -> float:
    """Logarithm of the probability that two random orders of these values `[n, ...]` are alike."""
    _, counts = np.unique(values.reshape(len(values), -1), axis=0, return_counts=True)
    return float(gammaln(counts + 1.0).sum() - gammaln(len(values) + 1.0))
