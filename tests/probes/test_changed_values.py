"""Other values for what depends on them to show."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxrecipe.probes.changed_values import other_values, redrawn_zeros, replaced, revealing_parameters
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import digits_task

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=6)


@given(arrays.arrays(np.int32, SHAPES, elements=st.integers(-5, 9)))
def test_integers_become_others_that_occur(leaf: np.ndarray) -> None:
    """Every one of them, where there are three values or more."""
    new, values = other_values(leaf), np.unique(leaf)
    assert (new.shape, new.dtype) == (leaf.shape, leaf.dtype)
    if len(values) > 2:
        assert (new != leaf).all()
    if len(values) > 1:
        assert np.isin(new, values).all()


@given(arrays.arrays(np.float32, SHAPES, elements=st.floats(-100, 100, width=32)))
def test_numbers_all_move_by_about_their_spread(leaf: np.ndarray) -> None:
    new = other_values(leaf)
    assert (new.shape, new.dtype) == (leaf.shape, leaf.dtype)
    spread = float(leaf.astype(np.float64).std()) or max(float(np.abs(leaf).max()), 1.0)
    assert (np.abs(new.astype(np.float64) - leaf) > 0.9 * spread).all()


@given(st.sampled_from([np.bool_, np.int32, np.float32]), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
def test_what_is_replaced_differs_where_it_is_asked_and_nowhere_else(dtype: Any, size: int, at: int, seed: int) -> None:
    at %= size
    leaf = np.random.default_rng(seed).integers(0, 2, size=(size, 3)).astype(dtype)
    where = np.arange(size) == at
    new = replaced(leaf, where)
    assert new.dtype == leaf.dtype
    assert (new[where] != leaf[where]).any()
    np.testing.assert_array_equal(new[~where], leaf[~where])


@pytest.mark.parametrize("count", [2, 3, 8])
def test_equal_integers_do_not_stay_equal(count: int) -> None:
    """A permutation of the values would keep every equality, and hide a model that compares them."""
    leaf = np.random.default_rng(0).integers(0, count, size=(64, 8))
    new = other_values(leaf)
    before, after = (values[:, :, None] == values[:, None, :] for values in (leaf, new))
    assert (before != after).any(axis=(1, 2)).mean() > 0.8


def test_the_same_array_gets_the_same_values() -> None:
    leaf = np.random.default_rng(0).integers(0, 9, size=(20, 4))
    np.testing.assert_array_equal(other_values(leaf), other_values(leaf.copy()))


def test_zeros_are_drawn_and_nothing_else_changes() -> None:
    key = jax.random.key(0)
    params = {
        "zero": jnp.zeros((200, 50), jnp.float32),
        "small": jnp.full(40, 1e-4, jnp.float32),
        "one": jnp.ones(4, jnp.float32),
        "drawn": jnp.asarray([0.0, 0.5], jnp.float32),
        "count": jnp.zeros((), jnp.int32),
    }
    new = redrawn_zeros(params, key)
    for name in ("one", "drawn", "count"):
        np.testing.assert_array_equal(new[name], params[name])
    assert float(np.std(new["zero"])) == pytest.approx(200**-0.5, rel=0.05)
    assert float(np.ptp(new["small"])) > 0
    np.testing.assert_array_equal(redrawn_zeros(params, key)["zero"], new["zero"])


def test_they_are_drawn_once_for_a_set_up() -> None:
    setup = make_setup(digits_task())
    assert revealing_parameters(setup, setup.key) is revealing_parameters(setup, setup.key)
    other = revealing_parameters(setup, jax.random.key(5))
    assert other is not revealing_parameters(setup, setup.key)
