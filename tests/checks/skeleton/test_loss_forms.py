"""Losses that get what they are not made for are told apart: probabilities and logits, values and classes, a flat
loss."""

from collections.abc import Callable

import jax.numpy as jnp
import pytest
from jaxtyping import Array

from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo.healthy import (
    cross_entropy,
    digits_task,
)


def clipped(logits: Array, labels: Array) -> Array:
    return jnp.clip(cross_entropy(logits, labels), 0.0, 0.01)


BROKEN = [
    (updates, lambda: digits_task().replace(loss=clipped), "clip gradients, not the loss"),
]


@pytest.mark.parametrize(("check", "make", "hint"), BROKEN)
def test_the_cause_is_named(
    run: Callable[..., Result], check: Callable[..., Result], make: Callable[[], Task], hint: str
) -> None:
    result = run(check, make())
    assert result.status is Status.FAIL, result.headline
    assert hint in result.hint
