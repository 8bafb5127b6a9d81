"""The experiment that tells the optimizer from the model: plain Adam on the same examples with the same model and
loss.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from jaxrecipe.setup import Setup

ADAM_RATE = 3e-3
"""Learning rate of the plain Adam that a failing run is compared with: ten times the one that Karpathy's recipe starts
from, since eight examples need no care."""
ADAM_STEPS = 300


class AdamRun(NamedTuple):
    """How it went: the lowest mean loss, and the steps that it took to stop."""

    loss: float
    steps: int


def plain_adam(
    setup: Setup,
    variables: tuple[Any, Any],
    batch: tuple[Any, Any],
    key: PRNGKeyArray,
    *,
    train: bool = True,
    enough: float = -np.inf,
) -> AdamRun:
    """Train on one batch until the mean loss is as low as `enough`, for so many steps at most.

    Args:
        setup: the set-up.
        variables: where it starts.
        batch: all examples at once.
        key: seeds the model's own randomness.
        train: the mode of the model.
        enough: a loss at which to stop.
    """
    params, model_state = variables
    optimizer = optax.adam(ADAM_RATE)
    move = setup.memo((plain_adam, "move"), lambda: _move(optimizer))
    state, lowest = optimizer.init(params), np.inf
    for step in range(1, ADAM_STEPS + 1):
        loss, gradient = setup.gradients(params, model_state, *batch, key=jax.random.fold_in(key, step), train=train)
        lowest = float(np.fmin(lowest, float(loss)))
        if lowest <= enough:
            return AdamRun(lowest, step)
        params, state = move(params, state, gradient)
    return AdamRun(lowest, ADAM_STEPS)


def _move(optimizer: optax.GradientTransformation) -> Any:
    @jax.jit
    def move(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

    return move
