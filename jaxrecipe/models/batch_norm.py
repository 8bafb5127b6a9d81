"""Batch normalisation, an optional residual sum and ReLU as one pass, with a backward pass written by hand.

A library's BatchNorm followed by ReLU keeps the normalised array and a mask for the backward pass. Here only the
layer's own input is kept: the backward pass recomputes the normalised value and the mask from it, in the same sweep
that uses them. Works in any layout: the channel axis is an argument.
"""

import math
import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxrecipe.models.stored import stored

Pair = tuple[Array, Array]
RUNS = 8
"""Into how many runs the positions of a channel are cut where two sums are taken in one reading (2 to 32 were tried on
a CPU)."""


class Moments(NamedTuple):
    """Mean and biased variance of each channel, float32 (float64 for float64 inputs); `[channels]`."""

    mean: Float[Array, "channels"]
    variance: Float[Array, "channels"]


def wide(dtype: Any) -> Any:
    """The dtype in which statistics are taken: at least float32."""
    return np.promote_types(dtype, np.float32)


def _along(vector: Float[Array, "channels"], channel_axis: int) -> Float[Array, "a b c d"]:
    """The vector shaped to broadcast along the channel axis of a four-dimensional array."""
    return vector.reshape([-1 if axis == channel_axis else 1 for axis in range(4)])


def channel_sums(
    pair: Callable[..., Pair],
    arrays: tuple[Float[Array, "a b c d"], ...],
    channel_axis: int,
) -> tuple[Float[Array, "channels"], Float[Array, "channels"]]:
    """Sums over all axes but one of two elementwise functions of the same arrays.

    With the channels in front, a channel's positions are cut into runs that are added up elementwise, both sums side by
    side: a channel comes from memory once, nothing between is stored, and whole vectors are left for the last sum.

    Args:
        pair: given `along`, which shapes a vector of channels to broadcast against the arrays, and the arrays, the two
            values to be summed.
        arrays: all of the same shape.
        channel_axis: 0 or 3.
    """
    if channel_axis != 0:
        axes = tuple(axis for axis in range(4) if axis != channel_axis)
        first, second = pair(partial(_along, channel_axis=channel_axis), *arrays)
        return first.sum(axis=axes), second.sum(axis=axes)
    channels = len(arrays[0])
    runs = [array.reshape(channels, math.gcd(RUNS, array.size // channels), -1) for array in arrays]
    values = [pair(lambda vector: vector[:, None], *(run[:, k] for run in runs)) for k in range(runs[0].shape[1])]
    first, second = (reduce(operator.add, side) for side in zip(*values, strict=True))
    both = lax.optimization_barrier(jnp.stack([first, second], axis=1)).sum(axis=2)
    return both[:, 0], both[:, 1]


def moments(x: Float[Array, "a b c d"], around: Float[Array, "channels"], channel_axis: int) -> Moments:
    """Mean and biased variance of each channel in one reading of `x`.

    Both are taken about `around` (the running mean), which keeps the one-pass formula from cancelling when a channel's
    mean is large against its spread.
    """

    def powers(along: Callable[[Array], Array], x: Array) -> Pair:
        centred = x.astype(around.dtype) - along(around)
        return centred, centred * centred

    count = x.size // x.shape[channel_axis]
    first, second = (total / count for total in channel_sums(powers, (x,), channel_axis))
    return Moments(first + around, jnp.maximum(second - first * first, 0.0))


def _affine(
    scale: Float[Array, "channels"], bias: Float[Array, "channels"], stats: Moments, epsilon: float
) -> tuple[Float[Array, "channels"], Float[Array, "channels"]]:
    """Slope and offset such that normalised, scaled and shifted is `x * slope + offset`."""
    slope = scale * jax.lax.rsqrt(stats.variance + epsilon)
    return slope, bias - stats.mean * slope


def _normalise(
    x: Float[Array, "a b c d"],
    scale: Float[Array, "channels"],
    bias: Float[Array, "channels"],
    around: Float[Array, "channels"],
    residual: Float[Array, "a b c d"] | None,
    relu: bool,
    epsilon: float,
    channel_axis: int,
) -> tuple[Float[Array, "a b c d"], Moments]:
    """Normalise by the batch's own statistics, scale and shift, add the residual, and apply ReLU if asked to.

    Args:
        x: the input of the layer, any floating dtype.
        scale: at least float32.
        bias: at least float32.
        around: what the statistics are taken about (the running mean); only affects rounding.
        residual: added before ReLU; None for none.
        relu: whether to end with ReLU.
        epsilon: added to the variance.
        channel_axis: 0 or 3.

    Returns:
        The result in the dtype of `x`, and the statistics, through which no gradient flows.
    """
    return _forward(x, scale, bias, around, residual, relu, epsilon, channel_axis)[0]


def _forward(
    x: Array,
    scale: Array,
    bias: Array,
    around: Array,
    residual: Array | None,
    relu: bool,
    epsilon: float,
    channel_axis: int,
) -> tuple[tuple[Array, Moments], Any]:
    stats = moments(x, around, channel_axis)
    slope, offset = (_along(v, channel_axis) for v in _affine(scale, bias, stats, epsilon))
    y = x.astype(slope.dtype) * slope + offset
    if residual is not None:
        y = y + residual.astype(y.dtype)
    y = (jnp.maximum(y, 0.0) if relu else y).astype(x.dtype)
    # With a residual the mask cannot be had from x alone; y is kept by the next layer in any case.
    return (y, stats), (x, scale, bias, stats, y if residual is not None and relu else None, residual is not None)


def _backward(relu: bool, epsilon: float, channel_axis: int, kept: Any, cotangents: Any) -> tuple[Any, ...]:
    x, scale, bias, stats, y, has_residual = kept
    slope, offset = _affine(scale, bias, stats, epsilon)
    deviation = jax.lax.rsqrt(stats.variance + epsilon)
    grad = cotangents[0].astype(slope.dtype)
    if has_residual and relu:
        grad = jnp.where(y > 0, grad, 0.0)

    def masked(along: Callable[[Array], Array], grad: Array, x: Array) -> Array:
        if not relu or has_residual:
            return grad
        return jnp.where(x.astype(slope.dtype) * along(slope) + along(offset) > 0, grad, 0.0)

    def normalised(along: Callable[[Array], Array], x: Array, mean: Array, deviation: Array) -> Array:
        return (x.astype(slope.dtype) - along(mean)) * along(deviation)

    def sums(grad: Array, x: Array, mean: Array, deviation: Array) -> Pair:
        def gradients(along: Callable[[Array], Array], grad: Array, x: Array) -> Pair:
            grad = masked(along, grad, x)
            return grad, grad * normalised(along, x, mean, deviation)

        return channel_sums(gradients, (grad, x), channel_axis)

    arguments = (grad, x, stats.mean, deviation)
    # The gradient of the residual has to be stored in any case, and then it is cheaper read than computed again.
    grad_bias, grad_scale = stored(sums, *arguments) if has_residual else sums(*arguments)
    along = partial(_along, channel_axis=channel_axis)
    count = x.size // x.shape[channel_axis]
    grad = masked(along, grad, x)
    spread = normalised(along, x, stats.mean, deviation) * along(grad_scale / count)
    grad_x = along(slope) * (grad - along(grad_bias / count) - spread)
    grad_residual = grad.astype(x.dtype) if has_residual else None
    return grad_x.astype(x.dtype), grad_scale, grad_bias, jnp.zeros_like(stats.mean), grad_residual


normalise = jax.custom_vjp(_normalise, nondiff_argnums=(5, 6, 7))
normalise.defvjp(_forward, _backward)


def normalise_fixed(
    x: Float[Array, "a b c d"],
    scale: Float[Array, "channels"],
    bias: Float[Array, "channels"],
    stats: Moments,
    residual: Float[Array, "a b c d"] | None,
    *,
    relu: bool,
    epsilon: float,
    channel_axis: int,
) -> Float[Array, "a b c d"]:
    """As `normalise`, by given statistics (evaluation): differentiated in the ordinary way."""
    slope, offset = (_along(v, channel_axis) for v in _affine(scale, bias, stats, epsilon))
    y = x.astype(slope.dtype) * slope + offset
    if residual is not None:
        y = y + residual.astype(y.dtype)
    return (jnp.maximum(y, 0.0) if relu else y).astype(x.dtype)


class BatchNorm(nn.Module):
    """BatchNorm with an optional residual sum and ReLU in the same pass, over one array or over its channels in parts.

    A layer whose channels go different ways (residual and dense paths) is given as several arrays, in channel order;
    they share this module's parameters and statistics, so nothing is concatenated.
    The running variance is the unbiased one, as in PyTorch. Statistics are float32 whatever the dtype of the inputs.

    Attributes:
        relu: whether to end with ReLU.
        channel_axis: 0 or 3.
        momentum: share of the old running statistics kept at each training step.
        epsilon: added to the variance.
        param_dtype: of scale and bias.
    """

    relu: bool = True
    channel_axis: int = 3
    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        *parts: Float[Array | np.ndarray, "..."],
        residuals: tuple[Float[Array | np.ndarray, "..."] | None, ...] = (),
        train: bool,
    ) -> tuple[Float[Array, "..."], ...]:
        """The parts, normalised; `residuals` (one for each part, or None) are added before ReLU.

        Raises:
            ValueError: parts that have not four axes, or, in training, no examples, which have no statistics.
        """
        arrays = [jnp.asarray(part) for part in parts]
        shapes = [array.shape for array in arrays]
        if not arrays or any(array.ndim != 4 for array in arrays):
            raise ValueError(f"BatchNorm: got parts of shapes {shapes}; wanted one or more arrays with four axes")
        if train and not all(array.size for array in arrays):
            raise ValueError(f"BatchNorm: got parts of shapes {shapes}; nothing in them to take statistics of")
        widths = [part.shape[self.channel_axis] for part in parts]
        channels, dtype = sum(widths), wide(parts[0].dtype)
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype).astype(dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype).astype(dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), dtype)
        variance = self.variable("batch_stats", "var", jnp.ones, (channels,), dtype)
        outputs, measured, start = [], [], 0
        for part, residual, width in zip(arrays, residuals or [None] * len(parts), widths, strict=True):
            residual = None if residual is None else jnp.asarray(residual)
            own = slice(start, start + width)
            if train:
                around = jax.lax.stop_gradient(mean.value[own])
                output, stats = normalise(  # pyright: ignore[reportGeneralTypeIssues]
                    part, scale[own], bias[own], around, residual, self.relu, self.epsilon, self.channel_axis
                )
                measured.append(stats)
            else:
                output = normalise_fixed(
                    part,
                    scale[own],
                    bias[own],
                    Moments(mean.value[own], variance.value[own]),
                    residual,
                    relu=self.relu,
                    epsilon=self.epsilon,
                    channel_axis=self.channel_axis,
                )
            outputs.append(output)
            start += width
        if train and not self.is_initializing():
            self._move(mean, variance, measured, parts[0].size // widths[0])
        return tuple(outputs)

    def _move(self, mean: nn.Variable, variance: nn.Variable, measured: list[Moments], count: int) -> None:
        """Move the running statistics towards the batch's, by PyTorch's rule."""
        unbiased = count / max(count - 1, 1)
        new_mean = jnp.concatenate([stats.mean for stats in measured])
        new_variance = jnp.concatenate([stats.variance for stats in measured]) * unbiased
        kept = self.momentum
        mean.value = kept * mean.value + (1 - kept) * jax.lax.stop_gradient(new_mean)
        variance.value = kept * variance.value + (1 - kept) * jax.lax.stop_gradient(new_variance)
