"""A prepared sample of a split as numpy arrays on the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxrecipe import trees
from jaxrecipe.inputs import InputKind, are_names
from jaxrecipe.probes.kinds import input_kinds
from jaxrecipe.probes.reading import random_rows
from jaxrecipe.setup import Setup, Split

PIECE = 512
"""Examples that are prepared in one go."""
MOST_BYTES = 2**28
"""A sample takes no more memory than this, so it has fewer examples where they are large."""
FEWEST = 64
"""Examples that a sample has at least, however large they are."""


@dataclass(frozen=True)
class Sample:
    """Examples of a split after `task.prepare`.

    Attributes:
        indices: where they stand in the split, in rising order.
        inputs: each leaf of the inputs by path, `[n, ...]`, floats as float32.
        targets: the tree of targets, `[n, ...]`.
        kinds: what each of the inputs is.
    """

    indices: Int[np.ndarray, "n"]
    inputs: dict[str, np.ndarray]
    targets: Any
    kinds: Mapping[str, InputKind]

    def with_scale(self) -> dict[str, np.ndarray]:
        """The inputs whose numbers are amounts: no tokens and no categories."""
        return {path: leaf for path, leaf in self.inputs.items() if not are_names(self.kinds[path], leaf.dtype)}


def sample(setup: Setup, split: Split, most: int) -> Sample:
    """At most `most` examples of a split, drawn without replacement by the seed, prepared piece by piece at one shape.

    Raises:
        ValueError: the split is "test" and the task has no test data.
    """
    return setup.memo((sample, split, most), lambda: _drawn(setup, split, most))


def _drawn(setup: Setup, split: Split, most: int) -> Sample:
    each = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(setup.prepared(split, np.zeros(1, np.int64))))
    chosen = random_rows(setup, split, min(most, max(FEWEST, MOST_BYTES // max(each, 1))))
    count = len(chosen)
    pieces = []
    for start in range(0, count, PIECE):
        part = chosen[start : start + PIECE]
        whole = jax.tree.map(_host, setup.prepared(split, np.resize(part, min(PIECE, count))))
        pieces.append(trees.take(whole, np.arange(len(part))))
    inputs, targets = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
    by_path = {path or "inputs": leaf for path, leaf in trees.named_leaves(inputs).items()}
    return Sample(chosen, by_path, targets, input_kinds(setup).prepared)


def _host(leaf: Any) -> np.ndarray:
    """On the host, floats of any width as float32, complex numbers as pairs."""
    array = np.asarray(leaf)
    if array.dtype.kind in "iub":
        return array
    if np.iscomplexobj(array):
        return np.stack([np.real(array), np.imag(array)], axis=-1).astype(np.float32)
    return array.astype(np.float32)
