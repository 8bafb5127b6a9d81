"""The batches that a bare step was given, in the order in which they came: no loader can be asked for more of them."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.setup import Setup

FEWEST = 3
"""Batches that are the same before it is said that all are."""


def is_recorded(setup: Setup) -> bool:
    """Whether the stored order is that in which batches came."""
    return setup.loop.facts is not None and setup.loop.batches is None


def repeated_batches(setup: Setup) -> Iterator[Finding]:
    """Every batch the same: only a warning, since whoever trains on all of the data at once does just this."""
    count = setup.train.size // setup.batch_size
    if count < FEWEST:
        return
    first, *others = (
        setup.train.gather(np.arange(start * setup.batch_size, (start + 1) * setup.batch_size))
        for start in range(count)
    )
    if not all(_equal(first, other) for other in others):
        return
    text = f"All {count} batches that were taken are the same, bit for bit ({setup.batch_size} examples)."
    yield warning("data/same-batch", text)


def _equal(one: tuple[object, object], other: tuple[object, object]) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
