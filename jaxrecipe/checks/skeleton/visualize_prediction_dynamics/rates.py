"""The experiment behind a verdict on the learning rate: the same steps at other rates, from two starts."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.lines import BATCHES
from jaxrecipe.probes.other_rates import other_start, step_at_rate
from jaxrecipe.setup import Setup

LOWER, HIGHER = (0.1, 0.01, 0.001), (10.0, 100.0)
"""Times the learning rate that is tried."""
STARTS = (0, 1)
"""Initial parameters from which each rate is tried: the set-up's own, and others."""
LONGER = 4
"""So many times as many steps as were followed: a bumpy start may be made good by then, and a slow one pick up."""
LOOKS = 3
"""Looks at the training loss over the last quarter of the steps."""
SPREADS = 3.0
"""Another rate does better where it gains so many times what the loss moves by in the end."""
WORTH = 0.01
"""Gains of less than this share of the loss are none."""


class Gain(NamedTuple):
    """How much lower the training loss is in the end, and by how much it moves there."""

    gain: float
    spread: float
    start: float

    @property
    def clear(self) -> bool:
        """Whether something is gained, beyond what the loss moves by."""
        return self.gain > max(SPREADS * self.spread, WORTH * abs(self.start))


class Rate(NamedTuple):
    """A learning rate that does better.

    Attributes:
        factor: how many times the own one.
        share: the most that the own one gained of its gain, over the starts.
        steps: that were taken.
        everywhere: whether it does better from each start; else only from the set-up's own.
    """

    factor: float
    share: float
    steps: int
    everywhere: bool


def better_rate(setup: Setup, key: PRNGKeyArray, steps: int, factors: tuple[float, ...], most: float) -> Rate | None:
    """A rate at which as many steps gain so much more that the own ones gain less than a share of it: the first that
    does so from each start, or one that does from the set-up's own; None where none does, or where the rate of this
    loop cannot be changed.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: how many are taken.
        factors: times the learning rate, in the order in which they are tried.
        most: the share.
    """
    own = [_gain(setup, key, steps, start, 1.0) for start in STARTS]
    here = None
    for factor in factors:
        shares = []
        for start, mine in zip(STARTS, own, strict=True):
            other = _gain(setup, key, steps, start, factor)
            if mine is None or other is None:
                return None
            shares.append(mine.gain / other.gain if other.clear else np.inf)
            if not shares[-1] < most:
                break
        if max(shares) < most:
            return Rate(factor, max(shares), steps, everywhere=True)
        here = Rate(factor, max(shares), steps, everywhere=False) if shares[0] < most else here
    return here


def _gain(setup: Setup, key: PRNGKeyArray, steps: int, start: int, factor: float) -> Gain | None:
    """What steps at a rate gain; None where the rate cannot be changed."""
    take = step_at_rate(setup, factor)
    if take is None:
        return None
    state = other_start(setup, start)
    before = _training_loss(setup, key, setup.loop.variables(state))
    looks = []
    for step in range(steps):
        state = take(state, *setup.training_batch(step), jax.random.fold_in(key, step))
        if (steps - 1 - step) % max(steps // 4 // LOOKS, 1) == 0 and step >= steps - steps // 4:
            looks.append(_training_loss(setup, key, setup.loop.variables(state)))
    ends = np.array(looks)
    if not np.isfinite(ends).all():
        return Gain(-np.inf, 0.0, before)
    return Gain(before - float(np.median(ends)), float(ends.std()), before)


def _training_loss(setup: Setup, key: PRNGKeyArray, variables: tuple[Any, Any]) -> float:
    """The mean over a few training batches, in training mode."""
    batches = [setup.training_batch(step) for step in range(BATCHES)]
    return float(np.mean([setup.mean_loss(*variables, *batch, train=True, key=key) for batch in batches]))
