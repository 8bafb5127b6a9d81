"""Whether the targets of equal inputs agree, and whether they disagree more often than noise can explain."""

from typing import NamedTuple

import jax
import numpy as np

from jaxrecipe.data.sources import Source
from jaxrecipe.probes.fingerprints import Fingerprints, Groups

FEWEST_GROUPS = 10
"""Groups of equal examples below which a rate of disagreement is no evidence."""
ALIKE = 0.01
"""Standard deviations of real targets within which two count as equal: they are rounded to multiples of it."""
READ_AT_ONCE = 4096
"""Targets that are gathered at a time."""


class Agreement(NamedTuple):
    """Whether equal inputs have equal targets.

    Attributes:
        examples: how many have a copy with another target.
        rate: how often two members of a group of copies differ.
        chance: how often the targets of members of different groups differ.
        groups: how many groups there are.
    """

    examples: int
    rate: float
    chance: float
    groups: int

    @property
    def ratio(self) -> float:
        """The rate as a share of that of random pairs."""
        return self.rate / self.chance if self.chance else 0.0

    @property
    def errors_beyond_chance(self) -> float:
        """Standard errors by which copies disagree more often than random pairs, a rate that noise in labels at most
        reaches.

        0 where there are too few groups to say.
        """
        if self.groups < FEWEST_GROUPS:
            return 0.0
        error = np.sqrt(max(self.chance * (1.0 - self.chance), 1.0 / self.groups) / self.groups)
        return float((self.rate - self.chance) / error)


def agreement_of_copies(source: Source, rows: Fingerprints, groups: Groups) -> Agreement:
    """Compare the targets of examples with equal inputs: each group counts once, however large it is.

    The chance rate is that of two random examples among those that have copies. Targets that are real numbers always
    differ a little, so these are rounded to a hundredth of their standard deviation first.
    """
    where = np.flatnonzero(groups.repeated)
    if not len(where):
        return Agreement(0, 0.0, 0.0, 0)
    labels = _labels(source, rows, where)
    order = np.lexsort((labels, groups.group[where]))
    group, ranked = groups.group[where][order], labels[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(group)) - 1
    # each group counts once: the probability that two of its members, drawn without replacement, differ
    same, sizes = np.zeros(len(starts)), (ends - starts + 1).astype(float)
    runs = np.flatnonzero((np.diff(ranked, prepend=np.nan) != 0) | (np.diff(group, prepend=-1) != 0))
    lengths = np.diff(np.append(runs, len(group))).astype(float)
    np.add.at(same, np.searchsorted(starts, runs, side="right") - 1, lengths * (lengths - 1.0))
    differ = 1.0 - same / (sizes * (sizes - 1.0))
    mixed = int(sizes[differ > 0].sum())
    weights = np.repeat(1.0 / sizes, sizes.astype(int))
    _, level = np.unique(ranked, return_inverse=True)
    shares = np.bincount(level.reshape(-1), weights=weights) / weights.sum()
    return Agreement(mixed, float(differ.mean()), float(1.0 - np.square(shares).sum()), len(starts))


def _labels(source: Source, rows: Fingerprints, where: np.ndarray) -> np.ndarray:
    """One number for each of some targets, alike where the targets are: a rounded value, or the rank of its hash."""
    parts = [source.gather(where[start : start + READ_AT_ONCE])[1] for start in range(0, len(where), READ_AT_ONCE)]
    leaves = [
        np.concatenate([np.asarray(leaf) for leaf in column])
        for column in zip(*map(jax.tree.leaves, parts), strict=True)
    ]
    if len(leaves) == 1 and np.issubdtype(leaves[0].dtype, np.floating) and leaves[0].size == len(where):
        values = leaves[0].reshape(-1).astype(np.float64)
        return np.round(values / max(float(values.std()) * ALIKE, 1e-30))
    _, level = np.unique(rows.targets[where], return_inverse=True)
    return level.reshape(-1).astype(np.float64)
