"""Batches whose order is a pure function of (seed, epoch), so that any step can be reproduced alone."""

import threading
from collections.abc import Generator, Iterator
from itertools import count, islice
from queue import SimpleQueue
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxrecipe.data.sources import Source

PyTree = Any


class Batch(NamedTuple):
    """Examples of one step: pytrees with a leading batch axis, and which of the examples count.

    The last batch of an epoch is filled up to the batch size with further examples of the epoch, whose mask is False:
    so every example counts exactly once an epoch, and every batch has the same shape.
    """

    inputs: PyTree
    targets: PyTree
    mask: Bool[Array, "batch"]


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Batches that hold every one of `size` examples once; the last one may be partial."""
    _at_least("size", size, 1)
    _at_least("batch_size", batch_size, 1)
    return -(-size // batch_size)


def epoch_order(seed: int, epoch: int, size: int, *, shuffle: bool = True) -> Int[np.ndarray, "size"]:
    """The order in which an epoch visits the examples: a permutation of `range(size)`, a pure function of the
    arguments.

    Sorts raw Philox numbers rather than calling `Generator.permutation`: numpy promises that seed sequences and the raw
    streams of bit generators stay the same in later versions, and does not promise it for the methods of `Generator`
    (NEP 19).

    Args:
        seed: 0 or more. Two seeds, and two epochs of one seed, give independent orders.
        epoch: 0 or more.
        size: number of examples, at least 1.
        shuffle: False gives `0, 1, 2, ...`.
    """
    for name, value, least in (("seed", seed, 0), ("epoch", epoch, 0), ("size", size, 1)):
        _at_least(name, value, least)
    if not shuffle:
        return np.arange(size)
    # The epoch goes in as the spawn key: entropy [seed, epoch] would make (seed 2**32 + 1, epoch 0) collide with
    # others.
    bits = np.random.Philox(np.random.SeedSequence(int(seed), spawn_key=(int(epoch),)))
    return np.argsort(bits.random_raw(size), kind="stable")


def epoch_batches(
    seed: int, epoch: int, size: int, batch_size: int, *, shuffle: bool = True
) -> tuple[Int[np.ndarray, "steps batch"], Bool[np.ndarray, "steps batch"]]:
    """Indices and masks of every batch of one epoch, for instance to scan over on the device.

    The padding of the last batch repeats the epoch's first examples (all of them in turn, if they are fewer than a
    batch).
    """
    steps = steps_per_epoch(size, batch_size)
    order = epoch_order(seed, epoch, size, shuffle=shuffle)
    indices = np.resize(order, steps * batch_size).reshape(steps, batch_size)
    return indices, (np.arange(steps * batch_size) < size).reshape(steps, batch_size)


def batch_indices(
    seed: int, step: int, size: int, batch_size: int, *, shuffle: bool = True
) -> tuple[Int[np.ndarray, "batch"], Bool[np.ndarray, "batch"]]:
    """Which examples the batch of a global step holds, and which of them count.

    Orders the whole epoch, so for many steps in a row use `index_batches`, which gives the same.

    Args:
        seed: 0 or more.
        step: counted from 0 over all epochs.
        size: number of examples.
        batch_size: length of the result.
        shuffle: False visits the examples in their own order.
    """
    _at_least("step", step, 0)
    epoch, within = divmod(step, steps_per_epoch(size, batch_size))
    indices, mask = epoch_batches(seed, epoch, size, batch_size, shuffle=shuffle)
    return indices[within], mask[within]


def index_batches(
    seed: int, size: int, batch_size: int, *, start: int = 0, shuffle: bool = True
) -> Iterator[tuple[Int[np.ndarray, "batch"], Bool[np.ndarray, "batch"]]]:
    """`batch_indices` of step `start`, `start + 1`, ... without end, ordering each epoch only once."""
    _at_least("start", start, 0)
    first_epoch, within = divmod(start, steps_per_epoch(size, batch_size))
    return _index_batches(seed, size, batch_size, first_epoch, within, shuffle)


def _index_batches(
    seed: int, size: int, batch_size: int, first_epoch: int, within: int, shuffle: bool
) -> Iterator[tuple[Int[np.ndarray, "batch"], Bool[np.ndarray, "batch"]]]:
    for epoch in count(first_epoch):
        indices, mask = epoch_batches(seed, epoch, size, batch_size, shuffle=shuffle)
        yield from zip(indices[within:], mask[within:], strict=True)
        within = 0


def stream(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    steps: int | None = None,
    shuffle: bool = True,
    prefetch: int = 2,
) -> Generator[Batch, None, None]:
    """Batches on the device, the next ones read in a background thread while the caller computes.

    The transfer to the device starts on the caller's thread, so that the caller's default device holds; it does not
    block. Closing the iterator (or dropping it) ends the thread. What reading raises is raised here, at the step it
    belongs to.

    Args:
        source: the examples; dtypes are kept, except that JAX narrows 64-bit ones unless x64 is on.
        seed: with the step, decides which examples a batch holds (see `batch_indices`).
        batch_size: examples a batch, the padding of the last one of an epoch included.
        start: the first global step.
        steps: how many batches; None for no end.
        shuffle: False visits the examples in their own order.
        prefetch: how many batches to read ahead; 0 reads on the caller's thread.

    Raises:
        ValueError: an argument is negative, or zero where that means nothing.
    """
    for name, value in (("seed", seed), ("prefetch", prefetch), ("steps", steps or 0)):
        _at_least(name, value, 0)
    batches = islice(index_batches(seed, source.size, batch_size, start=start, shuffle=shuffle), steps)
    read = _reader(source, batches, start)
    return _transferred(_in_background(read, prefetch) if prefetch else read)


def _reader(
    source: Source, batches: Iterator[tuple[np.ndarray, np.ndarray]], start: int
) -> Generator[tuple, None, None]:
    """Batches as the source gives them."""
    for step, (indices, mask) in enumerate(batches, start):
        try:
            inputs, targets = source.gather(indices)
        except Exception as error:
            error.add_note(f"while reading the batch of step {step}: examples {indices[:8].tolist()}...")
            raise
        yield inputs, targets, mask


def _transferred(read: Generator[tuple, None, None]) -> Generator[Batch, None, None]:
    try:
        for inputs, targets, mask in read:
            yield Batch(*jax.device_put((inputs, targets, mask)))
    finally:
        read.close()


def _in_background(items: Generator[tuple, None, None], ahead: int) -> Generator[tuple, None, None]:
    """The same items, made in a thread that keeps `ahead` of them ready and ends when this generator is closed."""
    ready: SimpleQueue[Any] = SimpleQueue()
    room = threading.Semaphore(ahead)
    closed = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, ready, room, closed), name="jaxrecipe-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    finally:
        closed.set()
        room.release()
        # The garbage collector may close us from within the thread itself, which cannot wait for its own end.
        if thread is not threading.current_thread():
            thread.join()


def _fill(
    items: Generator[tuple, None, None], ready: SimpleQueue, room: threading.Semaphore, closed: threading.Event
) -> None:
    """Put every item on the queue, then None; or the exception that ended them."""
    try:
        while room.acquire() and not closed.is_set():
            item = next(items, None)
            ready.put(item)
            if item is None:
                return
    except BaseException as error:
        ready.put(error)
    finally:
        items.close()


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; wanted {least} or more")
