"""Runs whose updates of the parameters are scaled, all on the same batches and with the same keys."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.step_pass import reported_loss
from jaxrecipe.setup import Setup

LAST = 8
"""Steps at the end of a run whose losses are compared, pair by pair."""


@dataclass(frozen=True)
class Run:
    """A run, on one batch or on the training data.

    Attributes:
        scale: of the updates; 1 is the step as it is.
        losses: before each step.
        untrained: of the fresh parameters on the batches and with the keys of the last steps.
        sizes: norm of what each step adds to the parameters.
    """

    scale: float
    losses: Float[np.ndarray, "steps"]
    untrained: Float[np.ndarray, "last"]
    sizes: Float[np.ndarray, "taken"]

    @property
    def start(self) -> float:
        """Loss of the fresh parameters: the same for all scales."""
        return float(self.untrained.mean())

    @property
    def end(self) -> float:
        """Mean of the last losses; infinite where they are not finite."""
        last = self.losses[-LAST:]
        return float(last.mean()) if np.isfinite(last).all() else math.inf

    @property
    def fall(self) -> float:
        """How far the loss falls."""
        return self.start - self.end

    @property
    def rises(self) -> bool:
        """Whether the loss ends above that of the fresh parameters with each of the last keys."""
        return not math.isfinite(self.end) or bool((self.losses[-LAST:] > self.untrained).all())

    @property
    def falls(self) -> bool:
        """Whether it ends below it with each of them."""
        return bool((self.losses[-LAST:] < self.untrained).all())

    def below(self, other: "Run") -> bool:
        """Whether this run ends lower, at each of the last steps: with the same keys they are pairs."""
        pairs = zip(self.losses[-LAST:], other.losses[-LAST:], strict=True)
        return all(math.isfinite(one) and (not math.isfinite(two) or one < two) for one, two in pairs)


def scaled_run(setup: Setup, key: PRNGKeyArray, scale: float, steps: int, *, all_batches: bool = False) -> Run:
    """Train on the first batch, or on all in turn, with the updates of the parameters times `scale`.

    The optimizer's state goes on as the step leaves it.
    """
    with_params = setup.loop.with_params
    state, losses, sizes = setup.fresh_state(), [], []
    blend = setup.memo((scaled_run,), _blend)
    for index in range(steps):
        old = setup.loop.variables(state)[0]
        batch = setup.training_batch(index) if all_batches else setup.batch
        state, metrics = setup.step(trees.copy(state), *batch, jax.random.fold_in(key, index))
        losses.append(reported_loss(metrics))
        if not math.isfinite(losses[-1]):
            losses += [math.nan] * (steps - len(losses))
            break
        if with_params is not None:
            new, size = blend(old, setup.loop.variables(state)[0], np.float32(scale))
            sizes.append(size)
            state = state if scale == 1 else with_params(state, new)
    untrained = setup.memo((scaled_run, steps, all_batches), lambda: _untrained(setup, key, steps, all_batches))
    return Run(scale, np.asarray(losses), untrained, np.asarray([float(size) for size in sizes], np.float64))


def _untrained(setup: Setup, key: PRNGKeyArray, steps: int, all_batches: bool) -> Float[np.ndarray, "last"]:
    """Losses of the fresh parameters on the batches and with the keys of the last steps."""
    losses = []
    for index in list(range(steps))[-LAST:]:
        batch = setup.training_batch(index) if all_batches else setup.batch
        _, metrics = setup.step(setup.fresh_state(), *batch, jax.random.fold_in(key, index))
        losses.append(reported_loss(metrics))
    return np.asarray(losses)


def _blend() -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """`blend(old, new, scale)`: old parameters plus the scaled update, and the norm of the update."""

    @jax.jit
    def blend(old: Any, new: Any, scale: Any) -> tuple[Any, Any]:
        def one(before: Any, after: Any) -> Any:
            return before + scale.astype(after.dtype) * (after - before) if trees.is_floating(after) else after

        pairs = zip(*map(jax.tree.leaves, (old, new)), strict=True)
        updates = [after - before for before, after in pairs if trees.is_floating(after)]
        return jax.tree.map(one, old, new), trees.global_norm(updates)

    return blend
