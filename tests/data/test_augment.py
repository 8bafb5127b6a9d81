"""Augmentation against a plain numpy loop that uses the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.data.augment import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    crop_offsets,
    flip_mask,
    normalise,
    random_crop,
    random_flip,
)

DTYPES = [np.uint8, np.float32, jnp.bfloat16, np.int32]


def images_of(dtype, batch=5, height=6, width=4, channels=3, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (batch, height, width, channels)).astype(dtype)


def crop_by_loop(images, offsets, padding, fill):
    batch, height, width, channels = images.shape
    cropped = np.empty_like(images)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                row, column = y + offsets[b][0] - padding, x + offsets[b][1] - padding
                inside = 0 <= row < height and 0 <= column < width
                for c in range(channels):
                    cropped[b, y, x, c] = images[b, row, column, c] if inside else np.broadcast_to(fill, (channels,))[c]
    return cropped


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", [0.0, (7, 8, 9)])
def test_crop_equals_the_loop(dtype, fill):
    images, key = images_of(dtype), jax.random.key(3)
    cropped = random_crop(key, jnp.asarray(images), padding=2, fill=fill)
    assert cropped.dtype == images.dtype
    expected = crop_by_loop(images, np.asarray(crop_offsets(key, 5, 2)), 2, fill)
    np.testing.assert_array_equal(np.asarray(cropped), expected)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_crop_of_any_size(padding, height, width, seed):
    images, key = images_of(np.uint8, 3, height, width, 1), jax.random.key(seed)
    expected = crop_by_loop(images, np.asarray(crop_offsets(key, 3, padding)), padding, 4)
    np.testing.assert_array_equal(np.asarray(random_crop(key, jnp.asarray(images), padding=padding, fill=4)), expected)


def test_crop_without_padding_changes_nothing():
    images = images_of(np.uint8)
    np.testing.assert_array_equal(random_crop(jax.random.key(0), jnp.asarray(images), padding=0), images)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flip_equals_the_loop(dtype):
    images, key = images_of(dtype, batch=9), jax.random.key(5)
    flipped = random_flip(key, jnp.asarray(images))
    mask = np.asarray(flip_mask(key, 9))
    assert 0 < mask.sum() < 9
    for b in range(9):
        expected = [row[::-1] for row in images[b]] if mask[b] else images[b]
        np.testing.assert_array_equal(np.asarray(flipped[b]), np.stack(list(expected)))
    assert flipped.dtype == images.dtype


def test_draws_are_uniform_and_one_an_example():
    offsets = np.asarray(crop_offsets(jax.random.key(0), 9000, 1))
    counts = np.histogramdd(offsets, bins=(3, 3), range=[(-0.5, 2.5)] * 2)[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 31.8  # 99.99 % quantile of chi-squared with 8 degrees of freedom
    flips = np.asarray(flip_mask(jax.random.key(1), 9000))
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / np.sqrt(9000)
    assert abs(np.corrcoef(flips[:-1], flips[1:])[0, 1]) < 4 / np.sqrt(9000)


def test_same_key_same_images_and_another_key_others():
    images = jnp.asarray(images_of(np.uint8, batch=20))
    for function in (random_crop, random_flip):
        once, twice, other = (np.asarray(function(jax.random.key(k), images)) for k in (0, 0, 1))
        np.testing.assert_array_equal(once, twice)
        assert (once != other).any()


def test_works_inside_jit_with_one_compile():
    traces = []

    @jax.jit
    def augment(key, images):
        traces.append(1)
        first, second = jax.random.split(key)
        return normalise(random_flip(first, random_crop(second, images)), CIFAR10_MEAN, CIFAR10_STD)

    images = jnp.asarray(images_of(np.uint8))
    for seed in range(3):
        assert augment(jax.random.key(seed), images).dtype == jnp.float32
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16, jnp.bfloat16])
def test_normalise_equals_numpy_in_float64(dtype):
    images = images_of(dtype)
    found = normalise(jnp.asarray(images), CIFAR10_MEAN, CIFAR10_STD)
    scaled = images.astype(np.float64) / (255 if dtype == np.uint8 else 1)
    expected = (scaled - np.array(CIFAR10_MEAN)) / np.array(CIFAR10_STD)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_one_number_normalises_all_channels():
    images = jnp.asarray(images_of(np.float32))
    np.testing.assert_array_equal(normalise(images, 3.0, 2.0), normalise(images, (3.0,) * 3, (2.0,) * 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, k: random_crop(k, x[0]), ValueError, r"shape \(6, 4, 3\); wanted \[batch"),
        (lambda x, k: random_flip(k, x[0]), ValueError, "wanted"),
        (lambda x, k: random_crop(k, x, padding=-1), ValueError, "padding is -1"),
        (lambda x, k: random_crop(k, x, fill=(1, 2)), ValueError, r"fill has shape \[2\].*3 channels"),
        (
            lambda x, k: random_crop(k, x, fill=256),
            ValueError,
            "fill is 256; uint8 images need whole numbers from 0 to 255",
        ),
        (lambda x, k: random_crop(k, x, fill=0.5), ValueError, "fill is 0.5"),
        (lambda x, k: normalise(x, (1, 2), 1), ValueError, r"mean has shape \[2\]"),
        (lambda x, k: normalise(x, 0, (1, 0, 1)), ValueError, "above 0"),
        (lambda x, k: normalise(x.astype(jnp.int32), 0, 1), TypeError, "images are int32"),
    ],
)
def test_each_mistake_is_told(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.asarray(images_of(np.uint8)), jax.random.key(0))
