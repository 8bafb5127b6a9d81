"""Whether data that are read item by item follow their index: alone, in bulk, and again."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxrecipe.data.sources import Source
from jaxrecipe.diagnosis.finding import Finding, failure, warning

READ_AGAIN = 16
"""Examples that are read again, alone and in bulk: enough for a reader that mixes them up or draws at random."""


def rereading_findings(source: Source) -> Iterator[Finding]:
    """Read some items in bulk, again, and alone; data that are arrays cannot differ."""
    if source.arrays is not None:
        return
    rows = np.unique(np.linspace(0, source.size - 1, min(READ_AGAIN, source.size)).astype(np.int64))[::-1].copy()
    bulk, again = source.gather(rows), source.gather(rows)
    alone = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *[source.gather(rows[i : i + 1]) for i in range(len(rows))]
    )
    if not _equal(bulk[1], again[1]):
        text = f"The targets of {len(rows)} examples that were read twice differ."
        yield failure("data/misaligned-targets", text)
    elif not _equal(bulk[1], alone[1]):
        text = f"{len(rows)} examples that were read in bulk come with other targets than when they are read alone."
        yield failure("data/misaligned-targets", text)
    elif not (_equal(bulk[0], again[0]) and _equal(bulk[0], alone[0])):
        text = f"The inputs of {len(rows)} examples that were read twice differ."
        yield warning("data/random-reader", text)


def _equal(one: Any, other: Any) -> bool:
    """Whether two trees hold the same numbers; NaN equals NaN."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
