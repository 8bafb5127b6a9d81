"""reference_step: a right loop passes however it is written, a wrong one fails by its name, a deliberate rule raises no
alarm."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
import pytest

from jaxrecipe.checks.skeleton.reference_step import reference_step
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo.healthy import batch_norm_task, dense, digits_task, dropout_task, flat, linear, stateless
from tests.zoo.loops import loop_with

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP


def linear_task(**changes: Any) -> Task:
    """One layer, because compiling is what takes the time."""
    model = stateless(lambda key: dense(key, 64, 10), lambda params, x: linear(params, flat(x)))
    return digits_task(**{"model": model, **changes})


def sgd_task() -> Task:
    return linear_task(optimizer=optax.sgd(0.05))


def momentum_task() -> Task:
    return linear_task(optimizer=optax.sgd(0.02, momentum=0.9))


def warm_up_task() -> Task:
    return linear_task(optimizer=optax.adam(optax.linear_schedule(1e-4, 2e-3, 20)))


def clipped_task() -> Task:
    return linear_task(optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2e-3)))


CASES: list[tuple[Callable[[], Task], Status, str]] = [
    # What is right, or done on purpose.
    (lambda: loop_with(warm_up_task()), P, ""),
    (lambda: loop_with(clipped_task()), P, ""),
    (lambda: loop_with(batch_norm_task()), P, ""),
    (lambda: loop_with(dropout_task()), P, ""),
    (lambda: loop_with(linear_task(), "collects"), P, ""),
    (lambda: linear_task(optimizer=optax.MultiSteps(optax.adam(2e-3), 4).gradient_transformation()), P, ""),
    (lambda: loop_with(linear_task(), "average"), P, ""),
    (lambda: loop_with(digits_task().replace(frozen=("hidden/*",)), "freezes"), P, ""),
    (lambda: linear_task(policy="float16", loss_scale=dynamic_loss_scale()), P, ""),
    # A rule that is not the declared one.
    (lambda: loop_with(digits_task(), "freezes"), W, "optimizer/unintended-freeze"),
    (lambda: loop_with(sgd_task(), "collects the sum"), W, "step/accumulates-sum"),
    (lambda: loop_with(sgd_task(), "rate of its own"), W, "optimizer/schedule-not-declared"),
    (lambda: loop_with(sgd_task(), "clips"), W, "optimizer/clipping-not-declared"),
    (lambda: loop_with(linear_task(), "decays"), W, "optimizer/decay-not-declared"),
    (lambda: loop_with(linear_task(), "noise"), W, "step/not-the-declared-rule"),
    (lambda: loop_with(linear_task(), "sum"), W, "step/reports-sum"),
    (lambda: loop_with(dropout_task(), "evaluation mode"), W, "step/evaluation-mode"),
    # What is wrong.
    (lambda: loop_with(linear_task(), "thrown away"), F, "step/updates-thrown-away"),
    (lambda: loop_with(sgd_task(), "accumulates"), F, "step/gradients-accumulate"),
    (
        lambda: loop_with(dropout_task().replace(optimizer=optax.sgd(0.05)), "accumulates"),
        F,
        "step/gradients-accumulate",
    ),
    (lambda: loop_with(momentum_task(), "not carried"), F, "step/optimizer-state-lost"),
    (lambda: loop_with(warm_up_task(), "schedule stands"), F, "optimizer/schedule-stands-still"),
    (lambda: loop_with(sgd_task(), "sum"), F, "loss/sum-instead-of-mean"),
    (lambda: loop_with(sgd_task(), "scaled loss"), F, "precision/scale-not-undone"),
    (lambda: loop_with(linear_task(), "tenth"), F, "step/scaled"),
    (lambda: loop_with(linear_task(), "opposite"), F, "step/goes-uphill"),
    (lambda: loop_with(linear_task(), "decay swamps"), F, "optimizer/weight-decay-too-strong"),
    (lambda: loop_with(sgd_task(), "clips to nothing"), F, "optimizer/clipping-too-tight"),
    (lambda: loop_with(linear_task(), "same batch"), F, "step/same-batch"),
    (lambda: loop_with(batch_norm_task(), "stats lost"), F, "step/statistics-thrown-away"),
]


@pytest.mark.parametrize(("make", "status", "code"), CASES, ids=range(len(CASES)))
def test_the_status_and_the_cause(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str
) -> None:
    result = run(reference_step, make())
    assert result.status is status, f"{result.headline} {result.measured} {result.evidence}"
    assert list(result.codes[:1]) == [code] * bool(code)


def test_nothing_to_compare_is_skipped(run: Callable[..., Result]) -> None:
    task = linear_task(loss=lambda logits, labels: jnp.nan * logits[:, 0])
    assert run(reference_step, task).status is S


def test_an_optimizer_that_never_moves_warns(run: Callable[..., Result]) -> None:
    result = run(reference_step, linear_task(optimizer=optax.sgd(optax.linear_schedule(0.0, 0.0, 10))))
    assert result.status is W
    assert result.codes == ("optimizer/warm-up-too-long",)


def test_the_tolerance_moves_the_verdict(run: Callable[..., Result]) -> None:
    task = loop_with(linear_task(), "decays")
    assert run(reference_step, task, tolerance=0.5).status is P
