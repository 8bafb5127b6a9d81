"""Data on the device: the same batches as the stream, no aliasing, bounds that are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.data.batches import stream
from jaxrecipe.data.device import device_budget, feed, fits_on_device, gather, source_bytes, to_device
from jaxrecipe.data.sources import Source, as_source, in_memory


def arrays(n=10):
    return {"image": np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2)}, np.arange(n, dtype=np.int32)


def items(n=10):
    inputs, targets = arrays(n)
    return as_source([({"image": inputs["image"][i]}, targets[i]) for i in range(n)])


@pytest.mark.parametrize("make", [lambda: as_source(arrays()), items])
def test_to_device_holds_everything_in_its_dtype(make):
    inputs, targets = to_device(make())
    assert isinstance(inputs["image"], jax.Array)
    assert inputs["image"].dtype == jnp.uint8
    np.testing.assert_array_equal(inputs["image"], arrays()[0]["image"])
    np.testing.assert_array_equal(targets, arrays()[1])


def test_what_is_on_the_device_is_a_copy():
    for _ in range(20):  # whether numpy memory is aliased depends on its alignment
        x = np.zeros((256, 256), np.float32)
        held, _ = to_device(as_source((x, np.zeros(256))))
        x[:] = 1
        assert not np.asarray(held).any()


@pytest.mark.parametrize("chunk", [1, 3, 10, 99])
def test_in_memory_reads_every_example_once(chunk):
    seen = []

    def read(indices):
        seen.extend(indices.tolist())
        return {"x": indices * 2}, None

    inputs, targets = in_memory(Source(10, read), chunk=chunk)
    assert seen == list(range(10))
    np.testing.assert_array_equal(inputs["x"], np.arange(10) * 2)
    assert targets is None


def test_in_memory_gives_the_arrays_there_are():
    source = as_source(arrays())
    assert in_memory(source) is source.arrays


def test_bytes_and_budget():
    expected = 10 * 4 + 10 * 4
    for source in (as_source(arrays()), items()):
        assert source_bytes(source) == expected
        assert fits_on_device(source, budget=expected)
        assert not fits_on_device(source, budget=expected - 1)
        assert fits_on_device(source)
    assert device_budget() > 0


def test_gather_equals_numpy_in_and_out_of_jit():
    held = to_device(as_source(arrays()))
    indices = np.array([9, 0, 9])
    for found in (gather(held, indices), jax.jit(gather)(held, indices), gather(held, jnp.asarray(indices))):
        np.testing.assert_array_equal(found[0]["image"], arrays()[0]["image"][indices])
        np.testing.assert_array_equal(found[1], indices)


@pytest.mark.parametrize("wrong", [-1, 10])
def test_gather_refuses_indices_out_of_range(wrong):
    with pytest.raises(IndexError, match="wanted 0 to 9"):
        gather(to_device(as_source(arrays())), np.array([0, wrong]))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("steps", [0, 7])
def test_resident_batches_are_those_of_the_stream(shuffle, steps):
    options = {"seed": 3, "batch_size": 4, "start": 2, "steps": steps, "shuffle": shuffle}
    streamed = list(stream(as_source(arrays()), **options))
    assert len(streamed) == steps
    for budget in (None, 0):
        found = list(feed(as_source(arrays()), budget=budget, **options))
        assert len(found) == steps
        for one, other in zip(found, streamed, strict=True):
            assert isinstance(one.mask, jax.Array)
            assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one) == jax.tree.map(
                lambda leaf: (leaf.shape, leaf.dtype), other
            )
            jax.tree.map(np.testing.assert_array_equal, one, other)


def test_only_data_beyond_the_budget_are_read_again():
    reads = []

    def read(indices):
        reads.append(len(indices))
        return indices, indices

    next(feed(Source(10, read), seed=0, batch_size=2))
    assert sum(reads) == 11  # one to judge the size, then each once
    resident = feed(Source(10, read), seed=0, batch_size=2, budget=10**9)
    reads.clear()
    next(resident)
    next(resident)
    assert reads == []
