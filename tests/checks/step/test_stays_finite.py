"""The example that makes a step NaN is named; a step that blows up in training is told from one that begins so."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.step.stays_finite import stays_finite
from jaxrecipe.report.result import Status
from tests.zoo import bare

ODD = 37


def with_zero_length(divide):
    """A loss whose value or gradient is not finite for an example of zeros."""

    def loss(params, x, y):
        return bare.cross_entropy(params, divide(x @ params["layer_0"]["w"][:, :1]) * x, y)

    def make():
        step, state, _ = bare.in_pieces(loss=loss)
        x, y = bare.data(0)
        x[ODD] = 0.0
        return step, state, bare.batches(x, y)

    return make


@pytest.mark.parametrize("name", ["in pieces", "policy gradient"])
def test_finite_steps_pass(run, name):
    assert run(stays_finite, bare.task_of(bare.HEALTHY[name](0))).status is Status.PASS


@pytest.mark.parametrize(
    ("divide", "code"),
    [
        (lambda z: 1.0 / jnp.square(z), "loss/not-finite"),
        (lambda z: jnp.sqrt(jnp.square(z)), "step/gradient-not-finite"),
    ],
)
def test_the_example_is_named(run, divide, code):
    result = run(stays_finite, bare.task_of(with_zero_length(divide)()))
    assert (result.status, result.codes[0]) == (Status.FAIL, code)
    assert "0 to 0" in result.headline


def test_numbers_that_are_not_finite_in_the_batch(run):
    step, state, batches = bare.in_pieces()
    batches[3][0][2, 1] = np.nan
    result = run(stays_finite, bare.task_of((step, state, batches)))
    assert (result.status, result.codes) == (Status.FAIL, ("data/not-finite",))


def test_a_run_that_diverges(run):
    def loss(params, x, y):
        return jnp.square(bare.forward(params, x) - jax.nn.one_hot(y, bare.CLASSES)).sum()

    result = run(stays_finite, bare.task_of(bare.in_pieces(loss=loss, optimizer=optax.sgd(0.3))))
    assert (result.status, result.codes) == (Status.FAIL, ("optimizer/diverged",))
