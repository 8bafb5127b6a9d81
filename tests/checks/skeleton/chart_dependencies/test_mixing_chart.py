"""Which losses depend on which examples, against a loop over all pairs in float64."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_dependencies.mixing_chart import (
    MixingChart,
    chart_evaluation,
    chart_training,
    norm_by_example,
)
from jaxrecipe.setup import make_setup
from tests.zoo.broken import before_model
from tests.zoo.healthy import batch_norm_task, three_parameters_task


def connected(mix: np.ndarray, inputs: np.ndarray, kernel: np.ndarray, bias: np.ndarray, targets: np.ndarray) -> Any:
    """Oracle: which squared errors of a linear model move when one example's inputs do, one pair after the other."""

    def losses(x: np.ndarray) -> np.ndarray:
        return np.square((mix @ x @ kernel + bias)[:, 0] - targets)

    size = len(inputs)
    found = np.zeros((size, size), bool)
    for j in range(size):
        moved = inputs.copy()
        moved[j] += 0.5
        found[:, j] = losses(moved) != losses(inputs)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_chart_is_that_of_a_random_mixing_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mix = (np.eye(24) + (rng.random((24, 24)) < 0.1)).astype(np.float32)
    setup = make_setup(before_model(three_parameters_task(), lambda x: jnp.asarray(mix) @ x))
    chart = chart_evaluation(setup, setup.key, 24, 1e-6)
    inputs, targets = (np.asarray(leaf, np.float64) for leaf in setup.batch)
    kernel, bias = (np.asarray(setup.params[name], np.float64) for name in ("kernel", "bias"))
    expected = connected(mix.astype(np.float64), inputs, kernel, bias, targets)
    np.testing.assert_array_equal(chart.inputs, expected)
    np.testing.assert_array_equal(chart.targets, np.eye(24, dtype=bool))
    assert chart.pairs == expected.sum() - 24


def test_training_mode_is_charted_by_values_alone() -> None:
    setup = make_setup(batch_norm_task())
    assert chart_training(setup, setup.key, 3).pairs > 0
    assert chart_evaluation(setup, setup.key, 3, 1e-6).pairs == 0


def test_pairs_are_those_of_different_examples() -> None:
    inputs, targets = np.eye(3, dtype=bool), np.zeros((3, 3), bool)
    inputs[0, 2] = targets[0, 2] = targets[1, 0] = True
    chart = MixingChart(inputs, targets, by_nan=targets, strength=inputs * 1.0, blind=np.zeros(3, bool))
    assert chart.pairs == 2
    assert chart.pairs_by_nan == 2


def test_a_norm_is_no_signed_sum() -> None:
    leaves = [np.array([[3.0, -3.0], [0.0, 0.0]]), np.array([1.0, 2.0])]
    np.testing.assert_allclose(norm_by_example(leaves, 2), [np.sqrt(19), 2.0])
    np.testing.assert_array_equal(norm_by_example([], 2), [0.0, 0.0])
