"""How far outputs depend on parts of the inputs, against the weights of a linear model."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_input_dependencies.influence import Influence, input_influences
from jaxrecipe.setup import make_setup
from tests.zoo.broken import before_model
from tests.zoo.healthy import dense, linear, regression_task, stateless, three_parameters_task


def test_influence_is_proportional_to_the_weights() -> None:
    """Oracle: with one output the gradient of a projection is the weight, times a number that all columns share."""
    setup = make_setup(three_parameters_task())
    (one,) = input_influences(setup, setup.key, 16)
    weights = np.abs(np.asarray(setup.params["kernel"], np.float64)[:, 0])
    np.testing.assert_allclose(one.strength / one.strength.max(), weights / weights.max(), rtol=1e-5)
    assert one.share == 1
    assert one.kind == "table"


@pytest.mark.parametrize("kept", [0, 3, 8])
def test_the_share_is_that_of_the_columns_that_get_through(kept: int) -> None:
    mask = jnp.asarray(np.arange(8) < kept, jnp.float32)
    setup = make_setup(before_model(regression_task(), lambda x: x * mask))
    (one,) = input_influences(setup, setup.key, 16)
    np.testing.assert_array_equal(one.strength > 0, np.arange(8) < kept)
    assert one.dead is (kept == 0)


def integer_table(parts: int) -> list[Influence]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, size=(240, 4)).astype(np.int32)
    weights = jnp.asarray([1.0, 0.0, -2.0, 0.0], jnp.float32)

    def forward(params: Any, inputs: Any) -> Any:
        return linear(params, (inputs.astype(jnp.float32) * weights).sum(axis=1, keepdims=True))[:, 0]

    model = stateless(lambda key: dense(key, 1, 1), forward)
    task = three_parameters_task().replace(model=model, train=(x, x.sum(axis=1).astype(np.float32)), test=None)
    setup = make_setup(task)
    return input_influences(setup, setup.key, parts)


def test_integers_are_tried_column_by_column_or_at_once() -> None:
    (columns,), (whole,) = integer_table(16), integer_table(2)
    np.testing.assert_array_equal(columns.strength > 0, [True, False, True, False])
    assert columns.share == 0.5
    assert whole.strength.shape == ()
    assert whole.share == 1


def test_what_does_not_vary_has_no_share_to_lose() -> None:
    one = Influence("x", "table", np.ones((4, 2)), np.zeros(2), np.zeros(2, bool))
    assert one.share == 1
    assert not one.dead


def test_numbers_of_the_examples_look_like_an_index() -> None:
    nothing, varies = np.array(0.0), np.array(True)
    assert Influence("i", "table", np.arange(9), nothing, varies).looks_like_index
    assert not Influence("i", "table", np.arange(9) % 3, nothing, varies).looks_like_index
    assert not Influence("i", "table", np.arange(9.0), nothing, varies).looks_like_index
