"""Pairs of copies to look at: equal examples and the nearest different ones."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from jaxrecipe.probes.fingerprints import Fingerprints, Groups
from jaxrecipe.probes.neighbors import Near
from jaxrecipe.probes.pairs import shown_pairs
from jaxrecipe.report.evidence import Evidence
from jaxrecipe.setup import Setup, Split

SHOWN = 8
"""Pairs that are shown of each kind."""


def exact_pairs(setup: Setup, split: Split, rows: Fingerprints, groups: Groups) -> Sequence[Evidence]:
    """Pairs of equal examples, those with different targets first."""
    where = np.flatnonzero(groups.repeated)
    order = where[np.argsort(groups.group[where], kind="stable")]
    pairs = [(int(a), int(b)) for a, b in pairwise(order) if groups.group[a] == groups.group[b]]
    pairs.sort(key=lambda pair: bool(rows.targets[pair[0]] == rows.targets[pair[1]]))
    return shown_pairs(setup, f"Equal {split} examples", (split, split), pairs[:SHOWN])


def nearest_pairs(
    setup: Setup, split: Split, near: Near | None, own: np.ndarray, unique: np.ndarray
) -> Sequence[Evidence]:
    """The nearest pairs, whether they are found to be copies or not."""
    if near is None:
        return []
    nearest = np.argsort(near.ratio, kind="stable")[: 2 * SHOWN]
    ranked = [
        (int(unique[own[i]]), int(unique[near.index[i]]), float(near.ratio[i])) for i in nearest if near.ratio[i] < 1
    ]
    pairs = {(min(a, b), max(a, b)): ratio for a, b, ratio in ranked}
    title = f"Nearest different {split} examples"
    return shown_pairs(setup, title, (split, split), list(pairs)[:SHOWN], {"relative distance": list(pairs.values())})
