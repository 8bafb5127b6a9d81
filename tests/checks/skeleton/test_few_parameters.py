"""What a model of three parameters cannot do, or does by luck, is no fault of it; nor is a slow machine."""

from collections.abc import Callable

import numpy as np
import optax

from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Values
from jaxrecipe.task import Task
from tests.zoo.healthy import dense, digits_task, linear, regression_task, stateless


def noisy_line(noise: float = 0.6) -> Task:
    """Two numbers that go together, and a noisy sum of them."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(400, 1))
    x = (common + 0.5 * rng.normal(size=(400, 2))).astype(np.float32)
    y = (x.sum(axis=1) + noise * rng.normal(size=400)).astype(np.float32)
    return Task(
        model=stateless(lambda key: dense(key, 2, 1), lambda p, x: linear(p, x)[:, 0]),
        loss=optax.l2_loss,
        optimizer=optax.sgd(0.1),
        train=(x[:320], y[:320]),
        test=(x[320:], y[320:]),
        target=Values(),
        batch_size=32,
    )


def test_noise_that_three_parameters_cannot_hold_is_no_failure(run: Callable[..., Result]) -> None:
    assert run(overfit_one_batch, noisy_line()).status is Status.PASS


def test_too_little_time_decides_nothing(run: Callable[..., Result]) -> None:
    result = run(input_independent_baseline, digits_task(), seconds=0.0)
    assert result.status is Status.WARN
    assert "decides nothing" in result.headline


def test_a_faint_signal_that_is_soon_learnt_by_heart_is_no_failure(run: Callable[..., Result]) -> None:
    """A fifth of the variance is in the inputs, and the model is large enough to learn the noise of its training examples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 8)).astype(np.float32)
    y = (0.5 * x[:, :1] + rng.normal(size=(700, 1))).astype(np.float32)
    task = regression_task().replace(train=(x[:150], y[:150]), test=(x[150:], y[150:]))
    result = run(input_independent_baseline, task)
    assert result.status in (Status.PASS, Status.WARN), f"{result.headline} {result.hint}"
