"""Which examples a loss depends on, and what makes them mix."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.report.result import Matrix, Result, Status
from jaxrecipe.task import Model, Task
from tests.zoo import broken
from tests.zoo.healthy import HEALTHY, batch_norm_task, digits_task, flat, regression_task, three_parameters_task

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def zero_logits(params: Any) -> Any:
    return {**params, "logits": jax.tree.map(jnp.zeros_like, params["logits"])}


def always_training() -> Task:
    """BatchNorm that normalises with the batch at hand at evaluation too."""
    task = batch_norm_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, inputs, train=True, key=key)

    return task.replace(model=Model(model.init, apply))


def mixed_in_training() -> Task:
    """A batch mean in training mode only, with no state to explain it."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, inputs - inputs.mean(axis=0) if train else inputs, train=train, key=key)

    return task.replace(model=Model(model.init, apply))


def one_hot_selection(x: Any) -> Any:
    """Each example picks itself out of the batch by a product with zeros and a one."""
    return jnp.eye(len(x), dtype=x.dtype) @ flat(x)


def masked(share: float) -> Task:
    """Some examples have no weight in the loss."""
    task = three_parameters_task()
    (x, y), keep = task.train, np.arange(240) % 10 >= 10 * share
    return task.replace(
        train=(x, {"y": y, "keep": keep}),
        test=None,
        loss=lambda outputs, t: jnp.where(t["keep"], jnp.square(outputs - t["y"]), 0.0),
    )


def summed_over_batch(outputs: Any, values: Any) -> Any:
    return jnp.square(outputs - values)[:, 0] + 0.1 * jnp.abs(outputs).mean()


CASES = {
    "logits that start at zero": (lambda: broken.with_init(digits_task(), zero_logits), P, ""),
    "batch norm": (batch_norm_task, P, ""),
    "declared": (lambda: broken.batch_mean_leak().replace(mixes_examples=True), Status.SKIP, ""),
    "one example": (lambda: digits_task(batch_size=1), Status.SKIP, ""),
    "some without weight": (lambda: masked(0.5), P, ""),
    "zero times NaN": (lambda: broken.before_model(digits_task(), one_hot_selection), W, "zero times NaN"),
    "in training only": (mixed_in_training, W, "axis 0"),
    "batch norm at evaluation": (always_training, F, "use_running_average"),
    "reshape": (broken.reshape_for_transpose, F, "The model hands numbers from one example to another"),
    "batch mean": (broken.batch_mean_leak, F, "mean, normalisation or softmax over axis 0"),
    "softmax in the loss": (broken.batch_softmax, F, "compares examples, not classes"),
    "softmax in the model": (
        lambda: broken.after_model(digits_task(), lambda x: jax.nn.softmax(x, axis=0)),
        F,
        "sum to one over the batch",
    ),
    "broadcasting": (broken.column_against_row, F, "(50, 1) and targets (50,)"),
    "a mean in the loss": (lambda: regression_task().replace(loss=summed_over_batch), F, "reduces over axis 0"),
    "far away in the batch": (
        lambda: broken.before_model(digits_task(), lambda x: x.at[0].add(0.1 * x[-1])),
        F,
        "one example to another",
    ),
    "blind": (broken.blind_model, F, "never reaches the loss"),
    "tokens reversed": (
        lambda: broken.before_model(HEALTHY["language_model"](0), lambda x: x[::-1]),
        F,
        "one example to another",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, hint = CASES[case]
    result = run(chart_dependencies, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint


def test_the_chart_is_the_mixing_matrix(run: Callable[..., Result]) -> None:
    """Oracle: where each example also sees the next one, the chart is an identity and its shift."""
    task = broken.before_model(three_parameters_task(), lambda x: x + jnp.roll(x, -1, axis=0))
    result = run(chart_dependencies, task, examples=8)
    chart = next(one for one in result.evidence if isinstance(one, Matrix))
    np.testing.assert_array_equal(chart.values > 0, np.eye(8, 16) + np.eye(8, 16, 1) > 0)
