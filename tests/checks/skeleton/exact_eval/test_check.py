"""exact_eval: a right evaluation passes however it is written, each usual mistake is named, what is only different is
no failure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.checks.skeleton.exact_eval import exact_eval
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo.healthy import batch_norm_task, contrastive_task, digits_task, dropout_task, heads_task, regression_task
from tests.zoo.loops import evaluating, loop_with

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP


def rolled(key: Any, inputs: Any, targets: Any) -> Any:
    return jnp.roll(inputs, jax.random.randint(key, (), 2, 6), axis=2), targets


CASES: list[tuple[Callable[[], Task], Status, str]] = [
    (digits_task, P, ""),
    (lambda: digits_task(test=None), P, ""),
    (contrastive_task, S, ""),
    (lambda: evaluating(batch_norm_task()), P, ""),
    (lambda: evaluating(regression_task()), P, ""),
    (lambda: evaluating(heads_task()), P, ""),
    (lambda: evaluating(digits_task(), "pads right"), P, ""),
    (lambda: evaluating(digits_task(), "per cent"), P, ""),
    (lambda: evaluating(digits_task(), named="prefixed"), P, ""),
    (lambda: evaluating(digits_task(), "refuses"), W, "refuses-batch-size"),
    (lambda: evaluating(digits_task(), "other loss"), W, "other-definition"),
    (lambda: evaluating(digits_task(), "batch-wise"), W, "metric-by-batch"),
    (lambda: evaluating(digits_task(), "test split"), W, "ignores-given-examples"),
    (lambda: evaluating(digits_task(), "training split"), F, "training-split"),
    (lambda: evaluating(digits_task(), "drops"), F, "last-batch-dropped"),
    (lambda: evaluating(regression_task(), "drops"), F, "last-batch-dropped"),
    (lambda: evaluating(digits_task(), "batch means"), F, "mean-of-batch-means"),
    (lambda: evaluating(digits_task(), "pads"), F, "padding-counted"),
    (lambda: evaluating(digits_task(), "wrong count"), F, "wrong-divisor"),
    (lambda: evaluating(digits_task(), "last batch"), F, "one-batch-only"),
    (lambda: evaluating(digits_task(), "sum"), F, "sum-not-mean"),
    (lambda: evaluating(digits_task(), "float16"), F, "half-precision-sum"),
    (lambda: evaluating(digits_task(), "bfloat16"), F, "half-precision-sum"),
    (lambda: evaluating(digits_task(), "stale parameters"), F, "stale-parameters"),
    (lambda: evaluating(batch_norm_task(), "training mode"), F, "training-mode"),
    (lambda: evaluating(dropout_task(), "random"), F, "random"),
    (lambda: evaluating(digits_task(augment=rolled), "augments"), F, "augmented"),
]


@pytest.mark.parametrize(("make", "status", "code"), CASES, ids=range(len(CASES)))
def test_the_status_and_the_cause(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str
) -> None:
    result = run(exact_eval, make(), large=20_000 if "half" in code else 1000)
    assert result.status is status, f"{result.headline} {result.evidence}"
    assert list(result.codes[:1]) == [f"evaluation/{code}"] * bool(code)


def test_an_average_of_the_weights_may_be_evaluated(run: Callable[..., Result]) -> None:
    assert run(exact_eval, evaluating(digits_task(), "average"), large=500).status is P


def test_a_loop_without_evaluation_is_skipped(run: Callable[..., Result]) -> None:
    assert run(exact_eval, loop_with(digits_task())).status is S


def test_few_examples(run: Callable[..., Result]) -> None:
    task = digits_task()
    for size, status in ((2, S), (3, P), (33, P)):
        few = task.replace(test=tuple(leaf[:size] for leaf in task.test))
        assert run(exact_eval, few, large=500).status is status
    few = task.replace(test=tuple(leaf[:5] for leaf in task.test))
    assert run(exact_eval, evaluating(few, "drops")).status is F


def test_the_tolerance_moves_the_verdict(run: Callable[..., Result]) -> None:
    assert run(exact_eval, evaluating(digits_task(), "batch means"), tolerance=10.0).status is P


def test_a_stale_copy_is_not_taken_for_an_average(run: Callable[..., Result]) -> None:
    """The loop keeps an average too, but evaluates what it closed over."""
    assert run(exact_eval, evaluating(digits_task(), "stale parameters"), large=500).codes[0] == (
        "evaluation/stale-parameters"
    )
