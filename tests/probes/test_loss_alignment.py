"""Which outputs a loss holds against which targets, and what looks like padding."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.probes.loss_alignment import (
    declared_padding,
    loss_alignment,
    loss_gradient_at_outputs,
    only_array,
    padding_id,
    token_target,
)
from jaxrecipe.setup import make_setup
from jaxrecipe.targets import Classes, Tokens
from tests.zoo import sequences as s
from tests.zoo.healthy import digits_task, three_parameters_task


def held_against(offset: int) -> Any:
    """A loss that holds target t + offset against output t."""

    def loss(logits: Any, tokens: Any) -> Any:
        length = tokens.shape[1]
        outputs = slice(max(0, -offset), length - max(0, offset))
        targets = slice(max(0, offset), length - max(0, -offset))
        return s.token_loss(logits[:, outputs], tokens[:, targets])

    return loss


@pytest.mark.parametrize("offset", [-1, 0, 1, 2])
def test_the_offset_is_found(offset: int) -> None:
    assert loss_alignment(make_setup(s.transformer_task(loss=held_against(offset)))) == offset


def test_padded_rows_have_an_offset_too() -> None:
    assert loss_alignment(make_setup(s.padded_task())) == 0


def test_there_is_no_offset_without_time_or_where_the_loss_mixes_positions() -> None:
    assert loss_alignment(make_setup(digits_task())) is None
    mixing = lambda logits, tokens: s.token_loss(jnp.cumsum(logits, axis=1), tokens)  # noqa: E731
    assert loss_alignment(make_setup(s.transformer_task(loss=mixing))) is None


def test_the_gradient_is_that_of_the_losses() -> None:
    """Oracle: the derivative of a square."""
    setup = make_setup(three_parameters_task())
    outputs, targets = np.linspace(-1, 1, 24, dtype=np.float32), np.asarray(setup.batch[1])
    gradient = loss_gradient_at_outputs(setup)(outputs, targets)[0]
    np.testing.assert_allclose(gradient, 2 * (outputs.astype(np.float64) - targets), rtol=1e-5, atol=1e-6)
    assert loss_gradient_at_outputs(setup) is loss_gradient_at_outputs(setup)


def padded(lengths: list[int], width: int = 8, pad: int = 0) -> np.ndarray:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 50, size=(len(lengths), width))
    return np.where(np.arange(width) < np.array(lengths)[:, None], tokens, pad).astype(np.int32)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (padded([8, 5, 3, 6, 2, 4]), 0),
        (padded([8, 5, 3, 6, 2, 4], pad=99), 99),
        (padded([5, 5, 5, 5, 5, 5]), None),
        (padded([8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6]), None),
        (padded([8, 5, 3])[:, :8], None),
        (np.where(padded([8, 5, 3, 6, 2, 4]) == 7, 0, padded([8, 5, 3, 6, 2, 4])) * 0, None),
        (padded([8, 5, 3, 6, 2, 4]).astype(np.float32), None),
    ],
)
def test_what_looks_like_padding(tokens: np.ndarray, expected: int | None) -> None:
    assert padding_id(tokens) == expected


def test_a_token_that_also_stands_inside_of_rows_is_no_padding() -> None:
    tokens = padded([8, 5, 3, 6, 2, 4])
    tokens[0, 1] = 0
    assert padding_id(tokens) is None


def test_a_single_target_is_found_in_a_mapping_too() -> None:
    tokens = Tokens(9, pad=3)
    assert token_target(tokens) == token_target({"next": tokens}) == tokens
    assert token_target({"next": tokens, "digit": Classes(2)}) is None
    assert token_target(Classes(2)) is None
    assert declared_padding({"next": tokens}) == 3
    assert declared_padding(Classes(2)) is None


def test_the_only_array() -> None:
    np.testing.assert_array_equal(only_array({"a": jnp.arange(3)}), [0, 1, 2])
    assert only_array({"a": jnp.arange(3), "b": jnp.arange(3)}) is None
