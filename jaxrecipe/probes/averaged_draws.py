"""Whether a loop's `predict` averages several draws of the model in training mode, as Monte Carlo dropout does."""

from typing import Any

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.probes.first_steps import random_in_training, vector
from jaxrecipe.setup import Setup

DRAWS = 12
"""Draws of the model whose mean stands for that of all."""
NEARER = 0.6
"""A prediction that is nearer to the mean of the draws than this share of a single draw is more than one draw."""
LEAST = 1e-4
"""Noise of a prediction, of its size, below which it is none but rounding."""


def averages_draws(setup: Setup, state: Any, inputs: Any) -> bool:
    """Whether predictions of the untrained model are noisy as a mean of several draws is, and lie about their mean.

    The noise shows when the same examples are asked for in the reverse order, or again.
    """
    predict = setup.loop.predict
    if setup.task.loop is None or predict is None:
        return False
    return setup.memo((averages_draws,), lambda: _averages_draws(setup, predict, state, inputs))


def _averages_draws(setup: Setup, predict: Any, state: Any, inputs: Any) -> bool:
    if not random_in_training(setup, setup.key):
        return False
    turned = jax.tree.map(lambda leaf: leaf[::-1], inputs)
    first, again = (vector(predict(trees.copy(state), inputs)) for _ in range(2))
    back = vector(jax.tree.map(lambda leaf: leaf[::-1], predict(trees.copy(state), turned)))
    if max(_apart(first, again), _apart(first, back)) < LEAST:
        return False
    variables = setup.loop.variables(state)
    keys = [jax.random.fold_in(setup.key, draw) for draw in range(DRAWS)]
    draws = np.stack([vector(setup.forward(*variables, inputs, train=True, key=key)[0]) for key in keys])
    middle = draws.mean(axis=0)
    single = float(np.mean([np.linalg.norm(draw - middle) for draw in draws])) * np.sqrt(DRAWS / (DRAWS - 1))
    return bool(np.linalg.norm(first - middle) < NEARER * single)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / max(float(np.linalg.norm(one)), 1e-12))
