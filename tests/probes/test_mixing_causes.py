"""What makes examples depend on each other is told by trying."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.checks.skeleton.generalize_a_special_case import generalize_a_special_case
from jaxrecipe.probes.mixing_causes import loss_mixes_examples, loss_mixing_causes, model_mixing_causes
from jaxrecipe.report.result import Status
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.healthy import digits_task, regression_task


def weighted_mean(outputs: Any, values: Any) -> Any:
    """One number an example, whose mean is the mean by the weights of the batch."""
    weights = 1.0 + jnp.square(values[:, 0])
    return weights / weights.mean() * jnp.square(outputs - values)[:, 0]


def weighted_mean_divided_twice(outputs: Any, values: Any) -> Any:
    """The same by the sum of the weights, of which the step then takes the mean."""
    return weighted_mean(outputs, values) / len(values)


IN_LOSS = {
    "loss/broadcast": broken.column_against_row,
    "loss/softmax-over-batch": broken.batch_softmax,
    "loss/mixes-examples": lambda: regression_task().replace(
        loss=lambda outputs, values: jnp.square(outputs - values)[:, 0] + 0.1 * jnp.abs(outputs).mean()
    ),
    "loss/weighted-by-batch": lambda: regression_task().replace(loss=weighted_mean),
}
IN_MODEL = {
    "model/reshape-for-transpose": broken.reshape_for_transpose,
    "model/normalizes-over-batch": broken.batch_mean_leak,
    "loss/softmax-over-batch": lambda: broken.after_model(digits_task(), lambda x: jax.nn.softmax(x, axis=0)),
}


@pytest.mark.parametrize("code", IN_LOSS)
def test_causes_in_the_loss(code: str) -> None:
    setup = make_setup(IN_LOSS[code]())
    assert loss_mixes_examples(setup, setup.key)
    assert loss_mixing_causes(setup, setup.key)[0].code == code


@pytest.mark.parametrize("code", IN_MODEL)
def test_causes_in_the_model(code: str) -> None:
    make: Callable[[], Task] = IN_MODEL[code]
    setup = make_setup(make())
    assert not loss_mixes_examples(setup, setup.key)
    assert model_mixing_causes(setup, setup.key)[0].code == code


def test_a_healthy_loss_mixes_nothing() -> None:
    for task in (digits_task(), regression_task()):
        setup = make_setup(task)
        assert not loss_mixes_examples(setup, setup.key)


def test_a_weighted_mean_is_not_one_that_is_divided_twice() -> None:
    setup = make_setup(regression_task().replace(loss=weighted_mean_divided_twice))
    assert "loss/weighted-by-batch" not in [cause.code for cause in loss_mixing_causes(setup, setup.key)]


def test_a_weighted_mean_is_a_warning() -> None:
    setup = make_setup(regression_task().replace(loss=weighted_mean))
    for check in (chart_dependencies, generalize_a_special_case):
        result = check(setup, key=setup.key)
        assert (result.status, result.codes[0]) == (Status.WARN, "loss/weighted-by-batch")
