"""Data that fits stays on the device, in the dtype it has (uint8 images: a quarter of float32); larger data streams."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxrecipe.data.batches import Batch, index_batches, stream
from jaxrecipe.data.sources import Pair, Source, in_memory

PyTree = Any

SHARE_OF_FREE_MEMORY = 0.25
BUDGET_WHERE_UNKNOWN = 2**30
"""Bytes, where the device does not say how much memory it has free (XLA on CPU does not)."""


def source_bytes(source: Source) -> int:
    """Bytes of the whole data, as they are stored; for data that are read by index, judged by the first example."""
    if source.arrays is not None:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(source.arrays))
    first = source.gather(np.zeros(1, np.int64))
    return source.size * sum(leaf.nbytes for leaf in jax.tree.leaves(first))


def fits_on_device(source: Source, *, budget: int | None = None) -> bool:
    """Whether the whole data should be kept on the default device.

    Args:
        source: the data.
        budget: most bytes they may take; by default a quarter of the memory that the device reports as free, or 1 GiB
            where it reports none.
    """
    return source_bytes(source) <= (device_budget() if budget is None else budget)


def device_budget() -> int:
    """Bytes that data may take on the default device unless told otherwise; see `fits_on_device`."""
    (device,) = jnp.zeros(()).devices()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return BUDGET_WHERE_UNKNOWN
    return int(SHARE_OF_FREE_MEMORY * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))


def to_device(source: Source) -> Pair:
    """The whole data `(inputs, targets)` on the default device, leading axis `[size, ...]`, dtypes kept.

    JAX narrows 64-bit dtypes unless x64 is on. Always a copy: later changes to the arrays of the source do not show.
    """
    # Copied on the host first. On CPU, device_put(may_alias=False) was measured to alias numpy memory all the same, and
    # jnp.array(copy=True) to copy it only later, both on jax 0.10.2.
    arrays = in_memory(source) if source.arrays is None else jax.tree.map(_copied, source.arrays)
    return jax.device_put(arrays)


def _copied(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.array(leaf)


def gather(arrays: PyTree, indices: Int[Array, "k"] | Int[np.ndarray, "k"]) -> PyTree:
    """The examples at `indices` of every array, `[k, ...]`. Runs on the device and can be part of a jitted step.

    Raises:
        IndexError: an index is out of range. Only seen when `indices` is a numpy array: under jit JAX clamps it
            silently.
    """
    if isinstance(indices, np.ndarray) and indices.size:
        size = min(leaf.shape[0] for leaf in jax.tree.leaves(arrays))
        if indices.min() < 0 or indices.max() >= size:
            raise IndexError(f"indices go from {indices.min()} to {indices.max()}; wanted 0 to {size - 1}")
    return jax.tree.map(lambda leaf: leaf.at[indices].get(mode="clip"), arrays)


def feed(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    steps: int | None = None,
    shuffle: bool = True,
    budget: int | None = None,
) -> Iterator[Batch]:
    """The batches of `stream`, gathered on the device where the data fit there, else streamed with prefetch.

    Args:
        source: the examples; read once, now, if they fit.
        seed: as for `stream`, like the others; which examples a batch holds is the same either way.
        batch_size: examples a batch.
        start: the first global step.
        steps: how many batches; None for no end.
        shuffle: False visits the examples in their own order.
        budget: as for `fits_on_device`; 0 always streams.
    """
    if not fits_on_device(source, budget=budget):
        return stream(source, seed=seed, batch_size=batch_size, start=start, steps=steps, shuffle=shuffle)
    order = index_batches(seed, source.size, batch_size, start=start, shuffle=shuffle)
    return _resident(to_device(source), order, steps)


def _resident(arrays: Pair, order: Iterator[tuple[np.ndarray, np.ndarray]], steps: int | None) -> Iterator[Batch]:
    wanted = order if steps is None else (next(order) for _ in range(steps))
    for indices, mask in wanted:
        # int32 on the host: one small transfer, and no 64-bit indices to narrow.
        inputs, targets = _gather(arrays, indices.astype(np.int32))
        yield Batch(inputs, targets, jax.device_put(mask))


_gather = jax.jit(gather)
