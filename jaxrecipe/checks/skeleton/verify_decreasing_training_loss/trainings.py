"""Training of several models on the same few hundred examples, and how they compare."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.linear_baseline import linear_rival
from jaxrecipe.setup import Setup, with_model

Pool = Int[np.ndarray, "examples"]


@dataclass
class Race:
    """Training losses of the user's model and of a linear one at the same steps."""

    steps: list[int] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    rival: list[float] = field(default_factory=list)

    @property
    def gain(self) -> float:
        """How far the better one came down from the start."""
        return max(self.rival[0] - min(self.rival[-1], self.ours[-1]), 0.0)

    @property
    def lag(self) -> float:
        """How far ours is behind, as a share of the gain; negative when it is ahead, infinite when it is not finite."""
        if not np.isfinite(self.ours[-1]):
            return float("inf")
        behind = self.ours[-1] - self.rival[-1]
        return float(behind / self.gain) if self.gain > 0 else float(np.sign(behind)) * float("inf" if behind else 0)


def race_against_linear(setup: Setup, key: PRNGKeyArray, pool: Pool, steps: int, behind: float) -> Race | str:
    """Train both on the same batches, on and on where ours is behind; or why there is no fair comparison."""
    if setup.task.mixes_examples:
        return "the loss compares the examples of a batch"
    model = linear_rival(setup, setup.prepared("train", pool)[0])
    if isinstance(model, str):
        return model
    rival, ours = with_model(setup, model), setup.fresh_state()
    try:
        states = [rival.fresh_state(), ours]
    except Exception:  # an optimizer that is made for the user's parameters alone, with masks or labels by path
        return "the optimizer is made for the parameters of your model alone"
    race, both = Race(), (rival, setup)
    for until in (0, steps // 3, steps, 2 * steps, 3 * steps):
        since = race.steps[-1] if race.steps else 0
        states = [train(one, key, state, pool, since, until) for one, state in zip(both, states, strict=True)]
        race.steps.append(until)
        race.rival.append(training_loss(rival, key, states[0], pool, modes=(False,)))
        race.ours.append(training_loss(setup, key, states[1], pool))
        far_ahead = until > 0 and race.lag <= -behind
        if far_ahead or (until >= steps and race.lag <= behind) or not np.isfinite(race.ours[-1]):
            break
    return race if np.isfinite(race.rival[-1]) else "your optimizer makes the linear model diverge"


def train(setup: Setup, key: PRNGKeyArray, state: Any, pool: Pool, start: int, end: int) -> Any:
    """Steps `start` to `end` on batches of the pool."""
    for step in range(start, end):
        inputs, targets = setup.prepared("train", batch_of(setup.batch_size, pool, step))
        state, _ = setup.step(state, inputs, targets, jax.random.fold_in(key, step))
    return state


def batch_of(size: int, pool: Pool, step: int) -> Int[np.ndarray, "batch"]:
    """Which examples of the pool a step gets: the pool in turns, in an order of its own each time."""
    turns = -(-size // len(pool)) + 1
    first = step * size // len(pool)
    orders = [np.random.default_rng([7, first + turn]).permutation(pool) for turn in range(turns)]
    return np.concatenate(orders)[step * size - first * len(pool) :][:size]


def training_loss(
    setup: Setup, key: PRNGKeyArray, state: Any, pool: Pool, modes: tuple[bool, ...] = (True, False)
) -> float:
    """Mean loss over (nearly all of) the pool in batches of full size, of training and evaluation mode the lower."""
    params, model_state = setup.loop.variables(state)
    size = setup.batch_size
    starts = range(0, max(len(pool) - size + 1, 1), size)
    whole = np.resize(pool, max(size, len(pool) // size * size))
    data = [setup.prepared("train", whole[start : start + size]) for start in starts]
    means = []
    for mode in modes:
        losses = []
        for inputs, targets in data:
            outputs, _ = setup.forward(params, model_state, inputs, train=mode, key=key)
            losses.append(np.asarray(setup.losses(outputs, targets), np.float64).mean())
        means.append(np.mean(losses))
    return float(np.nanmin(means)) if np.isfinite(means).any() else float("nan")
