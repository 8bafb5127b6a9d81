"""What differs between a leaf that was saved and one that came back, and what the leaf is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.checkpoint_round_trip.leaves import (
    CONSEQUENCES,
    compare_leaves,
    differing_leaves,
    in_own_memory,
)
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import batch_norm_task
from tests.zoo.loops import loop_with


def test_every_part_of_a_state_is_known() -> None:
    setup = make_setup(loop_with(batch_norm_task()))
    state = setup.fresh_state()
    parts = {leaf.path: leaf.part for leaf in compare_leaves(setup, state, state, state)}
    assert parts["step"] == "step counter"
    assert parts["key"] == "random key"
    for start, part in (("params/", "parameters"), ("opt/", "optimizer state"), ("average/", "averaged parameters")):
        assert {parts[path] for path in parts if path.startswith(start)} == {part}
    assert {parts[path] for path in parts if path.startswith("stats/")} == {"model state (batch statistics)"}
    assert set(parts.values()) <= set(CONSEQUENCES)


@pytest.mark.parametrize(
    ("back", "differs", "same_value", "other_type"),
    [
        (jnp.int32(4), False, True, False),
        (4, True, True, True),
        (np.int64(4), True, True, True),
        (jnp.int32(5), True, False, False),
        (jnp.zeros(2, jnp.int32), True, False, False),
    ],
)
def test_how_a_leaf_differs(back: Any, differs: bool, same_value: bool, other_type: bool) -> None:
    setup = make_setup(loop_with(batch_norm_task()))
    state = {**setup.fresh_state(), "step": jnp.int32(4)}
    template = setup.fresh_state()
    leaves = compare_leaves(setup, state, {**state, "step": back}, template)
    step = next(leaf for leaf in leaves if leaf.path == "step")
    assert (bool(step.difference), step.same_value, step.other_type) == (differs, same_value, other_type)
    assert not step.untouched
    assert sum(bool(leaf.difference) for leaf in leaves) == differs


def test_differing_leaves_are_counted_bit_by_bit() -> None:
    left = {"a": np.array([0.0, np.nan]), "b": np.ones(2), "key": jax.random.key(0)}
    assert differing_leaves(left, {**left, "a": np.array([0.0, np.nan])}) == 0
    assert differing_leaves(left, {"a": np.array([-0.0, np.nan]), "b": np.ones(2), "key": jax.random.key(1)}) == 2


def test_memory_of_its_own_keeps_dtype_and_value() -> None:
    key = jax.random.key(3)
    assert (jax.random.key_data(in_own_memory(key)) == jax.random.key_data(key)).all()
    array = jnp.arange(3, dtype=jnp.bfloat16)
    copied = in_own_memory(array)
    assert copied.dtype == array.dtype
    assert copied is not array
    assert in_own_memory("text") == "text"
