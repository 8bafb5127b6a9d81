"""What the healthy set-ups do to their data, and the losses that several of them share."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.data.augment import random_crop

cross_entropy = optax.softmax_cross_entropy_with_integer_labels
PIXEL_MEAN, PIXEL_STD = 0.305, 0.376
"""Of the digits, as fractions of full ink."""


def unit(images: Any, targets: Any) -> tuple[Any, Any]:
    """Pixels from 0…255 to [0, 1]."""
    return images.astype(jnp.float32) / 255.0, targets


def standardized(images: Any, targets: Any) -> tuple[Any, Any]:
    """Pixels from 0…255 to about zero mean and unit variance."""
    return (images.astype(jnp.float32) / 255.0 - PIXEL_MEAN) / PIXEL_STD, targets


def shifted(key: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Each picture moved by up to a pixel in each direction."""
    return random_crop(key, images, padding=1), labels


def halves(images: Any) -> dict[str, Any]:
    """A picture as its upper and its lower half, standardized."""
    scaled = ((images / 255.0 - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)
    return {"top": scaled[:, :4], "bottom": scaled[:, 4:]}


def squared_error(outputs: Any, values: Any) -> Any:
    """Mean squared error of each example."""
    return jnp.square(outputs - values).reshape(outputs.shape[0], -1).mean(axis=1)
