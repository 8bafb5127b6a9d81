"""Augmentation of image batches on the device: pure, jitted, with one independent draw an example.

All take images `[batch, height, width, channels]` and keep their shape; crop and flip keep the dtype too (uint8 or
float).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

Images = Shaped[Array, "..."]
"""`[batch, height, width, channels]`: checked here rather than in the type, to say what is wrong."""
PerChannel = int | float | Sequence[int | float]
"""One number for all channels, or one a channel."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
"""Mean of each channel (red, green, blue) over all pixels of CIFAR-10's 50,000 training images, scaled to [0, 1].

Source: the `pytorch-cifar` examples; recomputed by others in https://github.com/kuangliu/pytorch-cifar/issues/8.
"""
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Standard deviation of the same pixels, from the same discussion.

The `pytorch-cifar` examples themselves divide by (0.2023, 0.1994, 0.2010), which is too small: the mean over images of
each image's own deviation.
"""


def crop_offsets(key: PRNGKeyArray, batch: int, padding: int) -> Int[Array, "batch 2"]:
    """Where each crop starts in the padded image, (top, left), each uniform in `[0, 2 * padding]`."""
    return jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)


def flip_mask(key: PRNGKeyArray, batch: int) -> Bool[Array, "batch"]:
    """Which images are flipped, each with probability one half."""
    return jax.random.bernoulli(key, 0.5, (batch,))


def random_crop(key: PRNGKeyArray, images: Images, *, padding: int = 4, fill: PerChannel = 0.0) -> Images:
    """Shift each image by up to `padding` pixels in each direction: pad all around, then crop at random to the old
    size.

    Args:
        key: a PRNG key; the draws are `crop_offsets(key, batch, padding)`.
        images: `[batch, height, width, channels]`, any real dtype.
        padding: pixels added on each side, 0 or more.
        fill: value of the padding, in the units of the images; one for all channels or one a channel.

    Raises:
        ValueError: `padding` is negative, or `fill` has the wrong length or does not fit the dtype of the images.
    """
    _check_images(images)
    if padding < 0:
        raise ValueError(f"padding is {padding}; wanted 0 or more")
    values = _checked_fill(fill, images)
    return _random_crop(key, images, values, padding)


def random_flip(key: PRNGKeyArray, images: Images) -> Images:
    """Mirror each image left to right with probability one half; the draws are `flip_mask(key, batch)`.

    Args:
        key: a PRNG key. Use another one than for the crop (`jax.random.split`).
        images: `[batch, height, width, channels]`, any dtype.
    """
    _check_images(images)
    return _random_flip(key, images)


def normalise(images: Images, mean: PerChannel, std: PerChannel) -> Float[Array, "batch height width channels"]:
    """`(images - mean) / std` in float32 (float64 stays float64); uint8 images are first scaled from [0, 255] to [0,
    1].

    Args:
        images: `[batch, height, width, channels]`; uint8 in [0, 255], or floats in the units of `mean` and `std`.
        mean: one number, or one a channel, for example `CIFAR10_MEAN`.
        std: likewise, above 0, for example `CIFAR10_STD`.

    Raises:
        TypeError: the images are integers other than uint8, whose range nobody knows.
        ValueError: a wrong number of values, or a standard deviation that is not above 0.
    """
    _check_images(images)
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images are {images.dtype}; wanted uint8 in [0, 255], or floats")
    channels = images.shape[-1]
    centre, scale = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
    if not (scale > 0).all():
        raise ValueError(f"std is {std}; wanted numbers above 0")
    return _normalise(images, centre, scale)


@partial(jax.jit, static_argnames="padding")
def _random_crop(key: PRNGKeyArray, images: Images, fill: Array | np.ndarray, padding: int) -> Images:
    batch, height, width, channels = images.shape
    framed = (batch, height + 2 * padding, width + 2 * padding, channels)
    padded = jnp.broadcast_to(jnp.asarray(fill, images.dtype), framed)
    padded = jax.lax.dynamic_update_slice(padded, images, (0, padding, padding, 0))

    def crop(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, crop_offsets(key, batch, padding))


@jax.jit
def _random_flip(key: PRNGKeyArray, images: Images) -> Images:
    return jnp.where(flip_mask(key, images.shape[0])[:, None, None, None], images[:, :, ::-1], images)


@jax.jit
def _normalise(images: Images, mean: Array | np.ndarray, std: Array | np.ndarray) -> Images:
    dtype = images.dtype if images.dtype == jnp.float64 else jnp.float32
    scaled = images.astype(dtype) / 255.0 if images.dtype == jnp.uint8 else images.astype(dtype)
    return (scaled - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)


def _check_images(images: Images) -> None:
    if images.ndim != 4:
        raise ValueError(f"images have shape {images.shape}; wanted [batch, height, width, channels]")


def _per_channel(name: str, values: PerChannel, channels: int) -> Float[np.ndarray, "channels"]:
    given = np.asarray(values, np.float64)
    if given.shape not in ((), (channels,)):
        raise ValueError(
            f"{name} has shape {list(given.shape)}; wanted one number or one for each of {channels} channels"
        )
    return np.broadcast_to(given, (channels,))


def _checked_fill(fill: PerChannel, images: Images) -> np.ndarray:
    """The padding value of each channel in the images' dtype; a value that dtype cannot hold is refused, not
    wrapped.
    """
    values = _per_channel("fill", fill, images.shape[-1])
    if jnp.issubdtype(images.dtype, jnp.integer):
        limits = jnp.iinfo(images.dtype)
        if ((values < limits.min) | (values > limits.max) | (values % 1 != 0)).any():
            raise ValueError(
                f"fill is {fill}; {images.dtype} images need whole numbers from {limits.min} to {limits.max}"
            )
    return values.astype(images.dtype)
