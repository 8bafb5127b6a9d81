"""Batch order as a pure function, padding that counts nothing twice, and the prefetch thread."""

import threading

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.data.batches import (
    batch_indices,
    epoch_batches,
    epoch_order,
    index_batches,
    steps_per_epoch,
    stream,
)
from jaxrecipe.data.sources import Source, as_source

sizes = st.integers(1, 40)


def source_of(size):
    return as_source((np.arange(size, dtype=np.float32)[:, None], np.arange(size, dtype=np.int32)))


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "jaxrecipe-prefetch"]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**70), st.integers(0, 2**33), sizes)
def test_epoch_order_is_a_permutation_and_pure(seed, epoch, size):
    order = epoch_order(seed, epoch, size)
    assert sorted(order.tolist()) == list(range(size))
    np.testing.assert_array_equal(order, epoch_order(seed, epoch, size))


def test_epoch_order_sorts_the_promised_stream():
    """What must never change: the order of Philox's raw numbers, seeded with the epoch as the spawn key."""
    raw = [int(np.random.Philox(np.random.SeedSequence(3, spawn_key=(2,))).random_raw(9)[i]) for i in range(9)]
    expected = sorted(range(9), key=lambda i: raw[i])
    assert epoch_order(3, 2, 9).tolist() == expected


def test_seeds_and_epochs_differ():
    orders = {tuple(epoch_order(seed, epoch, 30)) for seed in (0, 1, 2**32, 2**32 + 1) for epoch in (0, 1, 2**32)}
    assert len(orders) == 12


def test_every_position_is_visited_evenly():
    """Each example comes first about equally often: chi-squared of 2,000 epochs over 10 examples (9 degrees of
    freedom)."""
    first = np.bincount([epoch_order(7, epoch, 10)[0] for epoch in range(2000)], minlength=10)
    assert ((first - 200) ** 2 / 200).sum() < 33.7  # 99.99 % quantile


def test_no_shuffle_is_the_own_order():
    assert epoch_order(1, 5, 4, shuffle=False).tolist() == [0, 1, 2, 3]
    assert batch_indices(1, 3, 4, 2, shuffle=False)[0].tolist() == [2, 3]


@settings(deadline=None, max_examples=25)
@given(sizes, st.integers(1, 50), st.integers(0, 3))
def test_every_example_counts_exactly_once(size, batch_size, epoch):
    steps = steps_per_epoch(size, batch_size)
    counts = np.zeros(size, int)
    for step in range(epoch * steps, (epoch + 1) * steps):
        indices, mask = batch_indices(11, step, size, batch_size)
        assert indices.shape == mask.shape == (batch_size,)
        for index, counted in zip(indices, mask, strict=True):
            assert 0 <= index < size
            counts[index] += counted
    assert (counts == 1).all()


@settings(deadline=None, max_examples=25)
@given(sizes, st.integers(1, 50), st.integers(0, 30))
def test_any_step_alone_equals_the_sequence(size, batch_size, start):
    sequence = index_batches(5, size, batch_size, start=start)
    for step in range(start, start + 4):
        indices, mask = next(sequence)
        alone, alone_mask = batch_indices(5, step, size, batch_size)
        np.testing.assert_array_equal(indices, alone)
        np.testing.assert_array_equal(mask, alone_mask)


def test_epoch_batches_are_the_order_cut_up():
    indices, mask = epoch_batches(3, 4, 7, 3)
    order = epoch_order(3, 4, 7).tolist()
    assert indices.ravel().tolist() == [*order, *order[:2]]
    assert mask.ravel().tolist() == [True] * 7 + [False] * 2


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_stream_gives_the_batches_of_its_steps(prefetch):
    source = source_of(10)
    batches = list(stream(source, seed=3, batch_size=4, start=2, steps=5, prefetch=prefetch))
    assert len(batches) == 5
    for step, batch in enumerate(batches, 2):
        indices, mask = batch_indices(3, step, 10, 4)
        assert isinstance(batch.inputs, jax.Array)
        np.testing.assert_array_equal(batch.inputs[:, 0], indices)
        np.testing.assert_array_equal(batch.targets, indices)
        np.testing.assert_array_equal(batch.mask, mask)
    assert not prefetch_threads()


def test_stream_without_end_stops_its_thread_when_closed():
    batches = stream(source_of(10), seed=0, batch_size=4)
    next(batches)
    assert len(prefetch_threads()) == 1
    batches.close()
    assert not prefetch_threads()


def test_dropping_the_iterator_stops_its_thread():
    batches = stream(source_of(10), seed=0, batch_size=4)
    next(batches)
    del batches
    assert not prefetch_threads()


def test_nothing_runs_before_the_first_batch_is_asked_for():
    def gather(indices):
        raise AssertionError("read too early")

    batches = stream(Source(4, gather), seed=0, batch_size=2)
    assert not prefetch_threads()
    batches.close()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_reading_raises_arrives_at_its_step(prefetch):
    def gather(indices):
        if 7 in indices:
            raise OSError("disk on fire")
        return indices, indices

    batches = stream(Source(12, gather), seed=0, batch_size=2, shuffle=False, prefetch=prefetch)
    for _ in range(3):
        next(batches)
    with pytest.raises(OSError, match="disk on fire") as caught:
        next(batches)
    assert "step 3" in caught.value.__notes__[0]
    assert not prefetch_threads()
    with pytest.raises(StopIteration):
        next(batches)


def test_reads_ahead_by_no_more_than_asked():
    read = threading.Semaphore(0)
    seen = []

    def gather(indices):
        seen.append(indices)
        read.release()
        return indices, indices

    batches = stream(Source(100, gather), seed=0, batch_size=1, prefetch=2)
    next(batches)
    for _ in range(3):
        assert read.acquire(timeout=30)
    assert not read.acquire(timeout=0.05)
    assert len(seen) == 3
    batches.close()


def test_stream_keeps_the_callers_default_device_and_small_dtypes():
    source = as_source((np.zeros((4, 2), np.uint8), np.zeros(4, np.int32)))
    with jax.default_device(jax.devices()[0]):
        batch = next(stream(source, seed=0, batch_size=2))
    assert batch.inputs.dtype == np.uint8
    assert batch.inputs.devices() == {jax.devices()[0]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stream(source_of(3), seed=-1, batch_size=1), "seed is -1"),
        (lambda: stream(source_of(3), seed=0, batch_size=0), "batch_size is 0"),
        (lambda: stream(source_of(3), seed=0, batch_size=1, start=-1), "start is -1"),
        (lambda: stream(source_of(3), seed=0, batch_size=1, steps=-1), "steps is -1"),
        (lambda: stream(source_of(3), seed=0, batch_size=1, prefetch=-1), "prefetch is -1"),
        (lambda: steps_per_epoch(0, 1), "size is 0"),
        (lambda: epoch_order(0, -1, 3), "epoch is -1"),
        (lambda: batch_indices(0, -1, 3, 1), "step is -1"),
    ],
)
def test_wrong_numbers_are_told_at_once(call, message):
    with pytest.raises(ValueError, match=message):
        call()
