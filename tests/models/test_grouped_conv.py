"""Every formulation of grouped convolution against loops in float64, forward and backward."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.models.grouped_conv import (
    FORMULATIONS,
    GroupedConv,
    choose_formulation,
    grouped_conv,
    measure_formulations,
)
from jaxrecipe.models.stencil import LEAST_UNROLLED_ROWS

LAYOUTS = ("NHWC", "CHWN")


def loops(x, kernel, groups, stride):
    """Outputs in NHWC, one kernel position at a time, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    out, places = empty_outputs(x, kernel, stride), positions(x, kernel, stride)
    for (row, column), where in places:
        for inputs, outputs in group_slices(kernel, groups):
            out[..., outputs] += padded(x, kernel)[where][..., inputs] @ kernel[row, column][:, outputs]
    return out


def loop_gradients(x, kernel, grad, groups, stride):
    """Gradients of the inputs and the kernel, given that of the outputs: the adjoint of `loops`, written out."""
    x, kernel, grad = (np.asarray(a, np.float64) for a in (x, kernel, grad))
    inside, grad_kernel = padded(x, kernel), np.zeros_like(kernel)
    grad_padded = np.zeros_like(inside)
    for (row, column), where in positions(x, kernel, stride):
        for inputs, outputs in group_slices(kernel, groups):
            grad_padded[where][..., inputs] += grad[..., outputs] @ kernel[row, column][:, outputs].T
            grad_kernel[row, column][:, outputs] = np.einsum(
                "bhwi,bhwo->io", inside[where][..., inputs], grad[..., outputs]
            )
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    return grad_padded[:, rows : rows + x.shape[1], columns : columns + x.shape[2]], grad_kernel


def padded(x, kernel):
    return np.pad(x, ((0, 0), (kernel.shape[0] // 2,) * 2, (kernel.shape[1] // 2,) * 2, (0, 0)))


def sizes(x, kernel, stride):
    return [(n + 2 * (k // 2) - k) // stride + 1 for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)]


def empty_outputs(x, kernel, stride):
    return np.zeros((x.shape[0], *sizes(x, kernel, stride), kernel.shape[3]))


def positions(x, kernel, stride):
    height, width = sizes(x, kernel, stride)
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            where = np.s_[
                :, row : row + (height - 1) * stride + 1 : stride, column : column + (width - 1) * stride + 1 : stride
            ]
            yield (row, column), where


def group_slices(kernel, groups):
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    return [(slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)) for g in range(groups)]


def make(shape, groups, outputs, kernel_size=(3, 3), dtype=np.float32):
    draw = np.random.default_rng(0)
    x = draw.normal(size=shape).astype(dtype)
    kernel = draw.normal(size=(*kernel_size, shape[3] // groups, outputs)).astype(dtype)
    return x, kernel


def both_ways(x, kernel, **options):
    """Outputs, and gradients for a random gradient of the outputs; in NHWC whatever the layout."""
    inner = options.get("layout") == "CHWN"

    def convolve(x, kernel):
        y = grouped_conv(x.transpose(3, 1, 2, 0) if inner else x, kernel, **options)
        return y.transpose(3, 1, 2, 0) if inner else y

    @jax.jit
    def run(x, kernel, grad):
        outputs, pull_back = jax.vjp(convolve, x, kernel)
        return outputs, *pull_back(grad.astype(outputs.dtype))

    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    shape = jax.eval_shape(convolve, x, kernel).shape
    grad = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return grad, [np.asarray(a, np.float64) for a in run(x, kernel, grad)]


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


CASES = {
    "unrolled rows": {"shape": (4, LEAST_UNROLLED_ROWS, 8, 12), "groups": 4, "outputs": 8, "stride": 1},
    "stride": {"shape": (2, 8, 8, 6), "groups": 2, "outputs": 4, "stride": 2},
    "odd size, stride": {"shape": (3, 7, 5, 4), "groups": 4, "outputs": 8, "stride": 2},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_each_formulation_is_the_loop_and_its_adjoint(formulation, layout, case):
    shape, groups, outputs, stride = CASES[case].values()
    x, kernel = make(shape, groups, outputs)
    grad, found = both_ways(x, kernel, groups=groups, stride=stride, layout=layout, formulation=formulation)
    wanted = (loops(x, kernel, groups, stride), *loop_gradients(x, kernel, grad, groups, stride))
    assert [relative(f, w) for f, w in zip(found, wanted, strict=True)] == pytest.approx([0, 0, 0], abs=2e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_kernel_that_is_not_square(formulation):
    x, kernel = make((2, 6, 6, 4), 2, 4, kernel_size=(1, 5))
    grad, found = both_ways(x, kernel, groups=2, formulation=formulation)
    wanted = (loops(x, kernel, 2, 1), *loop_gradients(x, kernel, grad, 2, 1))
    assert [relative(f, w) for f, w in zip(found, wanted, strict=True)] == pytest.approx([0, 0, 0], abs=2e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("formulation", ["shifted_sums", "patch_products", "block_dense"])
def test_half_precision_sums_in_float32(formulation, dtype):
    """Within one rounding step of the format, whatever the number of terms."""
    x, kernel = make((4, 8, 8, 12), 2, 12, dtype=jnp.dtype(dtype))
    grad, found = both_ways(x, kernel, groups=2, layout="CHWN", formulation=formulation)
    grad = np.asarray(grad.astype(jnp.dtype(dtype)), np.float64)
    wanted = (loops(x, kernel, 2, 1), *loop_gradients(x, kernel, grad, 2, 1))
    step = float(jnp.finfo(dtype).eps)
    assert max(relative(f, w) for f, w in zip(found, wanted, strict=True)) < step


def test_the_choice_without_an_argument_is_one_of_them():
    x, kernel = make((16, 8, 8, 12), 4, 8)
    _, found = both_ways(x, kernel, groups=4, layout="CHWN")
    assert relative(found[0], loops(x, kernel, 4, 1)) < 2e-6


def test_choices_by_backend_and_shape():
    assert choose_formulation(inputs=128, groups=32, batch=128, backend="gpu") == "native"
    assert choose_formulation(inputs=64, groups=1, batch=128, backend="cpu") == "native"
    assert choose_formulation(inputs=96, groups=32, batch=4, layout="CHWN", backend="cpu") == "block_dense"
    assert choose_formulation(inputs=96, groups=32, batch=32, layout="CHWN", backend="cpu") == "shifted_sums"
    assert choose_formulation(inputs=768, groups=32, batch=32, layout="CHWN", backend="cpu") == "patch_products"


def test_every_mistake_is_named_at_once():
    x, kernel = jnp.zeros((2, 4, 4, 6)), jnp.zeros((2, 3, 2, 5), jnp.bfloat16)
    with pytest.raises(ValueError, match=r"2×3.*6 channels do not make 2 groups.*5 outputs.*float32.*bfloat16"):
        grouped_conv(x, kernel, groups=2)


@pytest.mark.parametrize("use_bias", [False, True])
def test_the_module_takes_the_parameters_of_flax_conv(use_bias):
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype(np.float32)
    theirs = nn.Conv(12, (3, 3), strides=2, padding=1, feature_group_count=4, use_bias=use_bias)
    ours = GroupedConv(12, 4, stride=2, use_bias=use_bias)
    variables = theirs.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5)
    own = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, variables)


def test_dtypes_of_the_module():
    x = np.ones((1, 4, 4, 4), np.float32)
    module = GroupedConv(4, 2, dtype=jnp.bfloat16, param_dtype=jnp.float32)
    variables = module.init(jax.random.key(0), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert module.apply(variables, x).dtype == jnp.bfloat16


def test_measuring_orders_what_it_timed():
    seconds = measure_formulations((4, 4, 4, 4), groups=2, candidates=("native", "split"), repeats=1)
    assert set(seconds) == {"native", "split"}
    assert list(seconds.values()) == sorted(seconds.values())
