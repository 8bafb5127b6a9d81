"""The first steps are those of a loop by hand, and are taken once."""

import jax
import numpy as np
import optax
import pytest

from jaxrecipe.probes import first_steps as module
from jaxrecipe.probes.first_steps import (
    first_movement,
    first_steps,
    lightly_trained,
    mean_gradient,
    on_host,
    random_in_training,
    steps_of_other_variables,
    usual_gradient,
    vector,
)
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task, dropout_task, three_parameters_task
from tests.zoo.loops import loop_with


def plain(rate: float = 0.05) -> Task:
    return three_parameters_task().replace(optimizer=optax.sgd(rate))


def counted(setup: Setup) -> list[int]:
    """How often the set-up's step is taken from here on."""
    calls = [0]
    step = setup._step

    def counting(*given: object) -> object:
        calls[0] += 1
        return step(*given)

    object.__setattr__(setup, "_step", counting)
    return calls


def test_steps_are_those_of_gradient_descent_by_hand() -> None:
    """In float64, from the gradients of the loss alone."""
    setup = make_setup(plain())
    params = vector(setup.params)
    for step in first_steps(setup, setup.key, 4):
        np.testing.assert_allclose(vector(step.before[0]), params, rtol=1e-5)
        loss, gradient = mean_gradient(setup, step.before, step.batch, step.key)
        params = params - 0.05 * vector(gradient)
        np.testing.assert_allclose(vector(step.after[0]), params, rtol=1e-5)
        assert step.moved == pytest.approx(0.05 * np.linalg.norm(vector(gradient)), rel=1e-4)
        assert step.reported_loss == pytest.approx(loss, rel=1e-5)


def test_steps_are_taken_once_and_go_on_where_they_ended() -> None:
    setup = make_setup(plain())
    calls = counted(setup)
    few = list(first_steps(setup, setup.key, 3))
    many = list(first_steps(setup, setup.key, 5))
    assert [step.index for step in many] == [0, 1, 2, 3, 4]
    assert many[:3] == few
    assert calls[0] == 5
    list(first_steps(setup, jax.random.key(9), 2))
    assert calls[0] == 7


def test_two_readers_at_once_get_the_same_steps() -> None:
    setup = make_setup(plain())
    one, two = first_steps(setup, setup.key, 4), first_steps(setup, setup.key, 4)
    assert [a is b for a, b in zip(one, two, strict=True)] == [True] * 4


def test_steps_beyond_the_memory_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, again = make_setup(plain()), make_setup(plain())
    whole = [vector(step.after[0]) for step in first_steps(kept, kept.key, 4)]
    monkeypatch.setattr(module, "KEPT_BYTES", 30)
    calls = counted(again)
    for _ in range(2):
        np.testing.assert_array_equal([vector(step.after[0]) for step in first_steps(again, again.key, 4)], whole)
    assert calls[0] > 4


def test_the_first_movement() -> None:
    setup = make_setup(loop_with(digits_task(), "collects"))
    step = first_movement(setup, setup.key, 8)
    assert step is not None
    assert step.index == 2
    still = make_setup(loop_with(digits_task(), "thrown away"))
    assert first_movement(still, still.key, 3) is None


def test_other_variables() -> None:
    task = loop_with(digits_task())
    setup = make_setup(task)
    averages = list(steps_of_other_variables(setup, setup.key, 2, lambda state: (state["average"], state["stats"])))
    own = list(first_steps(setup, setup.key, 2))
    assert averages[0].moved == pytest.approx(0.1 * own[0].moved, rel=1e-4)


@pytest.mark.parametrize(("make", "random"), [(digits_task, False), (dropout_task, True)])
def test_randomness_in_training(make: object, random: bool) -> None:
    setup = make_setup(make())  # pyright: ignore[reportCallIssue]
    assert random_in_training(setup, setup.key) is random


def test_a_lightly_trained_state_is_that_of_the_first_steps_and_a_copy() -> None:
    setup = make_setup(plain())
    *_, last = first_steps(setup, setup.key, 10)
    state = lightly_trained(setup, setup.key)
    np.testing.assert_array_equal(vector(setup.loop.variables(state)[0]), vector(last.after[0]))
    jax.tree.map(lambda leaf: leaf.delete() if isinstance(leaf, jax.Array) else None, state)
    assert np.isfinite(vector(setup.loop.variables(lightly_trained(setup, setup.key))[0])).all()


def test_a_state_that_diverges_is_replaced_by_a_fresh_one() -> None:
    setup = make_setup(plain(1e30))
    state = lightly_trained(setup, setup.key)
    np.testing.assert_array_equal(vector(setup.loop.variables(state)[0]), vector(setup.params))


def test_the_usual_gradient_is_ones_where_it_is_not_finite() -> None:
    setup = make_setup(plain().replace(loss=lambda outputs, targets: np.nan * plain().loss(outputs, targets)))
    assert (vector(usual_gradient(setup, setup.key)) == 1).all()


def test_vectors() -> None:
    tree = {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2), np.float16)}
    np.testing.assert_array_equal(vector(tree), [1, 1, 1, 1, 0, 1, 2])
    assert on_host(tree["a"]).dtype == np.float64
    assert vector({}).shape == (0,)
