"""Tree helpers against plain Python and numpy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe import trees

few = settings(max_examples=25, deadline=None)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ODD = st.sampled_from([1.0, -2.5, 0.0, np.nan, np.inf, -np.inf])


def mixed():
    return {
        "weights": jnp.ones((2, 3), jnp.float32),
        "half": jnp.ones(2, jnp.bfloat16),
        "count": jnp.int32(3),
        "flag": jnp.bool_(True),
        "key": jax.random.key(7),
        "raw": np.zeros(2, np.uint8),
        "complex": jnp.ones(2, jnp.complex64),
    }


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", jnp.float16])
def test_cast_touches_floating_arrays_only(dtype):
    cast = trees.cast_floating({**mixed(), "python": 1.5, "none": None}, dtype)
    assert cast["weights"].dtype == cast["half"].dtype == jnp.dtype(dtype)
    assert cast["count"].dtype == jnp.int32
    assert cast["flag"].dtype == jnp.bool_
    assert cast["raw"].dtype == np.uint8
    assert cast["complex"].dtype == jnp.complex64
    assert jnp.issubdtype(cast["key"].dtype, jax.dtypes.prng_key)
    assert type(cast["python"]) is float
    assert cast["none"] is None


def test_cast_to_the_same_dtype_is_no_operation():
    tree = mixed()
    assert trees.cast_floating(tree, jnp.float32)["weights"] is tree["weights"]


def test_widen_brings_half_to_float32_and_nothing_else():
    wide = trees.widen(mixed())
    assert wide["half"].dtype == jnp.float32
    assert {name: wide[name].dtype for name in wide if name != "half"} == {
        name: leaf.dtype for name, leaf in mixed().items() if name != "half"
    }


@few
@given(st.lists(st.lists(ODD, min_size=1, max_size=4), max_size=4), st.sampled_from(["float16", "bfloat16", "float32"]))
def test_finite_agrees_with_numpy(rows, dtype):
    tree = [jnp.asarray(row, dtype) for row in rows]
    bad = [index for index, row in enumerate(rows) if not np.isfinite(row).all()]
    assert bool(jax.jit(trees.all_finite)(tree)) is (not bad)
    assert int(jax.jit(trees.first_nonfinite)(tree)) == (bad[0] if bad else -1)


def test_first_nonfinite_counts_as_paths_do():
    tree = {"a": jnp.int32(1), "b": {"c": jnp.ones(2), "d": jnp.asarray([1.0, np.nan])}, "key": jax.random.key(0)}
    assert trees.paths(tree)[int(trees.first_nonfinite(tree))] == "b/d"
    assert not trees.all_finite(tree)
    assert not trees.all_finite({"c": jnp.asarray([complex(1, np.inf)])})


@pytest.mark.parametrize("predicate", [True, False])
def test_select_keeps_keys_integers_and_dtypes(predicate):
    old = mixed()
    new = {**jax.tree.map(lambda leaf: leaf, old), "key": jax.random.key(8), "count": jnp.int32(4)}
    chosen = jax.jit(trees.select)(jnp.bool_(predicate), new, old)
    wanted = new if predicate else old
    for path, leaf in trees.named_leaves(chosen).items():
        other = wanted[path]
        assert leaf.dtype == other.dtype
        if path == "key":
            leaf, other = jax.random.key_data(leaf), jax.random.key_data(other)
        np.testing.assert_array_equal(leaf, other)


def test_select_takes_the_old_value_even_when_the_new_one_is_nan():
    chosen = trees.select(False, {"w": jnp.full(3, np.nan)}, {"w": jnp.arange(3.0)})
    np.testing.assert_array_equal(chosen["w"], [0, 1, 2])


def test_select_names_every_leaf_that_differs():
    old = {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.int32(0)}
    new = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(4), "c": jnp.int32(0)}
    with pytest.raises(
        ValueError, match=r"a, bfloat16\[2\] against float32\[2\]; b, float32\[4\] against float32\[3\]$"
    ):
        trees.select(True, new, old)
    with pytest.raises(ValueError, match="structure"):
        trees.select(True, {"a": 1}, {"b": 1})


@few
@given(st.lists(st.lists(st.floats(-50, 50, width=16), min_size=1, max_size=5), max_size=4), st.booleans())
def test_norm_is_added_up_in_float32(rows, half):
    tree = [jnp.asarray(row, jnp.float16 if half else jnp.float32) for row in rows]
    wanted = np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in tree))
    norm = trees.global_norm([*tree, jnp.int32(1000)])
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, wanted, rtol=1e-6)


def test_norm_of_large_half_numbers_does_not_overflow():
    np.testing.assert_allclose(trees.global_norm(jnp.full(100, 6e4, jnp.float16)), 6e4 * 10, rtol=1e-3)


def test_names_of_dicts_lists_dataclasses_and_nnx_variables():
    layers = nnx.List([nnx.Linear(2, 3, rngs=nnx.Rngs(0))])
    assert trees.paths({"Dense_0": {"kernel": 1}, "blocks": [1, (2, 3)]}) == [
        "Dense_0/kernel",
        "blocks/0",
        "blocks/1/0",
        "blocks/1/1",
    ]
    assert trees.paths(nnx.state(layers)) == ["0/bias", "0/kernel"]
    assert trees.paths(jnp.ones(2)) == [""]


def test_no_leaf_is_lost_when_short_names_clash():
    tree = {"a/b": 1, "a": {"b": 2}, "c": 3}
    assert sorted(trees.named_leaves(tree).values()) == [1, 2, 3]
    assert "c" in trees.paths(tree)


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("encoder/LayerNorm_0/scale", "LayerNorm_*", True),
        ("encoder/LayerNorm_0/scale", "scale", True),
        ("encoder/LayerNorm_0/scale", "*Norm*", True),
        ("encoder/LayerNorm_0/scale", "encoder/*", True),
        ("encoder/LayerNorm_0/scale", "encoder/*/scale", True),
        ("encoder/LayerNorm_0/scale", "Layer", False),
        ("encoder/LayerNorm_0/scale", "layernorm_0", False),
        ("encoder/LayerNorm_0/scale", "LayerNorm_0/scale", False),
        ("Dense_1/kernel", "Dense_[02]", False),
    ],
)
def test_matches(path, pattern, fits):
    assert trees.matches(path, pattern) is fits


def test_leading_size_names_the_offenders():
    assert trees.leading_size({"a": jnp.ones((5, 2)), "b": np.ones(5)}) == 5
    with pytest.raises(ValueError, match=r"a \[5\], b \[4, 2\], c \[\]"):
        trees.leading_size({"a": np.ones(5), "b": np.ones((4, 2)), "c": np.float32(1)})
    with pytest.raises(ValueError, match="without leaves"):
        trees.leading_size({})


def test_take_keeps_numpy_numpy_and_refuses_what_is_out_of_range():
    tree = {"host": np.arange(6).reshape(3, 2), "device": jnp.arange(3), "key": jax.random.split(jax.random.key(0), 3)}
    taken = trees.take(tree, [2, 0])
    assert type(taken["host"]) is np.ndarray
    np.testing.assert_array_equal(taken["host"], [[4, 5], [0, 1]])
    np.testing.assert_array_equal(taken["device"], [2, 0])
    assert taken["key"].shape == (2,)
    np.testing.assert_array_equal(jax.jit(trees.take)(jnp.arange(3), jnp.asarray([1])), [1])
    for index in (3, -4):
        with pytest.raises(IndexError, match=str(index)):
            trees.take(tree, [0, index])


def test_a_copy_may_be_donated():
    tree = {**mixed(), "name": "words stay"}
    arrays = {name: leaf for name, leaf in trees.copy(tree).items() if name != "name"}
    jax.block_until_ready(jax.jit(lambda given: given, donate_argnums=0)(arrays))
    np.testing.assert_array_equal(tree["weights"], np.ones((2, 3)))
    assert trees.copy(tree)["name"] == "words stay"


def test_bytes():
    tree = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": np.ones(3, np.int8), "key": jax.random.key(0), "n": 1}
    assert trees.nbytes(tree) == 12 + 3 + 8
    assert trees.nbytes(jax.ShapeDtypeStruct((1 << 20, 1 << 20), jnp.float32)) == 4 << 40


class Pair(NamedTuple):
    one: float
    two: float


def train_state(rate: float):
    return TrainState.create(apply_fn=lambda *_: None, params={"w": jnp.ones(2)}, tx=optax.adam(rate))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (train_state(0.1), train_state(0.2), True),
        ({"a": 1.0}, {"a": 2.0}, True),
        ({"a": 1.0}, {"b": 1.0}, False),
        ([1.0, 2.0], (1.0, 2.0), False),
        (Pair(1.0, 2.0), (1.0, 2.0), False),
        ({"a": None}, {"a": 1.0}, False),
        ({"a": {}}, {"a": ()}, False),
    ],
)
def test_same_form_looks_past_functions(left, right, same):
    """A Flax TrainState made twice holds other closures of the optimizer."""
    assert trees.same_form(left, right) is same
