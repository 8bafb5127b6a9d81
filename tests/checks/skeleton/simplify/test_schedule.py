"""Lengths of schedules, on curves that are made up; each threshold on both sides."""

import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.simplify.schedule import RATE, schedule_curve, schedule_findings
from jaxrecipe.probes.first_steps import usual_gradient
from jaxrecipe.report.result import Curve
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import digits_task

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
