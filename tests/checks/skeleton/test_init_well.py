"""init_well: what it costs to learn the final bias, and why it is off."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.init_well import init_well
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.broken import without_final_bias
from tests.zoo.healthy import binary_task, contrastive_task, digits_task, regression_task

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP


def all_labels_zero() -> Task:
    task = digits_task()
    x, y = task.train
    return task.replace(train=(x, np.zeros_like(y)))


CASES: list[tuple[Callable[[], Task], Status, str]] = [
    (without_final_bias, F, "model/no-final-bias"),
    (lambda: regression_task(mean=300.0, std=50.0).replace(optimizer=optax.adam(1e-2)), F, "data/targets-not-scaled"),
    (lambda: regression_task(mean=300.0, std=50.0), W, "data/targets-not-scaled"),  # steps that are large enough
    (broken.wrong_final_bias, W, "model/final-bias-ignores-prior"),
    (lambda: binary_task(positives=0.02, prior=False), W, "model/final-bias-ignores-prior"),
    (lambda: binary_task(positives=0.1, prior=False), W, "model/final-bias-ignores-prior"),
    (broken.wild_init, F, "model/initialization-too-large"),
    (broken.inputs_not_scaled, W, "data/inputs-not-scaled"),
    (broken.logits_into_probability_loss, W, "loss/logits-as-probabilities"),
    (all_labels_zero, F, "data/constant-labels"),
]


@pytest.mark.parametrize(("make", "status", "first"), CASES, ids=range(len(CASES)))
def test_the_cost_of_the_bias_and_its_cause(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, first: str
) -> None:
    result = run(init_well, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes == ("model/final-bias-ignores-prior",)
    assert result.findings[0].causes[0].code == first


@pytest.mark.parametrize(
    ("make", "status"),
    [(digits_task, P), (binary_task, P), (contrastive_task, P), (broken.sign_flipped, S)],
)
def test_nothing_is_off(run: Callable[..., Result], make: Callable[[], Task], status: Status) -> None:
    assert run(init_well, make()).status is status


def test_both_sides_of_the_thresholds(run: Callable[..., Result]) -> None:
    task = broken.wrong_final_bias()
    cost = run(init_well, task).measured["cost of the final bias"]
    for thresholds, status in [
        ({"warn": 5.0, "warn_labels": cost + 0.01}, P),
        ({"warn_labels": cost - 0.01, "fail": 10.0}, W),
        ({"warn_labels": cost - 0.02, "fail": cost - 0.01}, W),  # it is soon learned
        ({"warn": cost - 0.02, "warn_labels": cost + 0.01}, W),
    ]:
        assert run(init_well, task, **thresholds).status is status, thresholds


def test_the_offered_bias_removes_the_cost(run: Callable[..., Result]) -> None:
    """The shift in the evidence, added to the bias, makes the same check pass."""
    task = broken.wrong_final_bias()
    result = run(init_well, task)
    table = result.evidence[0]
    assert isinstance(table, Table)
    shift = [row[3] for row in table.rows]

    def add(params: dict) -> dict:
        bias = params["logits"]["bias"] + jnp.asarray(shift, "float32")
        return {**params, "logits": {**params["logits"], "bias": bias}}

    mended = run(init_well, broken.with_init(task, add))
    assert mended.status is P
    assert mended.measured["cost of the final bias"] < 0.1
    assert result.measured["untrained loss with the final bias set"] < mended.measured["loss at the mean output"] + 0.2
