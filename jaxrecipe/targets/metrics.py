"""The metrics that people read, one function for each way to be right: `metric(outputs, targets) -> [batch]`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Metric = Callable[[Any, Any], Float[Array, "batch"]]
"""`metric(outputs, targets) -> [batch]`: one number an example."""


def correct_class(
    logits: Float[Array, "batch *rest classes"], labels: Int[Array, "batch *rest"]
) -> Float[Array, "batch"]:
    """Share of positions of each example whose largest logit is the label's, float32 in [0, 1]; `[batch]`."""
    hits = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return hits.reshape(hits.shape[0], -1).mean(axis=1)


def correct_sign(logits: Float[Array, "batch *rest"], labels: Array) -> Float[Array, "batch"]:
    """Share of an example's labels whose logit has the right sign (positive for 1), float32 in [0, 1]; `[batch]`."""
    hits = ((logits > 0) == (labels.reshape(logits.shape).astype(jnp.float32) > 0.5)).astype(jnp.float32)
    return hits.reshape(hits.shape[0], -1).mean(axis=1)


def correct_token(pad: int | None) -> Metric:
    """The metric "share of an example's non-padding positions that are predicted right"."""

    def metric(
        logits: Float[Array, "batch time vocabulary"], tokens: Int[Array, "batch time"]
    ) -> Float[Array, "batch"]:
        counted = jnp.ones(tokens.shape, jnp.float32) if pad is None else (tokens != pad).astype(jnp.float32)
        hits = (jnp.argmax(logits, axis=-1) == tokens).astype(jnp.float32) * counted
        return hits.sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1.0)

    return metric


def absolute_error(outputs: Float[Array, "batch *rest"], values: Array) -> Float[Array, "batch"]:
    """Mean absolute error of each example, float32, in the units of the target; `[batch]`."""
    error = jnp.abs(outputs.astype(jnp.float32) - values.reshape(outputs.shape).astype(jnp.float32))
    return error.reshape(error.shape[0], -1).mean(axis=1)
