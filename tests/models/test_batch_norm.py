"""The one-pass BatchNorm against the plain formula in float64, differentiated by JAX, and against Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.models.batch_norm import BatchNorm, normalise


def plain(x, scale, bias, residual, relu, axis):
    """The textbook: normalise, scale, shift, add, ReLU; in the dtype of its arguments."""
    over = tuple(a for a in range(4) if a != axis)
    shape = [-1 if a == axis else 1 for a in range(4)]
    centred = x - x.mean(over, keepdims=True)
    y = centred / jnp.sqrt((centred**2).mean(over, keepdims=True) + 1e-5) * scale.reshape(shape) + bias.reshape(shape)
    y = y if residual is None else y + residual
    return jnp.maximum(y, 0.0) if relu else y


def arguments(axis, *, with_residual, dtype=np.float32):
    draw = np.random.default_rng(0)
    shape = [5, 4, 3, 6]
    channels = shape[axis]
    x, residual, weight = (draw.normal(size=shape).astype(dtype) for _ in range(3))
    scale, bias = draw.normal(size=(2, channels)).astype(np.float32)
    return x + dtype(3), scale, bias, residual if with_residual else None, weight


def in_float64(x, scale, bias, residual, weight, relu, axis):
    """Value and gradients of `sum(weight * plain(...))`."""
    with jax.enable_x64(True):
        given = {"x": x, "scale": scale, "bias": bias} | ({} if residual is None else {"residual": residual})
        given = {name: jnp.asarray(np.asarray(value, np.float64)) for name, value in given.items()}

        def total(given):
            y = plain(given["x"], given["scale"], given["bias"], given.get("residual"), relu, axis)
            return (y * np.asarray(weight, np.float64)).sum(), y

        grads, y = jax.jit(jax.grad(total, has_aux=True))(given)
        return np.asarray(y), {name: np.asarray(grad) for name, grad in grads.items()}


def relative(found, wanted):
    return np.linalg.norm(np.asarray(found, np.float64) - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("axis", [0, 3])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_values_and_gradients(axis, with_residual, relu):
    x, scale, bias, residual, weight = arguments(axis, with_residual=with_residual)

    def total(given):
        around = jnp.full(scale.shape, 2.5)
        y, stats = normalise(given["x"], given["scale"], given["bias"], around, given.get("residual"), relu, 1e-5, axis)
        return (y * weight).sum(), (y, stats)

    given = {"x": x, "scale": scale, "bias": bias} | ({"residual": residual} if with_residual else {})
    grads, (y, stats) = jax.jit(jax.grad(total, has_aux=True))(jax.tree.map(jnp.asarray, given))
    wanted, wanted_grads = in_float64(x, scale, bias, residual, weight, relu, axis)
    over = tuple(a for a in range(4) if a != axis)
    assert relative(y, wanted) < 1e-6
    assert relative(stats.mean, x.astype(np.float64).mean(over)) < 1e-6
    assert relative(stats.variance, x.astype(np.float64).var(over)) < 1e-6
    assert set(grads) == set(wanted_grads)
    assert max(relative(grads[name], wanted_grads[name]) for name in grads) < 2e-6


def test_half_precision_keeps_dtypes_and_accumulates_wide():
    x, scale, bias, _, weight = (
        None if a is None else jnp.asarray(a) for a in arguments(3, with_residual=False, dtype=np.float16)
    )

    def total(x):
        y, stats = normalise(x, scale, bias, jnp.zeros(scale.shape), None, True, 1e-5, 3)
        return (y * weight).astype(jnp.float32).sum(), (y, stats)

    grad, (y, stats) = jax.grad(total, has_aux=True)(x)
    wanted, wanted_grads = in_float64(x, scale, bias, None, weight, True, 3)
    assert (y.dtype, grad.dtype, stats.variance.dtype) == (jnp.float16, jnp.float16, jnp.float32)
    assert relative(y, wanted) < 5e-4
    assert relative(grad, wanted_grads["x"]) < 1e-3


def test_statistics_do_not_cancel_when_the_mean_is_large():
    x = (1000 + np.random.default_rng(0).normal(size=(64, 4, 4, 2))).astype(np.float32)
    _, stats = normalise(jnp.asarray(x), jnp.ones(2), jnp.zeros(2), jnp.full(2, 1000.0), None, False, 1e-5, 3)
    np.testing.assert_allclose(stats.variance, x.astype(np.float64).var((0, 1, 2)), rtol=1e-5)


def test_the_module_moves_its_statistics_as_pytorch_does():
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(4, 3, 3, 5)).astype(np.float32)
    module = BatchNorm(relu=False)
    variables = module.init(jax.random.key(0), x, train=True)
    assert float(jnp.abs(variables["batch_stats"]["mean"]).max()) == 0.0
    _, moved = module.apply(variables, x, train=True, mutable="batch_stats")
    wide = x.astype(np.float64).reshape(-1, 5)
    np.testing.assert_allclose(moved["batch_stats"]["mean"], 0.1 * wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moved["batch_stats"]["var"], 0.9 + 0.1 * wide.var(0, ddof=1), rtol=1e-5)


def test_the_module_is_flax_batch_norm_and_relu():
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 5)).astype(np.float32)
    theirs = nn.BatchNorm(use_running_average=False)
    variables = theirs.init(jax.random.key(0), x)
    wanted, _ = theirs.apply(variables, x, mutable="batch_stats")
    (found,), _ = BatchNorm().apply(variables, x, train=True, mutable="batch_stats")
    np.testing.assert_allclose(found, np.maximum(wanted, 0.0), atol=1e-5)
    evaluated = nn.BatchNorm(use_running_average=True).apply(variables, x)
    np.testing.assert_allclose(BatchNorm().apply(variables, x, train=False)[0], np.maximum(evaluated, 0), atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_parts_are_the_whole(train):
    draw = np.random.default_rng(0)
    x, residual = draw.normal(size=(2, 4, 3, 3, 6)).astype(np.float32)
    module = BatchNorm()
    variables = module.init(jax.random.key(0), x, train=True)
    call = {"train": train, "mutable": "batch_stats"}
    (whole,), stats = module.apply(variables, x, residuals=(residual,), **call)
    parts = (x[..., :4], x[..., 4:]), (residual[..., :4], residual[..., 4:])
    in_two, same = module.apply(variables, *parts[0], residuals=parts[1], **call)
    np.testing.assert_allclose(np.concatenate(in_two, axis=3), whole, rtol=1e-6)
    np.testing.assert_allclose(same["batch_stats"]["var"], stats["batch_stats"]["var"], rtol=1e-6)


@pytest.mark.parametrize("channel_axis", [0, 3])
def test_no_examples_have_no_statistics(channel_axis):
    layer, empty = BatchNorm(channel_axis=channel_axis), np.zeros((3, 2, 0, 3), np.float32)
    variables = layer.init(jax.random.key(0), np.zeros((3, 2, 1, 3), np.float32), train=False)
    with pytest.raises(ValueError, match="nothing in them to take statistics of"):
        layer.apply(variables, empty, train=True, mutable=["batch_stats"])


def test_arrays_without_four_axes_are_refused():
    with pytest.raises(ValueError, match="four axes"):
        BatchNorm().init(jax.random.key(0), np.zeros((4, 3), np.float32), train=True)
