"""Small models for demonstrations and tests: a ConvNet with BatchNorm and an MLP, in Flax Linen and Flax NNX.

`dtype=None` computes in whatever dtype the inputs and parameters have, so that a precision policy that casts both
decides.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

BATCH_STATS_MOMENTUM = 0.9


def _halve(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """2×2 mean pooling as a reshape, which is quicker than a window reduction; an odd last row or column is dropped."""
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


class ConvNet(nn.Module):
    """Linen: per feature count a 3×3 convolution, BatchNorm, ReLU, 2×2 mean pooling; then the mean over space and a
    linear layer.

    The convolutions have no bias: BatchNorm would subtract it again, leaving a parameter with no gradient.

    Attributes:
        features: channels of each convolution; each halves height and width (rounding down).
        classes: outputs.
        dtype: of the computation; None follows the inputs and parameters.
        param_dtype: of the parameters.
    """

    features: Sequence[int] = (32, 64)
    classes: int = 10
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array | np.ndarray, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits; `train` normalises with the batch's own statistics and moves the running ones (`batch_stats`)."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = jnp.asarray(images)
        for features in self.features:
            x = nn.Conv(features, (3, 3), use_bias=False, **dtypes)(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=BATCH_STATS_MOMENTUM, **dtypes)(x)
            x = _halve(nn.relu(x))
        return nn.Dense(self.classes, **dtypes)(x.mean(axis=(1, 2)))


class MLP(nn.Module):
    """Linen: hidden layers with ReLU on the flattened input, then a linear layer.

    Attributes:
        features: units of each hidden layer.
        classes: outputs.
        dtype, param_dtype: as in `ConvNet`.
    """

    features: Sequence[int] = (64, 64)
    classes: int = 10
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array | np.ndarray, "batch *rest"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits; `train` is accepted for a common interface and changes nothing."""
        del train
        x = jnp.asarray(inputs).reshape(inputs.shape[0], -1)
        for features in self.features:
            x = nn.relu(nn.Dense(features, dtype=self.dtype, param_dtype=self.param_dtype)(x))
        return nn.Dense(self.classes, dtype=self.dtype, param_dtype=self.param_dtype)(x)


class NNXConvNet(nnx.Module):
    """NNX: the same network as `ConvNet`. `nnx.view(model, use_running_average=...)` chooses evaluation or training."""

    def __init__(
        self,
        features: Sequence[int] = (32, 64),
        classes: int = 10,
        *,
        channels: int = 1,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Make the layers; `channels` is that of the images, the rest as in `ConvNet`."""
        dtypes = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        widths = (channels, *features)
        self.convs = nnx.List(
            [nnx.Conv(i, o, (3, 3), use_bias=False, **dtypes) for i, o in zip(widths, features, strict=False)]
        )
        self.norms = nnx.List([nnx.BatchNorm(o, momentum=BATCH_STATS_MOMENTUM, **dtypes) for o in features])
        self.head = nnx.Linear(widths[-1], classes, **dtypes)

    def __call__(
        self, images: Float[Array | np.ndarray, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """Logits."""
        x = jnp.asarray(images)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = _halve(jax.nn.relu(norm(conv(x))))
        return self.head(x.mean(axis=(1, 2)))


class NNXMLP(nnx.Module):
    """NNX: the same network as `MLP`."""

    def __init__(
        self,
        features: Sequence[int] = (64, 64),
        classes: int = 10,
        *,
        inputs: int,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Make the layers; `inputs` is the number of values of one flattened example."""
        widths = (inputs, *features, classes)
        self.layers = nnx.List(
            [nnx.Linear(i, o, dtype=dtype, param_dtype=param_dtype, rngs=rngs) for i, o in itertools.pairwise(widths)]
        )

    def __call__(self, inputs: Float[Array | np.ndarray, "batch *rest"]) -> Float[Array, "batch classes"]:
        """Logits."""
        x = jnp.asarray(inputs).reshape(inputs.shape[0], -1)
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)
