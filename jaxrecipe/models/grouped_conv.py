"""Grouped convolution in six ways that compute the same, and one small function that chooses.

XLA's native grouped convolution is far from the machine's speed on some backends, above all in its weight gradient. Any
Flax model gets a faster one by using `GroupedConv` in place of `nn.Conv(..., feature_group_count=...)`, or
`grouped_conv` itself. Kernels have the shape that `nn.Conv` uses, `[rows, columns, inputs / groups, outputs]`, so
parameters can be exchanged.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from jaxrecipe.models.stencil import patch_products, shifted_sums

Layout = Literal["NHWC", "CHWN"]
Formulation = Literal["native", "merged", "split", "block_dense", "shifted_sums", "patch_products"]
"""How a grouped convolution is computed:

- "native": XLA's own, by `feature_group_count`.
- "merged": XLA's own with fewer, wider groups, whose kernels are block-diagonal.
- "split": one convolution for each group.
- "block_dense": one dense convolution for each few groups, with block-diagonal kernels.
- "shifted_sums": one fused sum of shifted products, no zeros multiplied.
- "patch_products": one batched matrix product of kernels and shifted patches.
"""
FORMULATIONS: tuple[Formulation, ...] = get_args(Formulation)
Images = Float[Array, "a height width d"]
Outputs = Float[Array, "e out_height out_width f"]
Kernel = Float[Array, "rows columns inputs outputs"]

MERGED_CHANNELS = {"cpu": 24, "gpu": 64}
"""How wide the slices of `block_dense` and `merged` aim to be: on a CPU about a vector register or two, on a GPU a tile
of the matrix unit."""
SHIFTED_SUMS_CHANNELS = 12
"""Up to this many channels a group, shifted sums beat patch products on the CPU (8 to 32 rows, batch 32)."""
LEAST_LANES = 16
"""Batches smaller than a vector register leave the CHWN formulations without lanes."""


def choose_formulation(
    *, inputs: int, groups: int, batch: int, layout: Layout = "NHWC", backend: str | None = None
) -> Formulation:
    """The formulation to use, from measurements on a CPU (docs/dpn.md); elsewhere the native one until it is measured
    there.

    Args:
        inputs: channels that come in.
        groups: how many groups they form.
        batch: examples.
        layout: of the activations.
        backend: "cpu", "gpu", "tpu"; by default the one JAX uses.
    """
    backend = backend or jax.default_backend()
    if groups == 1 and inputs > SHIFTED_SUMS_CHANNELS:
        return "native"
    if backend != "cpu":
        return "native"
    if layout == "CHWN" and batch >= LEAST_LANES:
        return "shifted_sums" if inputs // groups <= SHIFTED_SUMS_CHANNELS and groups > 1 else "patch_products"
    return "block_dense"


def grouped_conv(
    x: Images,
    kernel: Kernel,
    *,
    groups: int,
    stride: int = 1,
    layout: Layout = "NHWC",
    formulation: Formulation | None = None,
) -> Outputs:
    """Convolve each group of channels with its own kernels, padded by half the kernel size (odd kernels).

    Args:
        x: activations, `[batch, height, width, channels]` ("NHWC") or `[channels, height, width, batch]` ("CHWN").
        kernel: `[rows, columns, channels / groups, outputs]`; the outputs of group g are the g-th part of the last
            axis.
        groups: number of groups; divides channels and outputs.
        stride: of both rows and columns.
        layout: of `x` and of the result.
        formulation: how to compute it; None lets `choose_formulation` decide. All give the same up to rounding.

    Returns:
        The outputs in the same layout and dtype.

    Raises:
        ValueError: shapes that do not fit, even kernels, an unknown formulation.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"grouped_conv: x has shape {x.shape} and the kernel {kernel.shape}; both must have four axes, see the "
            "docstring"
        )
    channels, batch = (x.shape[3], x.shape[0]) if layout == "NHWC" else (x.shape[0], x.shape[3])
    formulation = formulation or choose_formulation(inputs=channels, groups=groups, batch=batch, layout=layout)
    _check(x, kernel, groups, channels, formulation)
    if formulation in ("shifted_sums", "patch_products"):
        compute: Any = shifted_sums if formulation == "shifted_sums" else patch_products
        return _batch_innermost(compute, x, kernel, groups, stride, layout)
    if formulation == "native":
        return _convolve(x, kernel, stride, layout, groups=groups)
    merged = 1 if formulation == "split" else _merged_groups(channels // groups, groups)
    if formulation == "merged":
        return _merged(x, kernel, groups, merged, stride, layout)
    return _in_slices(x, kernel, groups, merged, stride, layout)


def _check(x: Images, kernel: Kernel, groups: int, channels: int, formulation: str) -> None:
    """Everything wrong with a call, at once."""
    rows, columns, inputs, outputs = kernel.shape
    problems = [
        message
        for wrong, message in (
            (
                formulation not in FORMULATIONS,
                f"unknown formulation {formulation!r}; use one of {', '.join(FORMULATIONS)}",
            ),
            (rows % 2 == 0 or columns % 2 == 0, f"kernel is {rows}×{columns}; rows and columns must be odd"),
            (
                channels != inputs * groups,
                f"{channels} channels do not make {groups} groups of the kernel's {inputs} inputs",
            ),
            (outputs % groups != 0, f"{outputs} outputs cannot be divided among {groups} groups"),
            (x.dtype != kernel.dtype, f"x is {x.dtype} but the kernel is {kernel.dtype}; cast one of them"),
        )
        if wrong
    ]
    if problems:
        raise ValueError("grouped_conv: " + "; ".join(problems))


def _convolve(x: Images, kernel: Kernel, stride: int, layout: Layout, *, groups: int = 1) -> Outputs:
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    numbers = (layout, "HWIO", layout)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers, feature_group_count=groups
    )


def _merged_groups(channels: int, groups: int) -> int:
    """How many groups to merge into one slice: the divisor of `groups` whose slice comes nearest to the wanted
    width.
    """
    wanted = MERGED_CHANNELS.get(jax.default_backend(), 64)
    divisors = [d for d in range(1, groups + 1) if groups % d == 0]
    return min(divisors, key=lambda d: abs(d * channels - wanted))


def _block_diagonal(kernel: Kernel, merged: int) -> Float[Array, "rows columns merged_inputs outputs"]:
    """Kernels of `merged` groups side by side become one dense kernel with zeros off the diagonal."""
    rows, columns, inputs, outputs = kernel.shape
    grouped = kernel.reshape(rows, columns, inputs, merged, outputs // merged)
    own = jnp.eye(merged, dtype=kernel.dtype)
    blocks = grouped[:, :, None] * own[None, None, :, None, :, None]
    return blocks.reshape(rows, columns, merged * inputs, outputs)


def _merged(x: Images, kernel: Kernel, groups: int, merged: int, stride: int, layout: Layout) -> Outputs:
    """One grouped convolution with a group for each `merged` of the given ones."""
    slices = jnp.split(kernel, groups // merged, axis=3)
    blocks = jnp.concatenate([_block_diagonal(own, merged) for own in slices], axis=3)
    return _convolve(x, blocks, stride, layout, groups=groups // merged)


def _in_slices(x: Images, kernel: Kernel, groups: int, merged: int, stride: int, layout: Layout) -> Outputs:
    """A dense convolution for each `merged` groups; `merged` 1 is the plain split."""
    axis = layout.index("C")
    slices = groups // merged
    inputs = jnp.split(x, slices, axis=axis)
    kernels = jnp.split(kernel, slices, axis=3)
    outputs = [
        _convolve(part, _block_diagonal(own, merged) if merged > 1 else own, stride, layout)
        for part, own in zip(inputs, kernels, strict=True)
    ]
    return jnp.concatenate(outputs, axis=axis)


def _batch_innermost(
    compute: Callable[[Array, Array, int], Array], x: Images, kernel: Kernel, groups: int, stride: int, layout: Layout
) -> Outputs:
    """Run a CHWN formulation, with a transpose before and after where the activations are NHWC."""
    if layout == "NHWC":
        inner = _batch_innermost(compute, x.transpose(3, 1, 2, 0), kernel, groups, stride, "CHWN")
        return inner.transpose(3, 1, 2, 0)
    rows, columns, inputs, outputs = kernel.shape
    apart = kernel.reshape(rows, columns, inputs, groups, outputs // groups).transpose(3, 4, 2, 0, 1)
    result = compute(x.reshape(groups, inputs, *x.shape[1:]), apart, stride)
    return result.reshape(outputs, *result.shape[2:])


class GroupedConv(nn.Module):
    """Grouped convolution as a Flax module, padded by half the kernel; same parameters as
    `nn.Conv(feature_group_count=...)`.

    Attributes:
        features: outputs.
        groups: number of groups.
        kernel_size: odd rows and columns.
        stride: of both rows and columns.
        use_bias: whether to add one; leave it out before BatchNorm.
        layout, formulation: as in `grouped_conv`.
        dtype: of the computation; None follows the inputs.
        param_dtype: of the parameters.
        kernel_init: initialiser of the kernel.
    """

    features: int
    groups: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    use_bias: bool = False
    layout: Layout = "NHWC"
    formulation: Formulation | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Num[Array | np.ndarray, "a height width d"]) -> Outputs:
        """The outputs, in the layout and (computation) dtype of the inputs.

        Raises:
            TypeError: whole numbers where `dtype` is None.
        """
        dtype = self.dtype or x.dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"GroupedConv: x is {dtype}, which would round the kernel to whole numbers; convert x, or set dtype"
            )
        inputs = x.shape[self.layout.index("C")] // self.groups
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, inputs, self.features), self.param_dtype)
        outputs = grouped_conv(
            jnp.asarray(x).astype(dtype),
            kernel.astype(dtype),
            groups=self.groups,
            stride=self.stride,
            layout=self.layout,
            formulation=self.formulation,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype).astype(dtype)
            outputs = outputs + bias.reshape([-1 if axis == "C" else 1 for axis in self.layout])
        return outputs


def measure_formulations(
    shape: tuple[int, int, int, int],
    *,
    groups: int,
    outputs: int | None = None,
    stride: int = 1,
    layout: Layout = "NHWC",
    dtype: Any = jnp.float32,
    candidates: tuple[Formulation, ...] = FORMULATIONS,
    repeats: int = 5,
) -> dict[Formulation, float]:
    """Median seconds of forward and backward together on this device, for each candidate that compiles and runs.

    Args:
        shape: of the activations, in `layout`.
        groups: number of groups.
        outputs: channels that come out; as many as come in by default.
        stride: of both rows and columns.
        layout: of the activations.
        dtype: of activations and kernel.
        candidates: formulations to time.
        repeats: timed runs of each, after one that warms up.

    Returns:
        Seconds by formulation, quickest first. A candidate that the backend cannot compile or that does not fit is left
        out.
    """
    channels = shape[layout.index("C")]
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=shape), dtype)
    kernel = jnp.asarray(draw.normal(size=(3, 3, channels // groups, outputs or channels)), dtype)
    seconds = {}
    for name in candidates:
        convolve = partial(grouped_conv, groups=groups, stride=stride, layout=layout, formulation=name)
        try:
            seconds[name] = _time(convolve, x, kernel, repeats)
        except jax.errors.JaxRuntimeError:  # not every backend can compile or hold every formulation
            continue
    return dict(sorted(seconds.items(), key=lambda item: item[1]))


def _time(convolve: Callable[[Array, Array], Array], x: Array, kernel: Array, repeats: int) -> float:
    def both_ways(x: Array, kernel: Array) -> Any:
        outputs, pull_back = jax.vjp(convolve, x, kernel)
        return outputs, pull_back(outputs)

    run = jax.jit(both_ways)
    jax.block_until_ready(run(x, kernel))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(x, kernel))
        seconds.append(time.perf_counter() - start)
    return median(seconds)
