"""Steps at another rate, against an optimizer whose updates are scaled."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from jaxrecipe.probes.other_rates import other_start, step_at_rate
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task, three_parameters_task
from tests.zoo.modes import hand_loop


def after(setup: Setup, factor: float, steps: int = 3) -> list[np.ndarray]:
    state, take = setup.fresh_state(), step_at_rate(setup, factor)
    assert take is not None
    for step in range(steps):
        state = take(state, *setup.training_batch(step), jax.random.fold_in(setup.key, step))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(setup.loop.variables(state)[0])]


@pytest.mark.parametrize("make", [three_parameters_task, lambda: hand_loop(digits_task())], ids=["library", "own loop"])
@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_as_an_optimizer_with_scaled_updates(make: Any, factor: float) -> None:
    adam = optax.adam(1e-3)
    scaled = optax.chain(adam, optax.scale(factor))
    base: Task = make()
    own = hand_loop(base.replace(optimizer=scaled, loop=None)) if base.loop else base.replace(optimizer=scaled)
    plain = hand_loop(base.replace(optimizer=adam, loop=None)) if base.loop else base.replace(optimizer=adam)
    found, wanted = after(make_setup(plain), factor), after(make_setup(own), 1.0)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_state_whose_parameters_cannot_be_put_back() -> None:
    """Variables that are made anew from the state are not in it."""
    loop = hand_loop(digits_task()).loop
    assert loop is not None
    anew = lambda state: jax.tree.map(lambda leaf: leaf * 1.0, loop.variables(state))  # noqa: E731
    setup = make_setup(digits_task().replace(loop=type(loop)(init=loop.init, step=loop.step, variables=anew)))
    assert step_at_rate(setup, 0.1) is None
    assert step_at_rate(setup, 1.0) is not None


def test_other_starts_have_other_parameters() -> None:
    setup = make_setup(digits_task())
    own, same, other = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(setup.loop.variables(state)[0])])
        for state in (setup.fresh_state(), other_start(setup, 0), other_start(setup, 1))
    )
    assert np.array_equal(own, same)
    assert not np.array_equal(own, other)
