"""How the checks read the data: a bounded number of examples, chunk by chunk, on the host."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxrecipe import trees
from jaxrecipe.data.device import source_bytes
from jaxrecipe.data.sources import Source
from jaxrecipe.setup import Setup, Split

CHUNK = 1024
"""Examples that are looked at in one go: 3 MB of small images, which stay in the cache."""
MOST_BYTES = 2**30
"""Bytes of inputs that a check reads of one split at most; about three seconds of work."""
MOST_IN_MEMORY = 2**17
"""Examples that a check reads at most of data that are arrays."""
MOST_READ = 2**14
"""Examples that a check reads at most of data that have to be read one by one."""


def splits(setup: Setup) -> dict[Split, Source]:
    """The splits that there are, by name."""
    found: dict[Split, Source] = {"train": setup.train}
    if setup.test is not None:
        found["test"] = setup.test
    return found


def random_rows(setup: Setup, split: Split, most: int) -> Int[np.ndarray, "rows"]:
    """At most so many examples of a split, in rising order, drawn without replacement by the seed; all where there are
    no more.

    Random and not evenly spaced, since labels are often stored in a cycle.
    """
    size = splits(setup)[split].size
    if size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng([setup.seed, 78]).permutation(size)[:most])


def readable_rows(setup: Setup, split: Split, *, targets_only: bool = False) -> Int[np.ndarray, "rows"]:
    """The examples that a check reads, in order: all of them, or a random sample where they are too many.

    `targets_only` reads more, where targets lie in arrays of their own.
    """
    source = splits(setup)[split]
    size, limit = source_bytes(source), MOST_READ if source.arrays is None else MOST_IN_MEMORY
    if source.arrays is not None and targets_only:
        size, limit = sum(leaf.nbytes for leaf in jax.tree.leaves(source.arrays[1])), 8 * MOST_IN_MEMORY
    return random_rows(setup, split, min(limit, max(1, MOST_BYTES * source.size // max(1, size))))


def chunks(
    source: Source, rows: Int[np.ndarray, "rows"], size: int = CHUNK
) -> Iterator[tuple[np.ndarray, tuple[Any, Any]]]:
    """Some rows at a time and their examples, as numpy arrays that must not be written to."""
    arrays = None if source.arrays is None else jax.tree.map(np.asarray, source.arrays)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        if arrays is None:
            yield part, jax.tree.map(np.asarray, source.gather(part))
        elif part[-1] - part[0] == len(part) - 1:  # neighbours: a view and no copy
            yield part, jax.tree.map(lambda leaf, part=part: leaf[part[0] : part[-1] + 1], arrays)
        else:
            yield part, jax.tree.map(lambda leaf, part=part: leaf[part], arrays)


def copes(setup: Setup, split: Split, rows: Int[np.ndarray, "rows"]) -> bool:
    """Whether loss and gradients of the untrained model are finite on a batch of these examples: it masks what is
    missing.
    """
    params, model_state = setup.variables
    inputs, targets = setup.prepared(split, np.resize(rows, setup.batch_size))
    loss, gradients = setup.gradients(params, model_state, inputs, targets, key=setup.key)
    return bool(trees.all_finite((loss, gradients)))


def prepared_inputs(setup: Setup, split: Split, rows: Int[np.ndarray, "rows"]) -> dict[str, np.ndarray]:
    """The inputs of some rows as they enter the model, by path; prepared in batches of the size that training uses."""
    size = setup.batch_size
    parts = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        inputs, _ = setup.prepared(split, np.resize(part, size))
        parts.append(by_path(jax.tree.map(lambda leaf, part=part: np.asarray(leaf)[: len(part)], inputs)))
    return {path: np.concatenate([part[path] for part in parts]) for path in parts[0]}


def by_path(inputs: Any) -> dict[str, np.ndarray]:
    """Each input as numbers that numpy can compare; a single one is called "inputs"."""
    return {path or "inputs": real(np.asarray(leaf)) for path, leaf in trees.named_leaves(inputs).items()}


def real(leaf: np.ndarray) -> np.ndarray:
    """Yes and no as bytes, half precision as float32, complex numbers as pairs; others as they are."""
    if leaf.dtype.kind == "b":
        return leaf.view(np.uint8)
    if np.iscomplexobj(leaf):
        return np.stack([np.real(leaf), np.imag(leaf)], axis=-1)
    return leaf if leaf.dtype.kind in "iu" or leaf.dtype.itemsize >= 4 else leaf.astype(np.float32)


def finite(numbers: np.ndarray) -> np.ndarray:
    """The same numbers with 0 for what is not finite; no copy where all are."""
    return numbers if np.isfinite(numbers.sum()) else np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)
