"""How the checks of the data read them: a bounded number of examples, chunk by chunk, on the host, with what each head must learn."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jaxrecipe import trees
from jaxrecipe.data.device import source_bytes
from jaxrecipe.data.sources import Source
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Target
from jaxrecipe.task import Prepare

CHUNK = 1024
"""Examples that are looked at in one go: 3 MB of small images, which stay in the cache."""
MOST_BYTES = 2**30
"""Bytes of inputs that a check reads of one split at most; about three seconds of work."""
MOST_IN_MEMORY = 2**17
"""Examples that a check reads at most of data that are arrays."""
MOST_READ = 2**14
"""Examples that a check reads at most of data that have to be read one by one."""


class Head(NamedTuple):
    """One declared target and the labels of some examples, as the loss gets them."""

    path: str
    target: Target
    labels: np.ndarray


def splits(setup: Setup) -> dict[Split, Source]:
    """The splits that there are."""
    found: dict[Split, Source] = {"train": setup.train}
    if setup.test is not None:
        found["test"] = setup.test
    return found


def rows_of(source: Source, seed: int, *, labels_only: bool = False) -> Int[np.ndarray, "rows"]:
    """The examples to look at, in order: all of them, or a random sample where they are too many.

    Random and not evenly spaced, since labels are often stored in a cycle. `labels_only` reads more, where labels lie alone.
    """
    size = source_bytes(source)
    limit = MOST_READ if source.arrays is None else MOST_IN_MEMORY
    if source.arrays is not None and labels_only:
        size, limit = sum(leaf.nbytes for leaf in jax.tree.leaves(source.arrays[1])), 8 * MOST_IN_MEMORY
    limit = min(limit, max(1, MOST_BYTES * source.size // max(1, size)))
    if source.size <= limit:
        return np.arange(source.size)
    return np.sort(np.random.default_rng([seed, 311]).permutation(source.size)[:limit])


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


def target_chunks(
    setup: Setup, split: Split, rows: Int[np.ndarray, "rows"] | None = None, size: int = 4 * CHUNK
) -> Iterator[tuple[np.ndarray, list[Head]]]:
    """Some rows at a time and the labels of every declared head after `task.prepare`."""
    source = splits(setup)[split]
    rows = rows_of(source, setup.seed, labels_only=True) if rows is None else rows
    size = min(size, setup.train.size)  # one shape for both splits
    prepared = _prepared_targets(setup.task.prepare)
    for part, (inputs, targets) in chunks(source, rows, size):
        filled = np.resize(np.arange(len(part)), size)  # the last chunk too has the shape that is compiled
        if len(part) < size and setup.task.prepare is not None:
            inputs, targets = jax.tree.map(lambda leaf, filled=filled: leaf[filled], (inputs, targets))
        labels = jax.tree.map(lambda leaf, part=part: np.asarray(leaf)[: len(part)], prepared(inputs, targets))
        yield part, heads(setup.task.target, labels)


def all_heads(setup: Setup, split: Split, rows: Int[np.ndarray, "rows"] | None = None) -> list[Head]:
    """The labels of every declared head for many rows at once; for labels that are not as large as images."""
    parts = [found for _, found in target_chunks(setup, split, rows)]
    return [
        Head(first.path, first.target, np.concatenate([p[i].labels for p in parts])) for i, first in enumerate(parts[0])
    ]


def heads(target: Any, labels: Any, path: str = "") -> list[Head]:
    """Every declared target beside its labels; those whose labels are not one array are left out."""
    if isinstance(target, Mapping):
        inner = [
            heads(one, labels[name], f"{path}/{name}".lstrip("/"))
            for name, one in target.items()
            if isinstance(labels, Mapping) and name in labels
        ]
        return [head for found in inner for head in found]
    if not trees.is_array(labels):
        return []
    narrow = trees.is_floating(labels) and labels.dtype.itemsize < 4  # bfloat16, which numpy does not know
    return [Head(path, target, np.asarray(labels).astype(np.float32) if narrow else np.asarray(labels))]


@lru_cache(maxsize=4)
def _prepared_targets(prepare: Prepare | None) -> Callable[[Any, Any], Any]:
    """`(inputs, targets)` as stored to the targets that the loss gets; the compiler drops what only the inputs need.

    Kept, so that several checks compile it once.
    """
    if prepare is None:
        return lambda _, targets: targets
    return jax.jit(lambda inputs, targets: prepare(inputs, targets)[1])


def copes(setup: Setup, split: Split, rows: Int[np.ndarray, "rows"]) -> bool:
    """Whether loss and gradients of the untrained model are finite on a batch of these examples: it masks what is missing."""
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
