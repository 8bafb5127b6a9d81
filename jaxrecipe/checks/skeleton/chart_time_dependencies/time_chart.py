"""What each output along time depends on: the inputs are changed at one position after the other."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxrecipe.checks.skeleton.chart_time_dependencies.time_axis import TimeAxis
from jaxrecipe.probes.changed_values import replaced, revealing_parameters
from jaxrecipe.probes.dependencies import flat_outputs, movement, on_host
from jaxrecipe.probes.rounding import model_rounding
from jaxrecipe.setup import Setup

LEAST = 1e-5
"""Movement, as a share of the spread of the outputs, that counts: weights of attention fall off, but not by this
much."""
MOST = 1e6
"""Movement that is shown at most, where an output that hardly varies moves."""
FEWEST_POSITIONS = 4


@dataclass(frozen=True)
class TimeChart:
    """`strength[t, k]`: how far output t moves when the input at `positions[k]` changes, as a share of the outputs'
    spread.
    """

    strength: np.ndarray
    positions: np.ndarray
    tolerance: float

    @property
    def seen(self) -> Bool[np.ndarray, "time positions"]:
        """Which outputs depend on which of the positions."""
        return self.strength > self.tolerance

    @property
    def distances(self) -> set[int]:
        """Every `s - t` such that output t sees input s."""
        outputs, which = np.nonzero(self.seen)
        return set((self.positions[which] - outputs).tolist())

    @property
    def ahead(self) -> int:
        """How far an output sees at most: 0 for a causal model, negative for one that does not see its own position."""
        return max(self.distances)

    @property
    def leaking(self) -> int:
        """How many outputs depend on a later position."""
        return int((self.seen & (self.positions[None, :] > np.arange(len(self.strength))[:, None])).any(axis=1).sum())

    @property
    def irregularity(self) -> float:
        """Share of the pairs that are not as most pairs of the same distance `s - t` are.

        Zero for a mask, a window, a recurrence in either direction: there the distance decides. A reshape that mixes
        positions lets some outputs see what others at the same distance do not.
        """
        distance = self.positions[None, :] - np.arange(len(self.strength))[:, None]
        odd = 0
        for d in np.unique(distance):
            seen = self.seen[distance == d]
            odd += int(min(seen.sum(), (~seen).sum()))
        return odd / self.seen.size


def time_chart(setup: Setup, axis: TimeAxis, key: PRNGKeyArray, count: int) -> TimeChart:
    """What each output sees; in training mode too, unless statistics of the batch mix the positions there."""
    length, count = axis.length, max(count, FEWEST_POSITIONS)
    spread = {0, 1, 2, length - 1, *np.linspace(0, length - 1, count).astype(int).tolist()}
    ends_first = sorted(spread, key=lambda s: (s not in (0, 1, length - 1), s))
    chosen = np.sort(np.array(ends_first[:count]))
    params = revealing_parameters(setup, key)
    strength = np.zeros((length, len(chosen)))
    for train in (False,) if jax.tree.leaves(setup.model_state) else (False, True):
        forward = partial(setup.forward, params, setup.model_state, train=train, key=key)
        strength = np.maximum(strength, movement_by_position(forward, setup.batch[0], axis, chosen))
    return TimeChart(strength, chosen, max(LEAST, model_rounding(setup)))


def movement_by_position(
    forward: Callable[[Any], tuple[Any, Any]], inputs: Any, axis: TimeAxis, chosen: np.ndarray
) -> Float[np.ndarray, "time positions"]:
    """How far each output moves when one position of the inputs changes in every example."""
    leaves, structure = jax.tree.flatten(on_host(inputs))

    def outputs(leaves: list[np.ndarray]) -> np.ndarray:
        found = [np.asarray(leaf) for leaf in jax.tree.leaves(forward(jax.tree.unflatten(structure, leaves))[0])]
        return flat_outputs([leaf for leaf in found if leaf.ndim >= 2 and leaf.shape[1] == axis.length], lead=2)

    clean, columns = outputs(leaves), []
    for position in chosen:
        where = np.zeros((len(clean), axis.length), bool)
        where[:, position] = True
        changed = [replaced(leaf, where) if i in axis.leaves else leaf for i, leaf in enumerate(leaves)]
        columns.append(np.minimum(movement(clean, outputs(changed), lead=2).max(axis=0), MOST))
    return np.stack(columns, axis=1)
