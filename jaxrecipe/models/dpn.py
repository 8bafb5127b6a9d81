"""Dual path networks for 32×32 images: any DPN from a frozen configuration, with DPN-26 and DPN-92 ready.

After Y. Chen et al., "Dual Path Networks", NIPS 2017, in the form of the well-known CIFAR-10 examples for PyTorch: a
stem, four stages of bottleneck blocks whose first channels add up (residual path) while the others pile up (dense
path), a mean and a linear layer.

Nothing is concatenated where the paths meet: they stay two arrays, and a layer that reads or writes both takes two
matrix products with the two parts of its one kernel. 1×1 convolutions are matrix products, BatchNorm with the residual
sum and ReLU is one pass, and the grouped convolutions choose how to be computed.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from jaxrecipe.models.batch_norm import BatchNorm
from jaxrecipe.models.grouped_conv import Formulation, GroupedConv, Layout
from jaxrecipe.models.stored import stored

INITIAL = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform within 1/sqrt(inputs of a unit), PyTorch's default for convolutions and linear layers."""
Paths = tuple[Float[Array, "..."], ...]
"""Activations in parts along the channel axis: one array, or the residual and the dense path."""

MANY_POSITIONS = 8
"""From so many positions for each output channel on it pays to turn the gradient of the kernel of a 1×1 convolution."""


@dataclass(frozen=True)
class DPNConfig:
    """The shape of a dual path network; one entry a stage in each tuple.

    Attributes:
        blocks: bottleneck blocks.
        bottleneck: channels between the 1×1 convolutions, where the grouped 3×3 convolution works.
        residual: channels of the path that adds up.
        dense: channels by which the other path grows in each block.
        strides: of each stage's first block.
        groups: of the 3×3 convolutions.
        stem: channels of the first convolution.
        channels: of the images.
        classes: outputs.
    """

    blocks: tuple[int, ...] = (3, 4, 20, 3)
    bottleneck: tuple[int, ...] = (96, 192, 384, 768)
    residual: tuple[int, ...] = (256, 512, 1024, 2048)
    dense: tuple[int, ...] = (16, 32, 24, 128)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    groups: int = 32
    stem: int = 64
    channels: int = 3
    classes: int = 10

    def __post_init__(self) -> None:
        """Refuse stages of different number and widths that the groups do not divide."""
        lengths = {name: len(getattr(self, name)) for name in ("blocks", "bottleneck", "residual", "dense", "strides")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"DPNConfig: got {lengths} stages; wanted as many entries in each")
        uneven = [width for width in self.bottleneck if width % self.groups]
        if uneven:
            raise ValueError(f"DPNConfig: bottleneck widths {uneven} cannot be divided among {self.groups} groups")


DPN92 = DPNConfig()
"""34,236,634 parameters."""
DPN26 = replace(DPN92, blocks=(2, 2, 2, 2))
"""11,574,842 parameters."""


def default_layout() -> Layout:
    """Batch innermost on a CPU, where it lets the grouped convolutions run on whole vectors; channels innermost
    elsewhere.
    """
    return "CHWN" if jax.default_backend() == "cpu" else "NHWC"


@jax.custom_vjp
def channels_product(kernel: Float[Array, "inputs outputs"], x: Float[Array, "inputs *rest"]) -> Array:
    """1×1 convolution with the channels in front, whose gradients never bring them to the back.

    JAX's own gradient of the product makes `[*rest, inputs]` and transposes it, which costs as much as the product
    itself; and so does a product over several axes at once, which XLA brings into the form rows times columns first.
    Seen as matrices, nothing is moved. The kernel is transposed by itself: a product of plain rows and columns goes to
    the quicker of the matrix libraries on a CPU.
    """
    product = _matrix_product(stored(jnp.transpose, kernel), _as_matrix(x), 0)
    return product.reshape(len(product), *x.shape[1:])


def _channels_product_forward(kernel: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return channels_product(kernel, x), (kernel, x)


def _channels_product_backward(kept: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    kernel, x = kept
    inputs, grad = _as_matrix(x), _as_matrix(grad)
    # The library transposes the second operand, so the one with fewer channels goes second, unless that makes a
    # large gradient to be turned.
    swapped = len(inputs) < len(grad) and grad.size >= MANY_POSITIONS * len(grad) ** 2
    pair = (grad, inputs) if swapped else (inputs, grad)
    grad_kernel = stored(partial(_matrix_product, contracted=1), *pair)
    grad_kernel = grad_kernel.T if swapped else grad_kernel
    return grad_kernel, _matrix_product(kernel, grad, 0).reshape(x.shape)


def _as_matrix(x: Float[Array, "channels *rest"]) -> Float[Array, "channels positions"]:
    return x.reshape(len(x), -1)


def _matrix_product(rows: Float[Array, "a b"], other: Float[Array, "c d"], contracted: int) -> Array:
    """The product that sums over the last axis of `rows` and the given one of `other`."""
    return lax.dot_general(rows, other, (((1,), (contracted,)), ((), ())))


channels_product.defvjp(_channels_product_forward, _channels_product_backward)


class Pointwise(nn.Module):
    """1×1 convolution as matrix products, from one or two input parts to one or two output parts.

    The kernel `[inputs, outputs]` is one parameter; its parts are slices, so that no activations are copied.

    Attributes:
        features: channels of each output part.
        channel_axis: 0 or 3.
        param_dtype: of the kernel.
    """

    features: tuple[int, ...]
    channel_axis: int
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, parts: Paths) -> Paths:
        """The output parts, in the dtype of the inputs."""
        widths = [part.shape[self.channel_axis] for part in parts]
        shape = (sum(widths), sum(self.features))
        kernel = self.param("kernel", INITIAL, shape, self.param_dtype).astype(parts[0].dtype)
        rows = jnp.split(kernel, np.cumsum(widths)[:-1], axis=0)
        outputs = []
        for columns in _parts(self.features):
            products = [self._product(part, row[:, columns]) for part, row in zip(parts, rows, strict=True)]
            outputs.append(sum(products[1:], start=products[0]))
        return tuple(outputs)

    def _product(self, x: Array, kernel: Array) -> Array:
        if self.channel_axis == 0:
            return channels_product(kernel, x)
        return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _every(stride: int, path: Array) -> Array:
    """Every so many rows and columns."""
    return path[:, ::stride, ::stride]


def _parts(widths: tuple[int, ...]) -> list[slice]:
    ends = np.cumsum(widths).tolist()
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]


class DualPathBlock(nn.Module):
    """One bottleneck block: 1×1, grouped 3×3, 1×1, then sum into the residual path and growth of the dense path.

    Attributes:
        bottleneck, residual, dense, groups, stride: as in `DPNConfig`, for this block.
        first: whether the input is brought to this stage's shape by a 1×1 convolution of its own.
        layout: of the activations.
        formulation: of the grouped convolution.
        param_dtype: of the parameters.
    """

    bottleneck: int
    residual: int
    dense: int
    groups: int
    stride: int
    first: bool
    layout: Layout
    formulation: Formulation | None
    param_dtype: Any

    @nn.compact
    def __call__(self, paths: Paths, *, train: bool) -> Paths:
        """The two paths after the block."""
        axis = self.layout.index("C")
        shared = {"channel_axis": axis, "param_dtype": self.param_dtype}
        widths = (self.residual, self.dense)
        hidden = Pointwise((self.bottleneck,), **shared, name="reduce")(paths)
        hidden = BatchNorm(**shared, name="reduce_norm")(*hidden, train=train)
        grouped = GroupedConv(
            self.bottleneck,
            self.groups,
            stride=self.stride,
            layout=self.layout,
            formulation=self.formulation,
            param_dtype=self.param_dtype,
            kernel_init=INITIAL,
            name="grouped",
        )(hidden[0])
        hidden = BatchNorm(**shared, name="grouped_norm")(grouped, train=train)
        added, grown = Pointwise(widths, **shared, name="expand")(hidden)
        if self.first:
            coarse = tuple(stored(partial(_every, self.stride), path) for path in paths) if self.stride > 1 else paths
            projected = Pointwise(widths, **shared, name="shortcut")(coarse)
            residual, dense = BatchNorm(relu=False, **shared, name="shortcut_norm")(*projected, train=train)
            dense = nn.relu(dense)
        else:
            residual, dense = paths
        added, grown = BatchNorm(**shared, name="expand_norm")(added, grown, residuals=(residual, None), train=train)
        return added, jnp.concatenate([dense, grown], axis=axis)


class DPN(nn.Module):
    """A dual path network for small images (four stages and 32×32 leave 4×4 positions, which are averaged).

    Attributes:
        config: its shape.
        dtype: of the computation; None follows the images. Statistics and the mean over positions are at least float32.
        param_dtype: of the parameters.
        layout: of the activations inside; None chooses by backend. Images are always `[batch, height, width,
            channels]`.
        formulation: of the grouped convolutions, one for all or one for each stage; None chooses as `grouped_conv`
            does.
    """

    config: DPNConfig = DPN92
    dtype: Any = None
    param_dtype: Any = jnp.float32
    layout: Layout | None = None
    formulation: Formulation | tuple[Formulation | None, ...] | None = None

    @nn.compact
    def __call__(
        self, images: Num[Array | np.ndarray, "*batch height width channels"], *, train: bool = False
    ) -> Float[Array, "examples classes"]:
        """Logits; `train` normalises with the batch's own statistics and moves the running ones (`batch_stats`).

        Raises:
            ValueError: images of another rank.
            TypeError: whole numbers where `dtype` is None.
        """
        if images.ndim != 4:
            raise ValueError(f"DPN: images have shape {images.shape}; wanted [batch, height, width, channels]")
        config, layout = self.config, self.layout or default_layout()
        x = jnp.asarray(images).astype(self.dtype or images.dtype)
        if layout == "CHWN":
            x = x.transpose(3, 1, 2, 0)
        chosen = self.formulation if isinstance(self.formulation, tuple) else (self.formulation,) * len(config.blocks)
        if len(chosen) != len(config.blocks):
            raise ValueError(
                f"DPN: {len(chosen)} formulations for {len(config.blocks)} stages; give one, or one for each stage"
            )
        axis = layout.index("C")
        x = GroupedConv(config.stem, 1, layout=layout, param_dtype=self.param_dtype, kernel_init=INITIAL, name="stem")(
            x
        )
        paths = BatchNorm(channel_axis=axis, param_dtype=self.param_dtype, name="stem_norm")(x, train=train)
        stages = zip(config.blocks, config.bottleneck, config.residual, config.dense, config.strides, strict=True)
        for stage, (blocks, bottleneck, residual, dense, stride) in enumerate(stages):
            for block in range(blocks):
                first = block == 0
                paths = DualPathBlock(
                    bottleneck,
                    residual,
                    dense,
                    config.groups,
                    stride if first else 1,
                    first,
                    layout,
                    chosen[stage],
                    self.param_dtype,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(paths, train=train)
        return self._head(paths, axis)

    def _head(self, paths: Paths, axis: int) -> Float[Array, "batch classes"]:
        """Mean over positions, then the linear layer."""
        features = jnp.concatenate([path.mean(axis=(1, 2)) for path in paths], axis=0 if axis == 0 else 1)
        features = features.T if axis == 0 else features
        return nn.Dense(
            self.config.classes, dtype=features.dtype, param_dtype=self.param_dtype, kernel_init=INITIAL, name="head"
        )(features)
