"""The loss along the lines that steps took, and how much of their gradients is noise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.run import SMALLEST, Run
from jaxrecipe.probes.first_steps import vector
from jaxrecipe.setup import Setup

FARTHER = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""How many times as far as the steps went the loss is looked at, along the line that they took."""
SHORTER = (0.001, 0.01, 0.1)
"""Parts of a single step at which the loss is looked at."""
BATCHES = 4
"""Training batches over which the loss farther along the line is averaged."""
NOISE_BATCHES = 16
"""Batches whose gradients are compared with the next one's."""


def losses_farther(setup: Setup, key: PRNGKeyArray, run: Run) -> Float[np.ndarray, "points"]:
    """Training loss at the start and at multiples of the whole way; nothing where the run broke down or stood still."""
    if not run.finite or not run.moved.any():
        return np.zeros(0)
    data = [setup.training_batch(step) for step in range(BATCHES)]

    def loss(factor: float) -> float:
        params = _along(run.start, run.end, np.float32(factor))
        return float(np.mean([setup.mean_loss(params, setup.model_state, *one, train=True, key=key) for one in data]))

    with np.errstate(all="ignore"):
        return np.array([loss(factor) for factor in (0.0, *FARTHER)])


def lowest_at(farther: Float[np.ndarray, "points"]) -> float:
    """How many times as far as the steps went the loss is lowest."""
    return FARTHER[int(np.nanargmin(farther[1:]))] if np.isfinite(farther[1:]).any() else 1.0


def shorter_step_helps(setup: Setup, run: Run) -> bool:
    """Whether a part of the first step that moved lowers the loss of its own batch."""
    step = run.first
    if step is None:
        return False

    def loss(factor: float) -> float:
        params = _along(step.before[0], step.after[0], np.float32(factor))
        return setup.mean_loss(params, setup.model_state, *step.batch, train=True, key=step.key)

    return min(loss(factor) for factor in SHORTER) < loss(0.0)


@jax.jit
def _along(start: Any, end: Any, factor: Float[Array, ""]) -> Any:
    """Parameters on the line through two others."""

    def move(a: Array, b: Array) -> Array:
        if not trees.is_floating(a):
            return a
        return (a.astype(jnp.float32) + factor * (b.astype(jnp.float32) - a.astype(jnp.float32))).astype(a.dtype)

    return jax.tree.map(move, start, end)


def gradient_noise(setup: Setup, key: PRNGKeyArray) -> float:
    """Share of the squared size of a batch's gradient that the next batch's does not share, at the start."""
    sizes, products, last = [], [], None
    for step in range(NOISE_BATCHES):
        _, gradient = setup.gradients(*setup.variables, *setup.training_batch(step), key=key, train=True)
        numbers = vector(gradient)
        sizes.append(float(numbers @ numbers))
        if last is not None:
            products.append(float(numbers @ last))
        last = numbers
    return float(np.clip(1 - np.mean(products) / max(np.mean(sizes), SMALLEST), 0.0, 1.0))
