"""What makes examples depend on each other is told by trying."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.probes.mixing_causes import loss_mixes_examples, loss_mixing_causes, model_mixing_causes
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.healthy import digits_task, regression_task

IN_LOSS = {
    "loss/broadcast": broken.column_against_row,
    "loss/softmax-over-batch": broken.batch_softmax,
    "loss/mixes-examples": lambda: regression_task().replace(
        loss=lambda outputs, values: jnp.square(outputs - values)[:, 0] + 0.1 * jnp.abs(outputs).mean()
    ),
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
