"""Gradients beside steps, and the key that a step gives its model."""

import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.reference_step.plain_steps import compare
from jaxrecipe.checks.skeleton.reference_step.trace import DRAWS, Trace, declared_and_frozen, record, unmoved
from jaxrecipe.probes.first_steps import first_steps, vector
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task, dropout_task, three_parameters_task
from tests.zoo.loops import loop_with


def traced(task: Task, steps: int = 3) -> tuple[Setup, Trace]:
    setup = make_setup(task)
    return setup, record(setup, setup.key, first_steps(setup, setup.key, steps))


@pytest.mark.parametrize(
    ("task", "draws"),
    [(digits_task(), 1), (dropout_task(), 1), (loop_with(dropout_task()), DRAWS)],
    ids=["no randomness", "the library's key", "of its own"],
)
def test_the_models_key_is_found_by_the_reported_loss(task: Task, draws: int) -> None:
    _, trace = traced(task)
    assert len(trace.gradients) == draws
    assert trace.losses == pytest.approx(trace.reported, rel=1e-4) or draws > 1


def test_moves_are_the_plain_steps_by_hand() -> None:
    setup, trace = traced(three_parameters_task().replace(optimizer=optax.sgd(0.05)))
    for move, gradient in zip(trace.moves(), trace.gradients[0], strict=True):
        np.testing.assert_allclose(move, -0.05 * vector(gradient), rtol=1e-4, atol=1e-7)
    comparison = compare(setup, trace, half=False)
    assert comparison.match.error < 1e-3
    assert not comparison.moves_nothing


def test_steps_can_be_left_out() -> None:
    _, trace = traced(digits_task(), 4)
    fewer = trace.without([1, 3])
    assert [step.index for step in fewer.steps] == [0, 2]
    assert len(fewer.params) == 3
    assert fewer.losses == [trace.losses[0], trace.losses[2]]


def test_what_stands_still() -> None:
    task = loop_with(digits_task().replace(frozen=("hidden/kernel",)), "freezes")
    setup, trace = traced(task)
    assert sorted(unmoved(trace)) == ["hidden/bias", "hidden/kernel"]
    assert declared_and_frozen(setup, trace) == ["hidden/kernel"]
