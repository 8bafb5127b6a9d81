"""Lengths of schedules, on curves that are made up; each threshold on both sides."""

from typing import Any

import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.simplify.schedule import RATE, schedule_curve, schedule_findings
from jaxrecipe.probes.first_steps import usual_gradient
from jaxrecipe.report.result import Curve
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import digits_task, three_parameters_task

EPOCH = 45


def codes(rate: np.ndarray, steps: np.ndarray) -> list[str]:
    curve = Curve(title="", x=steps, series={RATE: rate / rate.max()})
    return [finding.code for finding in schedule_findings(make_setup(digits_task()), curve, 2.0, 1000)]


@pytest.mark.parametrize(("ends", "found"), [(80, True), (95, False)])
def test_a_schedule_that_has_run_down_within_two_epochs(ends: int, found: bool) -> None:
    steps = np.arange(1, 2000)
    assert codes(np.where(steps <= ends, 1.0, 0.0), steps) == ["optimizer/schedule-run-down"] * found


@pytest.mark.parametrize(("start", "found"), [(1e-4, True), (1e-2, False)])
def test_a_schedule_that_has_not_begun_in_the_first_epoch(start: float, found: bool) -> None:
    steps = np.arange(1, 2000)
    assert codes(np.where(steps < EPOCH, start, 1.0), steps) == ["optimizer/warm-up-too-long"] * found


@pytest.mark.parametrize(("length", "found"), [(10_000, True), (1500, False)])
def test_a_warm_up_that_does_not_end(length: int, found: bool) -> None:
    steps = np.arange(1, 20_000)
    assert codes(np.minimum(steps / length, 1.0), steps) == ["optimizer/warm-up-too-long"] * found


def test_the_curve_is_the_schedule() -> None:
    schedule = optax.linear_schedule(2e-3, 2e-4, 500)
    setup = make_setup(digits_task(optimizer=optax.adam(schedule)))
    curve = schedule_curve(setup, usual_gradient(setup, setup.key))
    assert curve is not None
    wanted = np.array([float(np.asarray(schedule(int(step)))) for step in curve.x])
    np.testing.assert_allclose(curve.series[RATE], wanted / wanted.max(), rtol=1e-4)


def test_a_constant_rate_has_no_curve() -> None:
    for optimizer in (optax.adam(1e-3), optax.adam(optax.constant_schedule(1e-3))):
        setup = make_setup(digits_task(optimizer=optimizer))
        assert schedule_curve(setup, usual_gradient(setup, setup.key)) is None


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (lambda step: np.minimum(step / 1500, 1.0), "optimizer/warm-up-too-long"),
        (lambda step: np.minimum(step / 900, 1.0), None),
        (lambda step: np.where(step < 400, 1.0, 0.0), "optimizer/schedule-run-down"),
        (lambda step: np.where(step < 600, 1.0, 0.0), None),
        (lambda step: np.maximum(1.0 - step / 4000, 0.0), "optimizer/schedule-outlasts-training"),
        (lambda step: np.maximum(1.0 - step / 1000, 0.0), None),
        (lambda step: np.maximum(1.0 - step / 1200, 0.0), None),
        (lambda step: 0.1 ** (step // 400), None),
        (lambda step: 1 / np.sqrt(np.maximum(step, 100)), None),
        (lambda step: np.maximum(np.cos(np.pi / 2 * np.minimum(step / 1000, 1.0)), 0.0), None),
    ],
)
def test_a_schedule_is_judged_by_the_declared_length(rate: Any, found: str | None) -> None:
    steps = np.arange(1, 30_000)
    height = rate(steps.astype(float))
    curve = Curve(title="", x=steps, series={RATE: height / height.max()})
    setup = make_setup(digits_task().replace(steps=1000))
    assert [one.code for one in schedule_findings(setup, curve, 2.0, 1000)] == [found] * (found is not None)


@pytest.mark.parametrize(("updates", "found"), [(25, None), (100, "optimizer/schedule-outlasts-training")])
def test_a_schedule_inside_of_multi_steps_counts_updates(updates: int, found: str | None) -> None:
    schedule = optax.linear_schedule(0.1, 0.0, updates)
    optimizer = optax.MultiSteps(optax.sgd(schedule), every_k_schedule=4).gradient_transformation()
    setup = make_setup(three_parameters_task().replace(optimizer=optimizer, steps=100))
    curve = schedule_curve(setup, usual_gradient(setup, setup.key))
    assert curve is not None
    np.testing.assert_allclose(curve.series[RATE], [max(1 - (step // 4) / updates, 0) for step in curve.x], atol=1e-5)
    assert [one.code for one in schedule_findings(setup, curve, 2.0, 1000)] == [found] * (found is not None)
