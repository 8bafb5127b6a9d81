"""What depends on what, against loops over examples in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.compiles import counting_compiles
from jaxrecipe.probes.dependencies import (
    dependence_gradients,
    flat_outputs,
    join_floating,
    movement,
    revealed_outputs,
    split_floating,
    spread_of,
)
from jaxrecipe.setup import Setup, make_setup
from tests.zoo.broken import before_model
from tests.zoo.healthy import HEALTHY, three_parameters_task


@pytest.fixture(scope="module")
def setup() -> Setup:
    """A linear model in which each example also sees half of the next one."""
    return make_setup(before_model(three_parameters_task(), lambda x: x + 0.5 * jnp.roll(x, -1, axis=0)))


def losses(setup: Setup, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Oracle: the squared errors of the same model, in float64."""
    kernel, bias = (np.asarray(setup.params[name], np.float64) for name in ("kernel", "bias"))
    outputs = ((inputs + 0.5 * np.roll(inputs, -1, axis=0)) @ kernel + bias)[:, 0]
    return np.square(outputs - targets)


@pytest.mark.parametrize("example", [0, 3])
def test_gradients_of_a_loss_by_inputs_and_targets(setup: Setup, example: int) -> None:
    """Oracle: differences of the losses in float64, one input number after the other."""
    inputs, targets = (np.asarray(leaf, np.float64) for leaf in setup.batch)
    size, step = len(inputs), 1e-6
    chosen = np.eye(size, dtype=np.float32)[example]
    none = [np.zeros(size, np.float32)]
    by_input, by_target = dependence_gradients(setup)(
        setup.variables, setup.batch, none, chosen, setup.key, train=False
    )
    for place in np.ndindex(inputs.shape):
        bump = np.zeros_like(inputs)
        bump[place] = step
        slope = losses(setup, inputs + bump, targets) - losses(setup, inputs - bump, targets)
        assert float(by_input[0][place]) == pytest.approx(slope[example] / (2 * step), rel=1e-3, abs=1e-4)
    expected = np.zeros(size)
    bump = step * np.eye(size)[example]
    slope = losses(setup, inputs, targets + bump) - losses(setup, inputs, targets - bump)
    expected[example] = slope[example] / (2 * step)
    np.testing.assert_allclose(by_target[0], expected, rtol=1e-3, atol=1e-4)


def test_gradients_of_a_projection_of_the_outputs(setup: Setup) -> None:
    """Oracle: the transposed linear map in float64."""
    size = setup.batch_size
    weights = np.random.default_rng(0).normal(size=size)
    gradient, _ = dependence_gradients(setup)(
        setup.variables, setup.batch, [weights.astype(np.float32)], np.zeros(size, np.float32), setup.key, train=False
    )
    kernel = np.asarray(setup.params["kernel"], np.float64)[:, 0]
    expected = (weights + 0.5 * np.roll(weights, 1))[:, None] * kernel
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-4, atol=1e-6)


def test_all_charts_share_one_program(setup: Setup) -> None:
    program = dependence_gradients(setup)
    none, one = np.zeros(setup.batch_size, np.float32), np.ones(setup.batch_size, np.float32)
    program(setup.variables, setup.batch, [none], one, setup.key, train=False)
    with counting_compiles() as compiles:
        assert dependence_gradients(setup) is program
        program(setup.variables, setup.batch, [one], none, setup.key, train=False)
    assert compiles.programs == 0


def test_outputs_are_computed_once(setup: Setup) -> None:
    assert revealed_outputs(setup, setup.key) is revealed_outputs(setup, setup.key)


def test_movement_is_the_largest_difference_over_the_spread() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 4, 3))
    moved = movement(before, after)
    for example in range(5):
        largest = max(abs(a - b) for a, b in zip(after[example].flat, before[example].flat, strict=True))
        assert moved[example] == pytest.approx(largest / np.std(before))
    assert movement(before, after, lead=2).shape == (5, 4)


def test_nan_on_one_side_is_infinite_and_on_both_none() -> None:
    before, after = np.array([[1.0], [np.nan], [2.0]]), np.array([[np.nan], [np.nan], [2.0]])
    np.testing.assert_array_equal(movement(before, after), [np.inf, 0.0, 0.0])


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 3.0], 1.0), ([200.0, 200.0], 2e-4), ([0.0, 0.0], 1e-30), ([], 1e-30)]
)
def test_a_spread_is_never_zero(values: list[float], expected: float) -> None:
    assert spread_of(np.array(values)) == pytest.approx(expected)


def test_floating_leaves_are_taken_apart_and_put_back() -> None:
    tree: Any = {"a": jnp.ones(2, jnp.float32), "b": jnp.arange(3), "c": [jnp.zeros((), jnp.bfloat16)]}
    floating, rest = split_floating(tree)
    assert [leaf.dtype for leaf in floating] == [jnp.float32, jnp.bfloat16]
    again = join_floating([leaf + 1 for leaf in floating], rest)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert float(again["a"][0]) == 2
    np.testing.assert_array_equal(again["b"], tree["b"])


def test_outputs_stand_side_by_side() -> None:
    setup = make_setup(HEALTHY["heads"](0))
    outputs = revealed_outputs(setup, setup.key)
    flat = flat_outputs(outputs)
    assert flat.shape == (32, 11)
    np.testing.assert_allclose(flat[:, :10], outputs["digit"])
    np.testing.assert_allclose(flat[:, 10], outputs["ink"])
