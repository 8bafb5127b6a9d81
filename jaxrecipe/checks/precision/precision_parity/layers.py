"""Every layer's gradient in half precision beside that of float32."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe.precision.parity import LayerParity, parity
from jaxrecipe.probes import half_precision as half
from jaxrecipe.setup import Setup

EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Relative rounding of a format: half the distance from 1 to the next number."""
SMALLEST = {"bfloat16": 2.0**-126, "float16": 2.0**-20}
"""Below these a number, or what it is the sum of, may have become zero."""
AS_LARGE = 2.0
"""An error up to this many times what another random draw makes may be that draw."""


@dataclass(frozen=True)
class Layer:
    """One layer's gradient.

    Attributes:
        name: the parameter's path.
        low: its gradient in half precision against float32.
        rounding: the relative error that rounding parameters and inputs to the format makes by itself.
        zeros: which numbers became zero, of the parameter's shape.
        too_small: the share of those that lie below the format's range at the loss scale.
    """

    name: str
    low: LayerParity
    rounding: float
    zeros: Bool[np.ndarray, "..."]
    too_small: float

    @property
    def finite(self) -> bool:
        """Whether the gradient is finite in half precision."""
        return bool(np.isfinite(self.low.relative_error))

    @property
    def share_zero(self) -> float:
        """The share of its numbers that became zero."""
        return float(self.zeros.mean()) if self.zeros.size else 0.0


@dataclass(frozen=True)
class Compared:
    """Layers, the worst first, and those that cannot be compared."""

    layers: list[Layer]
    left_out: list[str]


def compare_layers(
    gradients: half.Gradients, setup: Setup, low: Any, full: Any, dtype: str, key: PRNGKeyArray, scale: float
) -> Compared:
    ours, rounding = parity(low, full), parity(gradients.full(setup.params, dtype), full)
    noise = half.undetermined(gradients, setup.params, full, key)
    noise = {name for name in noise if np.isfinite(ours[name].relative_error) or ours[name].norm_ratio != np.inf}
    wide, narrow = half.as_numpy(full), half.as_numpy(low)
    layers = []
    for name in ours:
        zeros = (narrow[name] == 0) & (wide[name] != 0)
        small = np.abs(wide[name][zeros]) * scale < SMALLEST[dtype]
        if name not in noise:
            share = float(small.mean()) if small.size else 0.0
            layers.append(Layer(name, ours[name], rounding[name].relative_error, zeros, share))
    return Compared(sorted(layers, key=lambda layer: -layer.low.relative_error), sorted(noise))


def is_another_draw(setup: Setup, full: Any, layer: Layer, key: PRNGKeyArray) -> bool:
    """Whether another draw of the model's own randomness moves the layer's float32 gradient as much."""
    if not layer.finite:
        return False
    other = half.gradients(setup, jax.random.fold_in(key, 1)).full(setup.params, None)
    return layer.low.relative_error < AS_LARGE * parity(other, full)[layer.name].relative_error
