"""Counters of schedules, and updates at other counts, against the schedules themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.probes.schedules import has_schedule, schedule_counters, update_probe, with_counters

PARAMS = {"w": jnp.ones(3, jnp.float32)}
GRADIENTS = {"w": jnp.array([1.0, -2.0, 0.5], jnp.float32)}
SCHEDULE = optax.warmup_cosine_decay_schedule(0.1, 1.0, 10, 100)


@pytest.mark.parametrize(
    ("optimizer", "count"),
    [
        (optax.adam(1e-3), 0),
        (optax.adam(SCHEDULE), 1),
        (optax.MultiSteps(optax.adam(1e-3), 2), 0),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(SCHEDULE)), 1),
    ],
)
def test_counters_are_those_of_schedules_only(optimizer: Any, count: int) -> None:
    with jax.numpy_dtype_promotion("standard"):
        assert len(schedule_counters(optimizer.init(PARAMS))) == count


def test_counters_beside_hyperparameters() -> None:
    with jax.numpy_dtype_promotion("standard"):
        state: Any = optax.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE).init(PARAMS)
    found = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    named = {found[index] for index in schedule_counters(state)}
    assert named
    assert not any("inner_state" in name for name in named)


def test_counters_are_set() -> None:
    state = optax.sgd(SCHEDULE).init(PARAMS)
    moved = with_counters(state, schedule_counters(state), 7)
    assert [int(leaf) for leaf in jax.tree.leaves(moved)] == [7]


@pytest.mark.parametrize("optimizer", [optax.sgd, optax.adam, optax.inject_hyperparams(optax.adam)])
def test_updates_follow_the_schedule(optimizer: Any) -> None:
    probe, counts = update_probe(optimizer(SCHEDULE)), (1, 10, 50, 99)
    sizes = np.array([float(probe(PARAMS, GRADIENTS, count, first=1.0).norm) for count in counts])
    wanted = np.array([float(np.asarray(SCHEDULE(count))) for count in counts])
    np.testing.assert_allclose(sizes / sizes[1], wanted / wanted[1], rtol=1e-4)


def test_an_update_is_that_of_plain_momentum() -> None:
    """First one gradient, then three: the trace holds both."""
    probe = update_probe(optax.sgd(0.1, momentum=0.9))
    np.testing.assert_allclose(
        probe(PARAMS, GRADIENTS, 1, first=1.0, second=3.0).updates["w"], -0.1 * 3.9 * GRADIENTS["w"], rtol=1e-6
    )
    np.testing.assert_allclose(probe(PARAMS, GRADIENTS, 0, second=3.0).updates["w"], -0.3 * GRADIENTS["w"], rtol=1e-6)


def test_whether_there_is_a_schedule() -> None:
    assert has_schedule(optax.adam(SCHEDULE), PARAMS)
    assert not has_schedule(optax.adam(1e-3), PARAMS)
