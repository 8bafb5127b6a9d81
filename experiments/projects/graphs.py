"""Graphs that are drawn at random, with labels that follow from them."""

from typing import Any

import jraph
import numpy as np

MOST_NODES, FEATURES, EDGE_FEATURES, LABELS = 12, 9, 3, 4
UNKNOWN_SHARE = 0.2
"""Labels that are not known, as in molecules that were not measured."""


def graph(rng: np.random.Generator) -> Any:
    """A graph of a few nodes; label i tells whether the mean of node feature i is positive, NaN where it is unknown."""
    nodes = int(rng.integers(4, MOST_NODES + 1))
    edges = int(rng.integers(nodes, 2 * nodes + 1))
    features = rng.normal(size=(nodes, FEATURES)).astype(np.float32)
    labels = (features.mean(0)[:LABELS] > 0).astype(np.float32)
    labels[rng.random(LABELS) < UNKNOWN_SHARE] = np.nan
    return jraph.GraphsTuple(
        nodes=features,
        edges=rng.normal(size=(edges, EDGE_FEATURES)).astype(np.float32),
        senders=rng.integers(0, nodes, edges).astype(np.int32),
        receivers=rng.integers(0, nodes, edges).astype(np.int32),
        globals=labels[None],
        n_node=np.array([nodes], np.int32),
        n_edge=np.array([edges], np.int32),
    )
