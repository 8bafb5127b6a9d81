"""What is read off a run, on runs that are made up."""

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.run import Run, follow
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import three_parameters_task


def made_up(changes: np.ndarray) -> Run:
    """A run whose predictions change like this, one number an example."""
    predictions = np.concatenate([np.zeros((1, *changes.shape[1:])), np.cumsum(changes, axis=0)])[..., None]
    ones = np.ones(len(changes))
    return Run(np.stack([ones, ones], axis=1), np.ones(len(changes) + 1), predictions, ones)


def test_jitter_of_made_up_ways() -> None:
    straight = made_up(np.ones((20, 3)))
    to_and_fro = made_up(np.where(np.arange(20) % 2 == 0, 1.0, -0.9)[:, None] * np.ones((20, 3)))
    random = made_up(np.random.default_rng(0).normal(size=(400, 50)))
    assert (straight.jitter, straight.turning) == pytest.approx((0.0, 1.0), abs=1e-12)
    assert (to_and_fro.jitter, to_and_fro.turning) == pytest.approx((1 - 0.1 / 1.9, -1.0), abs=1e-12)
    assert random.jitter == pytest.approx(1 - 1 / np.sqrt(400), abs=0.01), (
        "a random walk gets as far as the root of its steps"
    )
    assert random.turning == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(("growth", "warming_up"), [(1.0, False), (1.1, True)])
def test_updates_that_grow_are_a_warm_up(growth: float, warming_up: bool) -> None:
    run = made_up(np.ones((20, 3)))
    grown = Run(run.own, run.fixed, run.predictions, growth ** np.arange(20.0))
    assert grown.warming_up is warming_up


def test_losses_that_are_not_finite_end_the_run() -> None:
    run = made_up(np.ones((4, 3)))
    assert run.finite
    assert not Run(run.own * np.nan, run.fixed, run.predictions, run.moved).finite


def test_the_losses_are_those_around_each_step() -> None:
    task = three_parameters_task()
    run = follow(make_setup(task), make_setup(task).key, 5)
    assert run.steps == 5
    assert run.fixed.shape == (6,)
    assert run.predictions.shape[0] == 6
    assert run.last == pytest.approx(float(run.fixed[-1]))
