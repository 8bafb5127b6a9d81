"""What the loss gets as targets, head by head: every declared target beside its labels."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxrecipe import trees
from jaxrecipe.probes.reading import CHUNK, chunks, readable_rows, splits
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Head, TargetTree, heads


def heads_with_arrays(target: TargetTree, targets: Any) -> list[Head]:
    """Every declared head whose targets are one array, which is on the host and of a dtype that numpy knows."""
    return [
        head._replace(targets=_host(head.targets))
        for head in heads(target, None, targets)
        if trees.is_array(head.targets)
    ]


def _host(leaf: Any) -> np.ndarray:
    """A numpy array, bfloat16 as float32."""
    array = np.asarray(leaf)
    return array.astype(np.float32) if trees.is_floating(leaf) and array.dtype.itemsize < 4 else array


def head_chunks(
    setup: Setup, split: Split, rows: Int[np.ndarray, "rows"] | None = None, size: int = 4 * CHUNK
) -> Iterator[tuple[np.ndarray, list[Head]]]:
    """Some rows at a time and the targets of every declared head after `task.prepare`."""
    source = splits(setup)[split]
    rows = readable_rows(setup, split, targets_only=True) if rows is None else rows
    size = min(size, setup.train.size)  # one shape for both splits
    prepared = _prepared_targets(setup)
    for part, (inputs, targets) in chunks(source, rows, size):
        filled = np.resize(np.arange(len(part)), size)  # the last chunk too has the shape that is compiled
        if len(part) < size and setup.task.prepare is not None:
            inputs, targets = jax.tree.map(lambda leaf, filled=filled: leaf[filled], (inputs, targets))
        labels = jax.tree.map(lambda leaf, part=part: np.asarray(leaf)[: len(part)], prepared(inputs, targets))
        yield part, heads_with_arrays(setup.task.target, labels)


def all_heads(setup: Setup, split: Split, rows: Int[np.ndarray, "rows"] | None = None) -> list[Head]:
    """The targets of every declared head for many rows at once; for targets that are not as large as images."""
    parts = [found for _, found in head_chunks(setup, split, rows)]
    return [
        first._replace(targets=np.concatenate([part[i].targets for part in parts])) for i, first in enumerate(parts[0])
    ]


def _prepared_targets(setup: Setup) -> Callable[[Any, Any], Any]:
    """`(inputs, targets)` as stored to the targets that the loss gets; the compiler drops what only the inputs need."""
    prepare = setup.task.prepare
    if prepare is None:
        return lambda _, targets: targets
    return setup.memo((_prepared_targets,), lambda: jax.jit(lambda inputs, targets: prepare(inputs, targets)[1]))
