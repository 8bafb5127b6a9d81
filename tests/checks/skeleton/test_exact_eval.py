"""exact_eval: a right evaluation passes however it is written, each usual mistake is named, what is only different is no failure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.exact_eval import exact_eval
from jaxrecipe.demo.bugs import find_bug
from jaxrecipe.demo.digits import digits_task as demonstration
from jaxrecipe.probes.exact_scores import common_name, scores
from jaxrecipe.report.result import Result, Status
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import batch_norm_task, contrastive_task, digits_task, dropout_task, heads_task, regression_task
from tests.zoo.loops import evaluating

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP


def rolled(key: Any, inputs: Any, targets: Any) -> Any:
    return jnp.roll(inputs, jax.random.randint(key, (), 2, 6), axis=2), targets


CASES: list[tuple[Callable[[], Task], Status, str]] = [
    (digits_task, P, "loss, accuracy"),
    (lambda: digits_task(test=None), P, "loss, accuracy"),
    (contrastive_task, S, "compares the examples"),
    (lambda: evaluating(batch_norm_task()), P, "accuracy, loss"),
    (lambda: evaluating(regression_task()), P, "absolute_error"),
    (lambda: evaluating(heads_task()), P, "digit/accuracy"),
    (lambda: evaluating(digits_task(), "pads right"), P, ""),
    (lambda: evaluating(digits_task(), "per cent"), P, ""),
    (lambda: evaluating(digits_task(), named="prefixed"), P, "eval_loss"),
    (lambda: evaluating(digits_task(), "refuses"), W, "pad the last batch"),
    (lambda: evaluating(digits_task(), "other loss"), W, "defined in another way"),
    (lambda: evaluating(digits_task(), "batch-wise"), W, "spread of the same examples depends"),
    (lambda: evaluating(digits_task(), "test split"), W, "of the test split"),
    (lambda: evaluating(digits_task(), "training split"), F, "evaluates the training split"),
    (lambda: evaluating(digits_task(), "drops"), F, "last batch is dropped"),
    (lambda: evaluating(regression_task(), "drops"), F, "last batch is dropped"),
    (lambda: evaluating(digits_task(), "batch means"), F, "mean of the batch means"),
    (lambda: evaluating(digits_task(), "pads"), F, "padding of the last batch is counted"),
    (lambda: evaluating(digits_task(), "wrong count"), F, "divided by the wrong number"),
    (lambda: evaluating(digits_task(), "last batch"), F, "Only one batch is kept"),
    (lambda: evaluating(digits_task(), "sum"), F, "sum and not a mean"),
    (lambda: evaluating(digits_task(), "float16"), F, "half precision"),
    (lambda: evaluating(digits_task(), "bfloat16"), F, "half precision"),
    (lambda: evaluating(digits_task(), "stale parameters"), F, "scores of the initial parameters"),
    (lambda: evaluating(batch_norm_task(), "training mode"), F, "training mode"),
    (lambda: evaluating(dropout_task(), "random"), F, "dropout is on"),
    (lambda: evaluating(digits_task(augment=rolled), "augments"), F, "augmented at evaluation"),
]


@pytest.mark.parametrize(("make", "status", "told"), CASES, ids=range(len(CASES)))
def test_the_status_and_the_named_cause(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, told: str
) -> None:
    result = run(exact_eval, make(), large=20_000 if "half" in told else 1000)
    assert result.status is status, f"{result.headline} {result.hint} {result.evidence}"
    assert told in f"{result.headline} {result.hint}"
    assert bool(result.hint) == (status is not P)


def test_the_demonstration_bug_is_named(run: Callable[..., Result]) -> None:
    with jax.numpy_dtype_promotion("standard"):  # as users have it: the loop is plain optax
        result = run(exact_eval, find_bug("last_batch_dropped").plant(demonstration()))
    assert result.status is F
    assert "last batch is dropped" in result.hint


def test_few_examples(run: Callable[..., Result]) -> None:
    task = digits_task()
    for size, status in ((2, S), (3, P), (33, P)):
        few = task.replace(test=tuple(leaf[:size] for leaf in task.test))
        assert run(exact_eval, few, large=500).status is status
    few = task.replace(test=tuple(leaf[:5] for leaf in task.test))
    assert run(exact_eval, evaluating(few, "drops")).status is F


def test_the_tolerance_moves_the_verdict(run: Callable[..., Result]) -> None:
    assert run(exact_eval, evaluating(digits_task(), "batch means"), tolerance=10.0).status is P


def test_scores_are_those_of_each_example() -> None:
    """By numpy in float64, one example at a time."""
    task = digits_task()
    setup = make_setup(task)
    found = scores(setup, setup.variables, "test", np.arange(40)[::-1])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), setup.params)
    images, labels = (leaf[39::-1] for leaf in task.test)
    for index in range(40):
        pixels = (images[index].reshape(-1).astype(np.float64) - 4.9) / 6.0
        hidden = np.maximum(pixels @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
        logits = hidden @ params["logits"]["kernel"] + params["logits"]["bias"]
        loss = np.log(np.exp(logits).sum()) - logits[labels[index]]
        assert found["loss"][index] == pytest.approx(loss, rel=1e-4)
        assert found["accuracy"][index] == (logits.argmax() == labels[index])


def test_names() -> None:
    assert [common_name(name) for name in ("loss", "test/loss", "eval_acc", "val_accuracy", "AUC")] == [
        "loss",
        "loss",
        "accuracy",
        "accuracy",
        "auc",
    ]
