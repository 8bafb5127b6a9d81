"""Small models of the usual kinds, in Flax Linen. What people get wrong in them can be given as a field."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Activation = Callable[[Array], Array]
zeros, lecun = nn.initializers.zeros, nn.initializers.lecun_normal()


def same(x: Array) -> Array:
    """Nothing is done."""
    return x


class Dense(nn.Module):
    """Hidden layers on the flattened input, each a linear layer, perhaps a LayerNorm, an activation, perhaps dropout;
    then a linear layer.
    """

    features: Sequence[int] = (64, 64)
    outputs: int = 10
    activation: Activation = nn.relu
    dropout: float = 0.0
    layer_norm: bool = False
    kernel_init: Any = lecun
    bias_init: Any = zeros
    final_kernel_init: Any = None
    final_bias: bool = True
    final_bias_init: Any = zeros
    squeeze: bool = False

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool = False) -> Array:
        """Outputs `[batch, outputs]`, or `[batch]` with `squeeze`."""
        x = jnp.asarray(inputs).reshape(inputs.shape[0], -1)
        for features in self.features:
            x = nn.Dense(features, kernel_init=self.kernel_init, bias_init=self.bias_init)(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = self.activation(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
        x = nn.Dense(
            self.outputs,
            use_bias=self.final_bias,
            kernel_init=self.final_kernel_init or self.kernel_init,
            bias_init=self.final_bias_init,
        )(x)
        return x[:, 0] if self.squeeze else x


class ResNet(nn.Module):
    """A convolution, residual blocks with GroupNorm, the mean over space, a linear layer.

    Attributes:
        branch: what is done to the residual branch of each block before it is added.
    """

    width: int = 16
    blocks: int = 2
    classes: int = 10
    branch: Activation = same
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Logits `[batch, classes]`."""
        del train
        x = self.activation(nn.GroupNorm(4)(nn.Conv(self.width, (3, 3), use_bias=False)(jnp.asarray(images))))
        for _ in range(self.blocks):
            y = self.activation(nn.GroupNorm(4)(nn.Conv(self.width, (3, 3), use_bias=False)(x)))
            y = nn.GroupNorm(4)(nn.Conv(self.width, (3, 3), use_bias=False)(y))
            x = self.activation(x + self.branch(y))
        x = nn.avg_pool(x, (4, 4), (4, 4))
        return nn.Dense(self.classes)(x.reshape(x.shape[0], -1))


def heads_last(x: Array) -> Array:
    """`[batch, heads, time, depth]` to `[batch, time, heads * depth]`."""
    batch, heads, time, depth = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, time, heads * depth)


class Transformer(nn.Module):
    """A small decoder with learned positions: attention and a hidden layer, each behind a LayerNorm, with residual
    sums.

    Attributes:
        causal: whether a position may look only at itself and back.
        merge: brings the heads' outputs together.
    """

    vocabulary: int
    width: int = 32
    depth: int = 2
    heads: int = 4
    causal: bool = True
    merge: Callable[[Array], Array] = heads_last
    dropout: float = 0.0

    @nn.compact
    def __call__(self, tokens: Array, *, train: bool = False) -> Array:
        """Logits `[batch, time, vocabulary]`."""
        time = tokens.shape[1]
        x = nn.Embed(self.vocabulary, self.width)(tokens) + self.param(
            "positions", nn.initializers.normal(0.1), (time, self.width)
        )
        for _ in range(self.depth):
            x = x + self._attend(nn.LayerNorm()(x), time)
            y = nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
            x = x + (nn.Dropout(self.dropout, deterministic=not train)(y) if self.dropout else y)
        return nn.Dense(self.vocabulary, kernel_init=nn.initializers.normal(0.05))(nn.LayerNorm()(x))

    def _attend(self, x: Array, time: int) -> Array:
        depth = self.width // self.heads
        split = lambda y: y.reshape(*y.shape[:2], self.heads, depth).transpose(0, 2, 1, 3)  # noqa: E731
        query, key, value = (split(nn.Dense(self.width, use_bias=False)(x)) for _ in range(3))
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(depth).astype(np.float32)
        if self.causal:
            scores = jnp.where(np.tril(np.ones((time, time), bool)), scores, -1e9)
        return nn.Dense(self.width)(self.merge(jax.nn.softmax(scores) @ value))


class Recurrent(nn.Module):
    """The rows of a picture as a sequence through a GRU; a linear layer on its last state."""

    width: int = 32
    classes: int = 10
    order: Callable[[Array], Array] = same

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Logits `[batch, classes]`."""
        del train
        rows = self.order(jnp.asarray(images)[..., 0])
        states: Any = nn.RNN(nn.GRUCell(self.width))(rows)
        return nn.Dense(self.classes)(states[:, -1])


class Segmenter(nn.Module):
    """Convolutions that keep height and width, and a class for each pixel."""

    classes: int = 3
    features: Sequence[int] = (16, 16)

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> Array:
        """Logits `[batch, height, width, classes]`."""
        del train
        x = jnp.asarray(images)
        for features in self.features:
            x = nn.relu(nn.Conv(features, (3, 3))(x))
        return nn.Conv(self.classes, (1, 1))(x)


class TwoInputs(nn.Module):
    """The upper and the lower half of a picture through a layer each, joined, and one or two heads.

    Attributes:
        combine: joins the two.
        two_heads: whether the outputs are a mapping of "digit" and "ink" instead of logits.
    """

    width: int = 32
    combine: Callable[[Array, Array], Array] = lambda top, bottom: jnp.concatenate([top, bottom], axis=-1)
    two_heads: bool = False

    @nn.compact
    def __call__(self, inputs: Any, *, train: bool = False) -> Any:
        """Logits `[batch, 10]`, or `{"digit": [batch, 10], "ink": [batch]}`."""
        del train
        halves = [inputs[name].reshape(inputs[name].shape[0], -1) for name in ("top", "bottom")]
        joined = self.combine(*(nn.relu(nn.Dense(self.width)(half)) for half in halves))
        hidden = nn.relu(nn.Dense(2 * self.width)(joined))
        logits = nn.Dense(10)(hidden)
        return {"digit": logits, "ink": nn.Dense(1)(hidden)[:, 0]} if self.two_heads else logits


class Towers(nn.Module):
    """One encoder for two views of the same thing: unit vectors `{"a": [batch, width], "b": [batch, width]}`."""

    width: int = 32

    @nn.compact
    def __call__(self, inputs: Any, *, train: bool = False) -> Any:
        """Both views encoded."""
        del train
        first, second = nn.Dense(64), nn.Dense(self.width)

        def encode(view: Array) -> Array:
            vectors = second(nn.relu(first(view.reshape(view.shape[0], -1))))
            return vectors / jnp.sqrt(jnp.square(vectors).sum(axis=-1, keepdims=True) + 1e-6)

        return {"a": encode(inputs["a"]), "b": encode(inputs["b"])}
