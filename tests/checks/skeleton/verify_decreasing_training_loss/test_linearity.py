"""Whether a model is linear, how deep, and through how narrow a layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.linearity import Linearity, linearity
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.checks.skeleton.verify_decreasing_training_loss.test_check import digits_of, same
from tests.zoo.broken import after_model, before_model
from tests.zoo.healthy import digits_task, language_model_task


def seen(task: Task) -> Linearity:
    return linearity(make_setup(task), jax.random.key(0))


@pytest.mark.parametrize(
    ("sizes", "depth", "narrow"), [((64, 10), 1, False), ((64, 64, 10), 2, False), ((64, 4, 10), 2, True)]
)
def test_matrices_in_a_row(sizes: tuple[int, ...], depth: int, narrow: bool) -> None:
    found = seen(digits_of(same, sizes))
    assert found.affine
    assert found.depth == pytest.approx(depth, abs=1e-2)
    assert found.narrow is narrow


@pytest.mark.parametrize("activation", [jax.nn.relu, jnp.tanh, jax.nn.gelu])
def test_an_activation_makes_it_more_than_linear(activation: Callable[[Any], Any]) -> None:
    assert not seen(digits_of(activation)).affine


def test_a_final_or_a_first_non_linearity_counts_as_one() -> None:
    assert not seen(after_model(digits_of(same), jnp.tanh)).affine
    assert not seen(before_model(digits_of(same), jnp.square)).affine


def test_inputs_that_are_no_numbers_or_move_nothing_say_nothing() -> None:
    assert not seen(language_model_task()).affine
    assert not seen(before_model(digits_task(), jnp.zeros_like)).affine
