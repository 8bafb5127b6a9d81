"""Test examples beside their copies in the training data."""

import numpy as np

from jaxrecipe.probes.fingerprints import Fingerprints
from jaxrecipe.probes.neighbors import Near
from jaxrecipe.probes.pairs import shown_pairs
from jaxrecipe.report.evidence import Evidence
from jaxrecipe.setup import Setup

SHOWN = 8
"""Pairs that are shown of each kind."""


def leaked_pairs(
    setup: Setup, train: Fingerprints, test: Fingerprints, inside: np.ndarray, near: Near | None, searched: np.ndarray
) -> list[Evidence]:
    """Test examples beside their copies in the training data, exact ones and the nearest others."""
    first = np.flatnonzero(inside)[:SHOWN]
    order = np.argsort(train.inputs, kind="stable")
    exact = [(int(i), int(order[np.searchsorted(train.inputs, test.inputs[i], sorter=order)])) for i in first]
    found = shown_pairs(
        setup, "Test examples that are in the training data", ("test", "train"), exact, names=("test", "train")
    )
    if near is None:
        return found
    unique = np.sort(np.unique(train.inputs, return_index=True)[1])
    best = [i for i in np.argsort(near.ratio, kind="stable")[:SHOWN] if near.ratio[i] < 1]
    pairs = [(int(searched[i]), int(unique[near.index[i]])) for i in best]
    ratios = {"relative distance": [float(near.ratio[i]) for i in best]}
    return [
        *found,
        *shown_pairs(
            setup,
            "Test examples nearest to a training example",
            ("test", "train"),
            pairs,
            ratios,
            names=("test", "train"),
        ),
    ]
