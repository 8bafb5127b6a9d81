"""The first steps, followed on one fixed batch: too high and too low a learning rate are told apart."""

from collections.abc import Callable

import jax
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.visualize_prediction_dynamics import visualize_prediction_dynamics
from jaxrecipe.report.result import Curve, Result, Status
from jaxrecipe.task import Task
from tests.zoo.broken import learning_rate_huge, updates_thrown_away
from tests.zoo.healthy import HEALTHY, batch_norm_task, digits_task, regression_task, three_parameters_task
from tests.zoo.modes import hand_loop
from tests.zoo.sequences import transformer_task

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def with_(make: Callable[[], Task], optimizer: optax.GradientTransformation) -> Callable[[], Task]:
    return lambda: make().replace(optimizer=optimizer)


def accumulating() -> Task:
    """A batch of one, but an update only every eight."""
    many = optax.MultiSteps(optax.adam(2e-3), 8).gradient_transformation()
    return digits_task(batch_size=1, optimizer=many)


CASES = {
    "a warm-up": (with_(digits_task, optax.adam(optax.linear_schedule(0.0, 2e-3, 1000))), P, ""),
    "weight decay": (with_(digits_task, optax.adamw(2e-3, weight_decay=0.1)), P, ""),
    "a tenth of the usual": (with_(digits_task, optax.adam(2e-4)), P, ""),
    "ten times the usual": (with_(digits_task, optax.adam(2e-2)), P, ""),
    "batch norm, plain steps": (with_(batch_norm_task, optax.sgd(0.1)), P, ""),
    "small batches": (lambda: digits_task(batch_size=4), P, ""),
    "accumulation": (accumulating, P, ""),
    "a hand-written loop": (lambda: hand_loop(batch_norm_task()), P, ""),
    "far too high": (learning_rate_huge, F, "optimizer/learning-rate-too-high"),
    "far too high, Adam": (with_(digits_task, optax.adam(1.0)), F, "optimizer/learning-rate-too-high"),
    "far too high, transformer": (with_(transformer_task, optax.adam(1.0)), F, "optimizer/learning-rate-too-high"),
    "too high": (with_(digits_task, optax.adam(0.1)), W, "optimizer/learning-rate-too-high"),
    "to and fro": (with_(digits_task, optax.sgd(1.0)), W, "optimizer/learning-rate-too-high"),
    "diverges": (with_(regression_task, optax.sgd(10.0)), F, "optimizer/diverged"),
    "far too low": (with_(digits_task, optax.adam(1e-5)), F, "optimizer/learning-rate-too-low"),
    "far too low, plain steps": (with_(three_parameters_task, optax.sgd(1e-5)), F, "optimizer/learning-rate-too-low"),
    "rather low": (with_(digits_task, optax.sgd(1e-3)), W, "optimizer/learning-rate-too-low"),
    "uphill": (with_(digits_task, optax.sgd(-0.1)), F, "step/goes-uphill"),
    "thrown away": (updates_thrown_away, F, "step/updates-thrown-away"),
    "a batch of one": (lambda: digits_task(batch_size=1), W, "optimizer/batch-too-small"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_cause(run: Callable[..., Result], case: str) -> None:
    make, status, code = CASES[case]
    result = run(visualize_prediction_dynamics, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert list(result.codes) == [code] * bool(code)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_set_ups_pass(run: Callable[..., Result], name: str) -> None:
    result = run(visualize_prediction_dynamics, HEALTHY[name](1))
    assert result.status is P, f"{result.headline} {result.measured}"


def test_the_curves_are_the_predictions(run: Callable[..., Result]) -> None:
    """Oracle: plain gradient descent on three parameters, written out in float64."""
    task = three_parameters_task().replace(optimizer=optax.sgd(0.05))
    result = run(visualize_prediction_dynamics, task, steps=12)
    curves = [curve for curve in result.evidence if isinstance(curve, Curve)]
    assert len(curves[0].x) == 13
    before, after = curves[1].series["own batch, before"], curves[1].series["own batch, after"]
    assert (after < before).all()
    line = curves[2]
    assert line.x[0] == 0.0
    assert line.series["loss"][-1] > 1e3 * line.levels["start"], "a thousand times as far along a parabola"


def test_nothing_of_the_set_up_is_changed(run: Callable[..., Result]) -> None:
    task = digits_task()
    before = [np.array(leaf) for leaf in jax.tree.leaves((task.train, task.test))]
    first, second = (run(visualize_prediction_dynamics, task, steps=10) for _ in range(2))
    assert dict(first.measured) == dict(second.measured)
    assert all((a == b).all() for a, b in zip(before, jax.tree.leaves((task.train, task.test)), strict=True))
