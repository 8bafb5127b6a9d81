"""Losses that get what they are not made for are told apart: probabilities and logits, values and classes, a flat loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jaxtyping import Array

from jaxrecipe.checks.skeleton.loss_at_init import loss_at_init
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Model, Task
from tests.zoo.broken import after_model
from tests.zoo.healthy import (
    binary_task,
    cross_entropy,
    digits_task,
    flat,
    linear,
    multi_label_task,
    regression_task,
)


def of_probabilities(probabilities: Array, labels: Array) -> Array:
    p = jnp.clip(probabilities, 1e-7, 1.0 - 1e-7)
    losses = -(labels * jnp.log(p) + (1.0 - labels) * jnp.log(1.0 - p))
    return losses.reshape(losses.shape[0], -1).mean(axis=1)


def of_values(outputs: Array, values: Array) -> Array:
    return -(values * jax.nn.log_sigmoid(outputs) + (1.0 - values) * jax.nn.log_sigmoid(-outputs)).mean(axis=1)


def clipped(logits: Array, labels: Array) -> Array:
    return jnp.clip(cross_entropy(logits, labels), 0.0, 0.01)


BROKEN = [
    (loss_at_init, lambda: multi_label_task().replace(loss=of_probabilities), "given logits"),
    (loss_at_init, lambda: binary_task().replace(loss=of_probabilities), "given logits"),
    (loss_at_init, lambda: regression_task(mean=-2.0).replace(loss=of_values), "squared error"),
    (overfit_one_batch, lambda: after_model(multi_label_task(), jax.nn.sigmoid), "sigmoid is applied twice"),
    (overfit_one_batch, lambda: digits_task().replace(loss=clipped), "clip gradients, not the loss"),
    (updates, lambda: digits_task().replace(loss=clipped), "clip gradients, not the loss"),
]


@pytest.mark.parametrize(("check", "make", "hint"), BROKEN)
def test_the_cause_is_named(
    run: Callable[..., Result], check: Callable[..., Result], make: Callable[[], Task], hint: str
) -> None:
    result = run(check, make())
    assert result.status is Status.FAIL, result.headline
    assert hint in result.hint


def test_probabilities_for_a_loss_on_probabilities_are_right(run: Callable[..., Result]) -> None:
    healthy = after_model(multi_label_task().replace(loss=of_probabilities), jax.nn.sigmoid)
    assert run(loss_at_init, healthy).status is Status.PASS


def test_a_squared_error_on_logits_is_no_loss_on_probabilities(run: Callable[..., Result]) -> None:
    def squared(logits: Array, labels: Array) -> Array:
        return optax.l2_loss(logits, labels).mean(axis=1)

    result = run(loss_at_init, multi_label_task().replace(loss=squared))
    assert "given logits" not in result.hint


def test_dropout_that_drowns_the_signal_is_named(run: Callable[..., Result]) -> None:
    base = digits_task()

    def apply(params: Any, state: Any, inputs: Array, *, train: bool, key: Any) -> tuple[Array, Any]:
        hidden = jax.nn.relu(linear(params["hidden"], flat(inputs)))
        if train:
            hidden = jnp.where(jax.random.bernoulli(key, 0.03, hidden.shape), hidden / 0.03, 0.0)
        return linear(params["logits"], hidden), state

    result = run(overfit_one_batch, base.replace(model=Model(base.model.init, apply)))
    assert result.status is Status.FAIL
    assert "dropout is far too strong" in result.hint
