"""Losses that get what they are not made for are told apart: probabilities and logits, values and classes, a flat loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array

from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Model, Task
from tests.zoo.broken import after_model
from tests.zoo.healthy import (
    cross_entropy,
    digits_task,
    flat,
    linear,
    multi_label_task,
)


def clipped(logits: Array, labels: Array) -> Array:
    return jnp.clip(cross_entropy(logits, labels), 0.0, 0.01)


BROKEN = [
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
