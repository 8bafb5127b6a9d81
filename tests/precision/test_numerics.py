"""Exponents, shares and advice against numpy in float64, and inner gradients against hand-made ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.precision import numerics
from jaxrecipe.precision.activations import activation_shapes, watched
from jaxrecipe.precision.numerics import HIGHEST, LOWEST, advise, exponents, shares, survey
from jaxrecipe.probes.exponent_map import exponent_map

few = settings(max_examples=25, deadline=None)
FLOAT32 = st.floats(width=32, allow_nan=True, allow_infinity=True)


@few
@given(st.lists(FLOAT32, min_size=1, max_size=30))
def test_exponents_agree_with_numpy_to_the_last_subnormal(numbers):
    values = np.asarray(numbers, np.float32)
    found = exponents({"w": values})
    usable = values[np.isfinite(values) & (values != 0)].astype(np.float64)
    wanted = np.bincount(np.frexp(np.abs(usable))[1] - 1 - LOWEST, minlength=HIGHEST - LOWEST + 1)
    np.testing.assert_array_equal(found.counts[0], wanted)
    assert found.zeros[0] == (values == 0).sum()
    assert found.nonfinite[0] == (~np.isfinite(values)).sum()


def test_exponents_name_floating_leaves_only():
    tree = {"a": {"b": jnp.ones(3, jnp.bfloat16)}, "n": jnp.int32(1), "key": jax.random.key(0)}
    found = exponents(tree)
    assert found.names == ("a/b",)
    assert (found.highest, found.lowest) == (0, 0)
    assert exponents({"w": jnp.zeros(2)}).highest is None


@few
@given(
    st.lists(st.floats(-60, 40, width=32).map(lambda e: 2.0**e), min_size=1, max_size=20),
    st.integers(-10, 24),
    st.sampled_from(["float16", "bfloat16"]),
)
def test_shares_agree_with_really_casting(numbers, exponent, dtype):
    values = np.asarray(numbers, np.float32)
    found = shares(exponents({"w": values}), dtype, scale=2.0**exponent)
    scaled = values.astype(np.float64) * 2.0**exponent
    # Numbers next to infinity, and exactly half the smallest, are the two that a histogram of exponents cannot tell.
    with np.errstate(over="ignore"):
        cast = scaled.astype(np.dtype(dtype)).astype(np.float64)
    smallest = float(ml_dtypes.finfo(dtype).smallest_subnormal)
    doubtful = (scaled > float(ml_dtypes.finfo(dtype).max)) & (scaled < 2.0 ** ml_dtypes.finfo(dtype).maxexp)
    doubtful |= scaled == smallest / 2
    assert abs(found.overflow[0] - np.isinf(cast).mean()) <= doubtful.mean() + 1e-9
    assert abs(found.underflow[0] - (cast == 0).mean()) <= doubtful.mean() + 1e-9
    normal = float(ml_dtypes.finfo(dtype).smallest_normal)
    between = ((scaled < normal) & (scaled >= smallest / 2)).mean()
    assert abs(found.subnormal[0] - between) <= 1e-9


@pytest.mark.parametrize("scale", [3.0, 0.0, 1000.0])
def test_scales_that_are_no_powers_of_two_are_refused(scale):
    with pytest.raises(ValueError, match="power of two"):
        shares(exponents({"w": jnp.ones(1)}), "float16", scale=scale)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(4)(x))
        return nn.Dense(2)(x)


X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)


def net_loss(params, x):
    return jnp.square(Net().apply({"params": params}, x)).mean()


def test_gradients_of_activations_are_those_derived_by_hand():
    params = Net().init(jax.random.key(0), X)["params"]
    found = survey(net_loss, params, X)
    hidden = X @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    outputs = jax.nn.relu(hidden) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    by_output = 2 * outputs / outputs.size
    by_hidden = jnp.where(hidden > 0, by_output @ params["Dense_1"]["kernel"].T, 0.0)
    wanted = exponents({"Dense_0/kernel": by_hidden, "Dense_1/kernel": by_output})
    inner = found.activation_gradients
    assert sorted(inner.names) == ["Dense_0/kernel", "Dense_1/kernel"]
    for name in inner.names:
        ours, theirs = inner.names.index(name), wanted.names.index(name)
        # A number at the very edge of a binade may round to the other side.
        assert np.abs(inner.counts[ours] - wanted.counts[theirs]).sum() <= 2
        assert inner.zeros[ours] == wanted.zeros[theirs]
    grads = exponents(jax.grad(net_loss)(params, X))
    assert found.gradients.names == grads.names
    assert np.abs(found.gradients.counts - grads.counts).sum() <= 4
    assert found.activations.counts.sum() == 8 * 4 + 8 * 2


def test_watching_changes_no_result():
    params = Net().init(jax.random.key(0), X)["params"]
    run = watched(net_loss, params, X)
    np.testing.assert_allclose(run(lambda _, value: value), net_loss(params, X), rtol=1e-6)
    assert float(run(lambda _, value: value * 0)) != float(net_loss(params, X))


def test_names_in_nnx_plain_functions_and_inside_jit_and_checkpoint():
    layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)
    shapes = activation_shapes(watched(lambda state, x: nnx.merge(graph, state)(x).sum(), state, X))
    assert list(shapes) == ["kernel"]

    @jax.jit
    @jax.checkpoint
    def inner(params, x):
        return (x @ params["first"].astype(jnp.bfloat16).T.astype(jnp.float32)) @ params["second"]

    params = {"first": jnp.ones((4, 3)), "second": jnp.ones((4, 2))}
    shapes = activation_shapes(watched(lambda p, x: inner(p, x).sum() + (x.T @ x).sum() + inner(p, x).sum(), params, X))
    assert list(shapes) == ["first", "second", "product", "first#2", "second#2"]
    assert shapes["first"].shape == (8, 4)


def test_functions_with_their_own_derivative_scan_and_cond_still_differentiate():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (3 * g,))

    def loss(params, x):
        y = double(x @ params["w"])
        y, _ = jax.lax.scan(lambda c, _: (jnp.tanh(c @ params["v"]), None), y, None, length=3)
        y = jax.lax.cond(y.sum() > 0, jnp.sin, jnp.cos, y)
        return jax.nn.silu(jax.nn.log_softmax(y)).sum()

    params = {"w": jnp.full((3, 2), 0.1), "v": jnp.eye(2)}
    found = survey(loss, params, X)
    wanted = exponents(jax.grad(loss)(params, X))
    assert np.abs(found.gradients.counts - wanted.counts).sum() <= 2
    assert found.activation_gradients.names == ("w",)


def made_survey(**rows):
    found = exponents({name: jnp.asarray(values, jnp.float32) for name, values in rows.items()})
    return numerics.Survey(gradients=found, activation_gradients=found, activations=found)


@few
@given(
    st.lists(st.integers(-40, 10), min_size=1, max_size=6),
    st.integers(0, 6),
    st.sampled_from(["float16", "bfloat16"]),
)
def test_advised_scale_overflows_nothing_and_one_more_eats_the_headroom(powers, headroom, dtype):
    values = [1.5 * 2.0**power for power in powers]
    advice = advise(made_survey(w=values), dtype, headroom=headroom)
    largest = max(values) * advice.scale * 2.0**headroom
    assert largest <= float(ml_dtypes.finfo(dtype).max)
    if advice.scale not in (1.0, 2.0**24):
        assert largest * 2 > float(ml_dtypes.finfo(dtype).max)
    lost = [np.asarray(v * advice.scale).astype(np.dtype(dtype)) == 0 for v in values]
    assert advice.underflow == pytest.approx(np.mean(lost))


def test_bfloat16_needs_no_scale_and_float16_does():
    found = made_survey(small=[1e-9, 3e-7], large=[0.1])
    assert advise(found, "bfloat16").scale == 1.0
    advice = advise(found, "float16")
    assert advice.scale == 2.0**15
    assert advice.underflow_unscaled == 0.5
    assert advice.underflow == 0
    assert (advice.headroom, advice.worst) == (4, "small")


def test_advice_below_one_for_huge_gradients():
    assert advise(made_survey(w=[2.0**20, 2.0**10]), "float16").scale == 2.0**-9


@pytest.mark.parametrize(("values", "message"), [([np.nan, 1], "w"), ([0.0], "zero")])
def test_no_advice_where_no_scale_helps(values, message):
    with pytest.raises(ValueError, match=message):
        advise(made_survey(w=values), "float16")


def test_the_map_draws_the_range_and_every_layer():
    matrix = exponent_map(
        exponents({"a": jnp.asarray([1.0, 2.0, 2.0]), "b": jnp.asarray([2.0**-40])}), "float16", scale=16.0
    )
    columns = {int(name): matrix.values[:, index] for index, name in enumerate(matrix.column_names)}
    assert matrix.row_names == ("[float16 at scale 16]", "a", "b")
    assert matrix.values.shape == (3, len(matrix.column_names))
    np.testing.assert_allclose(columns[0], [1, 1 / 3, 0])
    np.testing.assert_allclose(columns[1], [1, 2 / 3, 0])
    np.testing.assert_allclose(columns[-40], [0, 0, 1])
    # Scale 16 moves float16's highest exponent 15 to 11, its lowest normal −14 to −18, and its lowest −25 to −29.
    assert [columns[e][0] for e in (11, -18, -19, -29, -30)] == [1, 1, 0.5, 0.5, 0]
    assert 12 not in columns
