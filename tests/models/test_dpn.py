"""DPN: parameter counts, and values and gradients against the plain network (with concatenation) in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrecipe.models.dpn import DPN, DPN26, DPN92, DPNConfig

SMALL = DPNConfig(
    blocks=(1, 2), bottleneck=(8, 16), residual=(12, 16), dense=(4, 6), strides=(1, 2), groups=4, stem=8, classes=5
)


def conv(x, kernel, *, stride=1, groups=1):
    kernel = kernel.reshape((1, 1, *kernel.shape)) if kernel.ndim == 2 else kernel
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


def norm(x, params):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * params["scale"] + params["bias"]


def plain_block(x, params, residual, groups, stride):
    """The block as the paper draws it: one array, split and concatenated."""
    out = nn.relu(norm(conv(x, params["reduce"]["kernel"]), params["reduce_norm"]))
    out = nn.relu(norm(conv(out, params["grouped"]["kernel"], stride=stride, groups=groups), params["grouped_norm"]))
    out = norm(conv(out, params["expand"]["kernel"]), params["expand_norm"])
    if "shortcut" in params:
        x = norm(conv(x, params["shortcut"]["kernel"], stride=stride), params["shortcut_norm"])
    added = x[..., :residual] + out[..., :residual]
    return nn.relu(jnp.concatenate([added, x[..., residual:], out[..., residual:]], axis=3))


def plain_dpn(config, params, images):
    x = nn.relu(norm(conv(images, params["stem"]["kernel"]), params["stem_norm"]))
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            stride = config.strides[stage] if block == 0 else 1
            own = params[f"stage{stage + 1}_block{block + 1}"]
            x = plain_block(x, own, config.residual[stage], config.groups, stride)
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables(images):
    """Drawn here, with scales and biases that are not 1 and 0, so that exchanging them would show."""
    shapes = jax.eval_shape(DPN(SMALL).init, jax.random.key(0), images)
    draw = np.random.default_rng(1)

    def leaf(path, shape):
        inputs = int(np.prod(shape.shape[:-1])) if len(shape.shape) > 1 else 10
        values = draw.normal(size=shape.shape) / np.sqrt(inputs)
        return jnp.asarray(values + (jax.tree_util.keystr(path[-1:]) in ("['scale']", "['var']")), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture(scope="module")
def wanted(images, variables):
    """Outputs and parameter gradients of the plain network in float64."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
        run = jax.jit(jax.value_and_grad(lambda params, x: score(plain_dpn(SMALL, params, x)), has_aux=True))
        (_, outputs), grads = run(params, images.astype(np.float64))
        return np.asarray(outputs), jax.tree.map(np.asarray, grads)


def score(outputs):
    outputs = outputs.astype(np.promote_types(outputs.dtype, np.float32))
    weights = jnp.arange(outputs.size, dtype=outputs.dtype).reshape(outputs.shape) % 7 - 3
    return (outputs * weights).mean(), outputs


def value_and_grads(model, variables, images):
    def loss(params):
        outputs, moved = model.apply({**variables, "params": params}, images, train=True, mutable="batch_stats")
        value, outputs = score(outputs)
        return value, (outputs, moved["batch_stats"])

    (_, (outputs, moved)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return outputs, grads, moved


def relative(found, wanted):
    return np.linalg.norm(np.asarray(found, np.float64) - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(("config", "millions"), [(DPN26, 11.574842), (DPN92, 34.236634)])
def test_parameter_counts(config, millions):
    shapes = jax.eval_shape(DPN(config).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"])) == millions * 1e6


def test_its_blocks_are_those_of_the_configuration():
    shapes = jax.eval_shape(DPN(DPN92).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert sum(name.startswith("stage") for name in shapes) == 3 + 4 + 20 + 3
    assert shapes["stage4_block1"]["reduce"]["kernel"].shape == (1024 + 21 * 24, 768)
    assert shapes["head"]["kernel"].shape == (2048 + 4 * 128, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "formulation"), [("NHWC", None), ("CHWN", None), ("NHWC", "native"), ("CHWN", ("patch_products", None))]
)
def test_values_and_every_gradient(layout, formulation, images, variables, wanted):
    model = DPN(SMALL, layout=layout, formulation=formulation)
    outputs, grads, _ = value_and_grads(model, variables, images)
    assert relative(outputs, wanted[0]) < 1e-5
    assert max(jax.tree.leaves(jax.tree.map(relative, grads, wanted[1]))) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "loose"), [(jnp.bfloat16, 0.05), (jnp.float16, 0.01)])
def test_half_precision(dtype, loose, images, variables, wanted):
    """Computes in half, keeps parameters, gradients and statistics in float32."""
    outputs, grads, moved = value_and_grads(DPN(SMALL, dtype=dtype), variables, images)
    assert {leaf.dtype for leaf in jax.tree.leaves((grads, moved))} == {np.dtype("float32")}
    assert relative(outputs, wanted[0]) < loose


def test_training_moves_the_statistics_and_evaluation_uses_them(images, variables):
    model = DPN(SMALL)
    trained, moved = jax.jit(lambda v: model.apply(v, images, train=True, mutable="batch_stats"))(variables)
    changed = jax.tree.map(lambda a, b: bool((a != b).all()), variables["batch_stats"], moved["batch_stats"])
    assert all(jax.tree.leaves(changed))
    evaluated = jax.jit(lambda v: model.apply(v, images))(variables)
    assert float(jnp.abs(trained - evaluated).max()) > 0.01
    alone = jax.jit(lambda v: model.apply(v, images[3:4]))(variables)
    np.testing.assert_allclose(alone[0], evaluated[3], rtol=1e-4, atol=1e-5)


def test_parameter_dtype(images):
    shapes = jax.eval_shape(DPN(SMALL, param_dtype=jnp.bfloat16).init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes["params"])} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes["batch_stats"])} == {jnp.dtype("float32")}


def test_a_configuration_that_cannot_be():
    with pytest.raises(ValueError, match="as many entries"):
        DPNConfig(blocks=(1, 2))
    with pytest.raises(ValueError, match=r"\[100\] cannot be divided among 32 groups"):
        DPNConfig(bottleneck=(96, 192, 384, 100))
    with pytest.raises(ValueError, match="3 formulations for 2 stages"):
        DPN(SMALL, formulation=("native",) * 3).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_images_of_whole_numbers_are_refused_because_they_would_round_the_kernels():
    model, key = DPN(SMALL), jax.random.key(0)
    with pytest.raises(TypeError, match="uint8, which would round the kernel"):
        model.init(key, np.zeros((2, 8, 8, 3), np.uint8))
    converted = DPN(SMALL, dtype=jnp.float32)
    whole = np.full((2, 8, 8, 3), 200, np.uint8)
    variables = converted.init(key, whole)
    np.testing.assert_array_equal(
        converted.apply(variables, whole), converted.apply(variables, whole.astype(np.float32))
    )


def test_images_without_a_batch_axis_are_refused():
    with pytest.raises(ValueError, match=r"wanted \[batch, height, width, channels\]"):
        DPN(SMALL).init(jax.random.key(0), np.zeros((8, 8, 3), np.float32))
