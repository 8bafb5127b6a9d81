"""reference_step: a right loop passes however it is written, a wrong one fails by its name, a deliberate rule raises no alarm."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.reference_step import reference_step
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.probes.schedules import clocks, rates
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
    (lambda: loop_with(linear_task(), "collects"), P, "collects gradients over 3 batches"),
    (lambda: linear_task(optimizer=optax.MultiSteps(optax.adam(2e-3), 4).gradient_transformation()), P, ""),
    (lambda: loop_with(linear_task(), "average"), P, "averaged"),
    (lambda: loop_with(digits_task().replace(frozen=("hidden/*",)), "freezes"), P, ""),
    (lambda: linear_task(policy="float16", loss_scale=dynamic_loss_scale()), P, ""),
    # A rule that is not the declared one.
    (lambda: loop_with(digits_task(), "freezes"), W, "hidden/"),
    (lambda: loop_with(sgd_task(), "collects the sum"), W, "their sum, not their mean"),
    (lambda: loop_with(sgd_task(), "rate of its own"), W, "another schedule"),
    (lambda: loop_with(sgd_task(), "clips"), W, "clips the gradient to norm 0.2"),
    (lambda: loop_with(linear_task(), "decays"), W, "Weight decay that the declared optimizer does not have"),
    (lambda: loop_with(linear_task(), "noise"), W, "no usual fault explains it"),
    (lambda: loop_with(linear_task(), "sum"), W, "32 times the mean loss"),
    (lambda: loop_with(dropout_task(), "evaluation mode"), W, "in evaluation mode"),
    # What is wrong.
    (lambda: loop_with(linear_task(), "thrown away"), F, "updates are thrown away"),
    (lambda: loop_with(sgd_task(), "accumulates"), F, "gradients accumulate"),
    (lambda: loop_with(dropout_task().replace(optimizer=optax.sgd(0.05)), "accumulates"), F, "gradients accumulate"),
    (lambda: loop_with(momentum_task(), "not carried"), F, "fresh optimizer state"),
    (lambda: loop_with(warm_up_task(), "schedule stands"), F, "schedule stands still"),
    (lambda: loop_with(sgd_task(), "sum"), F, "sum of the losses, not of their mean"),
    (lambda: loop_with(sgd_task(), "scaled loss"), F, "loss scale"),
    (lambda: loop_with(linear_task(), "tenth"), F, "0.1 times those of the declared"),
    (lambda: loop_with(linear_task(), "opposite"), F, "sign is flipped"),
    (lambda: loop_with(linear_task(), "decay swamps"), F, "decay swamps the gradient"),
    (lambda: loop_with(sgd_task(), "clips to nothing"), F, "clip norm is so small"),
    (lambda: loop_with(linear_task(), "same batch"), F, "gradient of the first batch"),
    (lambda: loop_with(batch_norm_task(), "stats lost"), F, "thrown away"),
]


@pytest.mark.parametrize(("make", "status", "told"), CASES, ids=range(len(CASES)))
def test_the_status_and_the_named_cause(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, told: str
) -> None:
    result = run(reference_step, make())
    assert result.status is status, f"{result.headline} {result.hint} {dict(result.measured)} {result.evidence}"
    assert told in f"{result.headline} {result.hint}"
    assert bool(result.hint) == (status is not P)


def test_nothing_to_compare_is_skipped(run: Callable[..., Result]) -> None:
    task = linear_task(loss=lambda logits, labels: jnp.nan * logits[:, 0])
    assert run(reference_step, task).status is S


def test_an_optimizer_that_never_moves_is_odd(run: Callable[..., Result]) -> None:
    result = run(reference_step, linear_task(optimizer=optax.sgd(optax.linear_schedule(0.0, 0.0, 10))))
    assert result.status is W
    assert "warm-up" in result.hint


def test_the_tolerance_moves_the_verdict(run: Callable[..., Result]) -> None:
    task = loop_with(linear_task(), "decays")
    assert run(reference_step, task, tolerance=0.5).status is P


def test_clocks_are_those_of_schedules_only() -> None:
    params = {"w": jnp.ones(3, jnp.float32)}
    schedule = optax.linear_schedule(0.0, 1.0, 10)
    injected = optax.inject_hyperparams(optax.adam)(learning_rate=schedule)
    for optimizer, count in (
        (optax.adam(1e-3), 0),
        (optax.adam(schedule), 1),
        (optax.MultiSteps(optax.adam(1e-3), 2), 0),
    ):
        with jax.numpy_dtype_promotion("standard"):
            assert len(clocks(optimizer.init(params))) == count
    with jax.numpy_dtype_promotion("standard"):
        state: Any = injected.init(params)
    found = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    named = {found[index] for index in clocks(state)}
    assert named
    assert not any("inner_state" in name for name in named)


@pytest.mark.parametrize("optimizer", [optax.sgd, optax.adam, optax.inject_hyperparams(optax.adam)])
def test_rates_are_the_schedule(optimizer: Any) -> None:
    schedule = optax.warmup_cosine_decay_schedule(0.1, 1.0, 10, 100)
    params, grads = {"w": jnp.ones(3, jnp.float32)}, {"w": jnp.array([1.0, -2.0, 0.5], jnp.float32)}
    counts = np.array([1, 5, 10, 50, 99])
    found = rates(optimizer(schedule), params, grads, counts)
    assert found is not None
    wanted = np.array([float(schedule(int(count))) for count in counts])
    np.testing.assert_allclose(found / found[2], wanted / wanted[2], rtol=1e-4)
    assert rates(optax.adam(1e-3), params, grads, counts) is None
