"""A loop may predict with an average of its weights, and must not predict with those of before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jaxrecipe.catalogue.own_loop import with_own_loop
from jaxrecipe.checks.skeleton.exact_eval import exact_eval
from jaxrecipe.checks.skeleton.mode_consistency import mode_consistency
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo.healthy import batch_norm_task, digits_task


def kept_from_the_start(name: str) -> Task:
    """A loop whose predictions use a copy that was made at the start."""

    def copied(state: Any) -> Any:
        return {**state, "first": jax.tree.map(jnp.array, {"params": state["params"], "stats": state["stats"]})}

    def evaluated(state: Any) -> tuple[Any, Any]:
        used = {**state, name: state["first"][name]}
        return used["params"], used["stats"]

    return with_own_loop(batch_norm_task(), add=copied, evaluated=evaluated)


def averaged() -> Task:
    """A loop whose predictions use a moving average of the parameters."""

    def follow(_old: Any, new: Any) -> Any:
        mean = jax.tree.map(lambda mean, leaf: 0.99 * mean + 0.01 * leaf, new["mean"], new["params"])
        return {**new, "mean": mean}

    return with_own_loop(
        batch_norm_task(),
        add=lambda state: {**state, "mean": jax.tree.map(jnp.array, state["params"])},
        after=follow,
        evaluated=lambda state: (state["mean"], state["stats"]),
    )


def test_an_average_of_the_weights_is_healthy(run: Callable[..., Result]) -> None:
    assert run(mode_consistency, averaged()).status is Status.PASS


def test_what_is_out_of_date_is_named(run: Callable[..., Result]) -> None:
    for name in ("params", "stats"):
        result = run(mode_consistency, kept_from_the_start(name))
        assert result.status is Status.FAIL
        assert result.codes == ("evaluation/stale-parameters",)


def schedule_free(*, averaged: bool) -> Task:
    """A loop around a schedule-free optimizer, which predicts with the average or with what is trained."""
    optimizer = optax.contrib.schedule_free(optax.adam(5e-3, b1=0.0), learning_rate=5e-3, b1=0.9)

    def average(state: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return optax.contrib.schedule_free_eval_params(state["opt"], state["params"]), state["stats"]

    parts = {"evaluated": average} if averaged else {}
    return with_own_loop(digits_task().replace(optimizer=optimizer), **parts)


def test_schedule_free_weights_are_averaged_for_predictions(run: Callable[..., Result]) -> None:
    assert run(mode_consistency, schedule_free(averaged=True)).status is Status.PASS
    assert run(exact_eval, schedule_free(averaged=True)).status is Status.PASS
    result = run(mode_consistency, schedule_free(averaged=False))
    assert result.status is Status.FAIL
    assert result.codes == ("evaluation/schedule-free-weights",)
