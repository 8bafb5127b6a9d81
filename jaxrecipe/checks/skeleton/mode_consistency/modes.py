"""The model in both modes, with two keys each, and what a step keeps of it: everything that the check looks at."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.randomness import Randomness, evaluation_randomness, relative_distance
from jaxrecipe.setup import Setup

FEW, MOST = 0.02, 0.98
"""Share of outputs that are zero in training between which they may have been dropped: fewer are chance, more are a
dead layer."""


@dataclass(frozen=True)
class Modes:
    """Outputs on the first batch in evaluation and training mode, with two keys, and the paths of the state that moved.

    Attributes:
        evaluated, trained: outputs of the two keys in each mode.
        moved_by_evaluation, moved_by_training: leaves of the model state that a forward pass in that mode changes.
        kept: leaves of the model state that are changed after a training step.
        floating: all leaves of the model state that could move.
        stepped: the state of the loop after that step.
        drawn: what the model draws in evaluation mode, and why.
    """

    evaluated: tuple[Any, Any]
    trained: tuple[Any, Any]
    moved_by_evaluation: tuple[str, ...]
    moved_by_training: tuple[str, ...]
    kept: tuple[str, ...]
    floating: tuple[str, ...]
    stepped: Any
    drawn: Randomness

    @property
    def randomness_at_evaluation(self) -> float:
        """How far two evaluations with different keys are apart."""
        return relative_distance(*self.evaluated)

    @property
    def randomness_in_training(self) -> float:
        """The same in training mode."""
        return relative_distance(*self.trained)

    @property
    def difference(self) -> float:
        """How far training mode is from evaluation mode, with one key."""
        return relative_distance(self.evaluated[0], self.trained[0])

    @property
    def dropped(self) -> float:
        """Share of the outputs that are exactly zero in training, elsewhere with another key, and nowhere at
        evaluation.
        """
        shares = [0.0]
        for leaves in zip(*map(jax.tree.leaves, (self.evaluated[0], *self.trained)), strict=True):
            at_evaluation, one, two = (np.asarray(leaf, np.float64) == 0 for leaf in leaves)
            share = float(one.mean())
            if not at_evaluation.any() and FEW < share < MOST and two.mean() > FEW and (one != two).any():
                shares.append(share)
        return max(shares)

    def lost(self, tolerance: float) -> tuple[str, ...]:
        """Leaves that training moves and the step does not keep.

        All of them where something depends on the mode, is not noise, and is collected nowhere.
        """
        by_batch = self.randomness_in_training <= tolerance < self.difference
        if by_batch and not self.moved_by_training:
            return self.floating
        return tuple(sorted(set(self.moved_by_training) - set(self.kept)))


def look_at_modes(setup: Setup, key: PRNGKeyArray) -> Modes:
    """Run the model in both modes with two keys each, and take one step of the loop."""
    (inputs, targets), (params, state) = setup.batch, setup.variables
    keys = [jax.random.fold_in(key, draw) for draw in range(2)]
    evaluated = [setup.forward(params, state, inputs, train=False, key=one) for one in keys]
    trained = [setup.forward(params, state, inputs, train=True, key=one) for one in keys]
    stepped, _ = setup.step(setup.fresh_state(), inputs, targets, keys[0])
    return Modes(
        evaluated=(evaluated[0][0], evaluated[1][0]),
        trained=(trained[0][0], trained[1][0]),
        moved_by_evaluation=changed_leaves(state, evaluated[0][1]),
        moved_by_training=changed_leaves(state, trained[0][1]),
        kept=changed_leaves(state, setup.loop.variables(stepped)[1]),
        floating=tuple(path for path, leaf in trees.named_leaves(state).items() if trees.is_floating(leaf)),
        stepped=stepped,
        drawn=evaluation_randomness(setup),
    )


def changed_leaves(before: Any, after: Any) -> tuple[str, ...]:
    """Paths of the floating leaves of a model state whose values are no longer the same."""
    others = trees.named_leaves(after)
    return tuple(
        path
        for path, leaf in trees.named_leaves(before).items()
        if trees.is_floating(leaf)
        and path in others
        and not np.array_equal(np.asarray(leaf), np.asarray(others[path]), equal_nan=True)
    )
