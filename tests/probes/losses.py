"""Losses that several tests of probes use."""

from typing import Any

import jax.numpy as jnp
import optax

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def of_probabilities(probabilities: Any, labels: Any) -> Any:
    """The cross entropy of classes given as probabilities."""
    return -jnp.log(jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0])


def yes_or_no_of_probabilities(probabilities: Any, labels: Any) -> Any:
    """The cross entropy of yes or no given as probabilities."""
    p = jnp.clip(probabilities, 1e-7, 1.0 - 1e-7)
    losses = -(labels * jnp.log(p) + (1.0 - labels) * jnp.log(1.0 - p))
    return losses.reshape(losses.shape[0], -1).mean(axis=1)
