"""Grouped convolution without matrices of zeros: shifted multiply-adds, and shifted patches times a small matrix.

Both work on activations laid out channels, height, width, batch ("CHWN"), seen as `[group, channel, height, width,
batch]`. With the batch innermost every shift, stride and padding moves whole vectors, the groups are slices of the
first axis, and a stride of 2 reads contiguous runs. Kernels are `[group, output, input, rows, columns]`; padding is
half the kernel on each side.

Each has a backward pass of its own: it keeps only inputs and kernel, never the patches. Sums of half-precision numbers
are taken in float32.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxrecipe.models.stored import stored

Grouped = Float[Array, "groups inputs height width batch"]
Outputs = Float[Array, "groups outputs out_height out_width batch"]
Kernels = Float[Array, "groups outputs inputs rows columns"]

Size = tuple[int, int]

UNROLLED_ROWS = 16
"""Most rows that one fused sum of the weight gradient spans."""
LEAST_UNROLLED_ROWS = 16
"""Below this many output rows the weight gradient is taken by matrix products instead: 0.06 s where the unrolled sum of
8 rows, 384 channels and a batch of 32 took 7 s."""
LANES = 16


def out_size(size: int, kernel: int, stride: int) -> int:
    """Rows (or columns) of the output of a convolution padded by half its kernel."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def taps(x: Grouped, kernel_size: Size, stride: int) -> list[Float[Array, "groups inputs tap_height tap_width batch"]]:
    """The input as each kernel position sees it, row by row: `rows * columns` arrays of the output's height and
    width.
    """
    rows, columns = kernel_size
    height, width = (out_size(size, k, stride) for size, k in zip(x.shape[2:4], kernel_size, strict=True))
    half = [(k // 2, k // 2) for k in kernel_size]
    # The barrier keeps what made x (BatchNorm, say) from being computed again for every tap.
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), (0, 0), *half, (0, 0))))

    def tap(row: int, column: int) -> Array:
        last = (row + (height - 1) * stride + 1, column + (width - 1) * stride + 1)
        return lax.slice(padded, (0, 0, row, column, 0), (*x.shape[:2], *last, x.shape[4]), (1, 1, stride, stride, 1))

    return [tap(row, column) for row in range(rows) for column in range(columns)]


def _size(kernel: Kernels) -> Size:
    return kernel.shape[3], kernel.shape[4]


def _weight(kernel: Kernels, position: tuple[int, int], channel: int) -> Float[Array, "groups outputs 1 1 1"]:
    return kernel[:, :, channel, position[0], position[1]][:, :, None, None, None]


def _positions(kernel: Kernels) -> list[tuple[int, int]]:
    return [(row, column) for row in range(kernel.shape[3]) for column in range(kernel.shape[4])]


def _multiply_add(x: Grouped, kernel: Kernels, stride: int) -> Outputs:
    """The forward pass as one elementwise expression: a term for each kernel position and input channel."""
    wide = np.promote_types(x.dtype, np.float32)
    kernel = kernel.astype(wide)
    terms = (
        _weight(kernel, position, channel) * tap[:, None, channel].astype(wide)
        for position, tap in zip(_positions(kernel), taps(x, _size(kernel), stride), strict=True)
        for channel in range(x.shape[1])
    )
    return sum(terms, start=next(terms)).astype(x.dtype)


def _sources(residue: int, kernel: int, stride: int) -> list[tuple[int, int]]:
    """Which kernel rows reach input rows `h` with `h % stride == residue`, and from which output row less `h //
    stride`.
    """
    shifted = ((row, residue + kernel // 2 - row) for row in range(kernel))
    return [(row, distance // stride) for row, distance in shifted if distance % stride == 0]


def _input_gradient(grad: Outputs, kernel: Kernels, stride: int, size: Size) -> Grouped:
    """Gradient of the input: one multiply-add expression for each residue of row and column, then woven together."""
    wide = np.promote_types(grad.dtype, np.float32)
    swapped = kernel.swapaxes(1, 2).astype(wide)
    groups, _, _, _, batch = grad.shape
    counts = [-(-length // stride) for length in size]
    margin = [k // 2 + 1 for k in kernel.shape[3:]]
    ends = [max(0, count + m - have) for count, m, have in zip(counts, margin, grad.shape[2:4], strict=True)]
    padded = lax.optimization_barrier(
        jnp.pad(grad, ((0, 0), (0, 0), (margin[0], ends[0]), (margin[1], ends[1]), (0, 0)))
    )

    def phase(row_residue: int, column_residue: int) -> Array:
        total = jnp.zeros((groups, swapped.shape[1], *counts, batch), wide)
        for row, row_offset in _sources(row_residue, kernel.shape[3], stride):
            for column, column_offset in _sources(column_residue, kernel.shape[4], stride):
                top, left = margin[0] + row_offset, margin[1] + column_offset
                tap = padded[:, :, top : top + counts[0], left : left + counts[1]]
                for channel in range(grad.shape[1]):
                    total = total + _weight(swapped, (row, column), channel) * tap[:, None, channel].astype(wide)
        return total.astype(grad.dtype)

    if stride == 1:
        return phase(0, 0)
    residues = range(stride)
    # The barrier keeps a phase one fused loop; without it each is recomputed inside the copy that weaves them.
    rows = [jnp.stack(lax.optimization_barrier([phase(a, b) for b in residues]), axis=4) for a in residues]
    woven = jnp.stack(rows, axis=3).reshape(groups, swapped.shape[1], counts[0] * stride, counts[1] * stride, batch)
    return woven[:, :, : size[0], : size[1]]


def _unrolled_weight_gradient(x: Grouped, grad: Outputs, kernel_size: Size, stride: int) -> Kernels:
    """Gradient of the kernels as sums over rows written out, so that columns and batch stay vector lanes until the
    end.
    """
    groups, outputs, height = grad.shape[:3]
    wide = np.promote_types(grad.dtype, np.float32)
    span = max(s for s in range(1, min(UNROLLED_ROWS, height // 2) + 1) if height % s == 0)

    def correlate(tap: Array) -> Float[Array, "groups outputs inputs"]:
        partial_sums = [
            sum(grad[:, :, None, start + k].astype(wide) * tap[:, None, :, start + k].astype(wide) for k in range(span))
            for start in range(0, height, span)
        ]
        lanes = jnp.stack(partial_sums, axis=3).reshape(groups, outputs, x.shape[1], -1, LANES)
        return lax.optimization_barrier(lanes).sum(axis=3).sum(axis=-1)

    sums = [correlate(tap) for tap in taps(x, kernel_size, stride)]
    return jnp.stack(sums, axis=-1).reshape(groups, outputs, x.shape[1], *kernel_size).astype(grad.dtype)


def _patch_matrix(x: Grouped, kernel_size: Size, stride: int) -> Float[Array, "groups patch positions"]:
    stacked = jnp.stack(taps(x, kernel_size, stride), axis=1)
    return stacked.reshape(x.shape[0], kernel_size[0] * kernel_size[1] * x.shape[1], -1)


def _matrix(kernel: Kernels) -> Float[Array, "groups outputs patch"]:
    groups, outputs = kernel.shape[:2]
    return kernel.transpose(0, 1, 3, 4, 2).reshape(groups, outputs, -1)


def _times_patches(x: Grouped, kernel: Kernels, stride: int) -> Outputs:
    size = _size(kernel)
    out = [out_size(length, k, stride) for length, k in zip(x.shape[2:4], size, strict=True)]
    product = lax.dot_general(_matrix(kernel), _patch_matrix(x, size, stride), (((2,), (1,)), ((0,), (0,))))
    return product.reshape(x.shape[0], kernel.shape[1], *out, x.shape[4])


def _patch_weight_gradient(x: Grouped, grad: Outputs, kernel_size: Size, stride: int) -> Kernels:
    """Gradient of the kernels as one matrix product for each group, over patches that are made again here."""
    groups, outputs = grad.shape[:2]
    flat = grad.reshape(groups, outputs, -1)
    product = lax.dot_general(flat, _patch_matrix(x, kernel_size, stride), (((2,), (2,)), ((0,), (0,))))
    return product.reshape(groups, outputs, *kernel_size, x.shape[1]).transpose(0, 1, 4, 2, 3)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_sums(x: Grouped, kernel: Kernels, stride: int) -> Outputs:
    """Grouped convolution as one fused expression of shifted multiply-adds; best for few channels a group.

    The expression has `rows * columns * inputs` terms: no zeros are multiplied and nothing is copied.
    """
    return stored(partial(_multiply_add, stride=stride), x, kernel)


def _shifted_sums_forward(x: Grouped, kernel: Kernels, stride: int) -> tuple[Outputs, tuple[Grouped, Kernels]]:
    return stored(partial(_multiply_add, stride=stride), x, kernel), (x, kernel)


def _shifted_sums_backward(stride: int, kept: tuple[Grouped, Kernels], grad: Outputs) -> tuple[Grouped, Kernels]:
    x, kernel = kept
    grad = lax.optimization_barrier(grad)
    size = _size(kernel)
    _, _, height, width, batch = grad.shape
    unrolls = height >= LEAST_UNROLLED_ROWS and (height * width * batch) % (LANES * height) == 0 and height % 2 == 0
    weight_gradient = _unrolled_weight_gradient if unrolls else _patch_weight_gradient
    input_gradient = partial(_input_gradient, stride=stride, size=(x.shape[2], x.shape[3]))
    return stored(input_gradient, grad, kernel), weight_gradient(x, grad, size, stride)


shifted_sums.defvjp(_shifted_sums_forward, _shifted_sums_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def patch_products(x: Grouped, kernel: Kernels, stride: int) -> Outputs:
    """Grouped convolution as a batched matrix product of kernels and shifted patches; best for many channels a
    group.
    """
    return _times_patches(x, kernel, stride)


def _patch_products_forward(x: Grouped, kernel: Kernels, stride: int) -> tuple[Outputs, tuple[Grouped, Kernels]]:
    return _times_patches(x, kernel, stride), (x, kernel)


def _patch_products_backward(stride: int, kept: tuple[Grouped, Kernels], grad: Outputs) -> tuple[Grouped, Kernels]:
    x, kernel = kept
    _, pull_back = jax.vjp(lambda inputs: _times_patches(inputs, kernel, stride), x)
    return pull_back(grad)[0], _patch_weight_gradient(x, grad, _size(kernel), stride)


patch_products.defvjp(_patch_products_forward, _patch_products_backward)
