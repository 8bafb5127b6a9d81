"""Gradient parity: against numpy, and against what half precision is known to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe import trees
from jaxrecipe.precision.loss_scale import static_loss_scale
from jaxrecipe.precision.parity import float64_gradients, gradient_parity, parity

RNG = np.random.default_rng(0)
PARAMS = {
    "first": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32),
    "last": jnp.asarray(RNG.normal(size=(4,)), jnp.float32),
}
X = jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32)


def loss(params, x, size=1.0):
    return jnp.mean(jnp.tanh(x @ params["first"]) @ params["last"]).astype(jnp.float32) * jnp.float32(size)


def halved(dtype):
    return lambda params, x: loss(*trees.cast_floating((params, x), dtype))


def test_numbers_agree_with_numpy():
    ours, theirs = RNG.normal(size=(2, 50))
    found = parity({"w": ours}, {"w": theirs})["w"]
    assert found.cosine == pytest.approx(ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)))
    assert found.relative_error == pytest.approx(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    assert found.norm_ratio == pytest.approx(np.linalg.norm(ours) / np.linalg.norm(theirs))


def test_zero_and_not_finite():
    zero, one, nan = np.zeros(2), np.ones(2), np.asarray([1.0, np.nan])
    assert parity({"w": zero}, {"w": zero})["w"].relative_error == 0
    assert parity({"w": zero}, {"w": one})["w"].cosine == 0
    assert parity({"w": zero}, {"w": one})["w"].relative_error == 1
    assert parity({"w": one}, {"w": zero})["w"].relative_error == np.inf
    assert parity({"w": nan}, {"w": one})["w"].relative_error == np.inf


def test_tiny_gradients_still_have_a_direction():
    assert parity({"w": np.full(3, 1e-250)}, {"w": np.full(3, 2e-250)})["w"].cosine == pytest.approx(1)


def test_trees_that_differ_are_refused_with_all_offenders():
    with pytest.raises(ValueError, match="a, b"):
        parity({"a": np.ones(2), "b": np.ones(1)}, {"a": np.ones(3), "c": np.ones(1)})


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_half_is_as_near_as_its_digits_allow(dtype, bound):
    found = gradient_parity(halved(dtype), loss, PARAMS, X)
    assert set(found) == {"first", "last"}
    for layer in found.values():
        assert 0 < layer.relative_error < bound
        assert layer.cosine > 1 - bound


def test_a_scale_brings_back_what_float16_lost():
    """Gradients of about 1e-8 are zero in float16, and come back with a scale of 2**15."""

    def small(params, x):
        return jnp.mean(jnp.tanh(x @ params["first"]) @ params["last"] * jnp.asarray(1e-7, x.dtype)).astype(jnp.float32)

    def half(params, x):
        return small(*trees.cast_floating((params, x), jnp.float16))

    plain = gradient_parity(half, small, PARAMS, X)["first"]
    scaled = gradient_parity(half, small, PARAMS, X, loss_scale=static_loss_scale(2.0**15))["first"]
    assert plain.relative_error > 0.5
    # The constant 1e-7 itself is subnormal in float16, 20 % off: no scale repairs a forward pass.
    assert scaled.cosine > 0.9999
    assert abs(scaled.norm_ratio - 1) < 0.25


def test_float64_is_float64():
    grads = float64_gradients(loss, PARAMS, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {np.dtype(np.float64)}
    params, x = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree) for tree in (PARAMS, X))
    hidden = np.tanh(x @ params["first"])
    np.testing.assert_allclose(grads["last"], hidden.mean(axis=0), rtol=1e-12)
    by_hidden = np.outer(np.full(8, 1 / 8), params["last"]) * (1 - hidden**2)
    np.testing.assert_allclose(grads["first"], x.T @ by_hidden, rtol=1e-10)
    assert jnp.ones(1).dtype == jnp.float32
