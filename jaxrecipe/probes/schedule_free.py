"""Schedule-free optimizers train one set of weights and mean an average of them: which is which in a loop's state."""

from typing import Any, NamedTuple

import jax
import optax.contrib

from jaxrecipe import trees
from jaxrecipe.probes.parameter_copies import trees_like_parameters
from jaxrecipe.setup import Setup

PyTree = Any


class Weights(NamedTuple):
    """Weights that a state holds.

    Attributes:
        path: where it holds them.
        held: as they are there.
        averaged: what `schedule_free_eval_params` makes of them: what is to be evaluated if those held are trained.
    """

    path: str
    held: PyTree
    averaged: PyTree


def schedule_free_weights(setup: Setup, state: PyTree) -> list[Weights]:
    """Every tree of weights in a state whose optimizer is schedule-free, each with its average.

    Empty where no such optimizer keeps its state there, or not for all parameters.
    """
    found = [leaf for leaf in jax.tree.leaves(state, is_leaf=_is_schedule_free) if _is_schedule_free(leaf)]
    if len(found) != 1 or not trees.same_form(found[0].z, setup.loop.variables(state)[0]):
        return []

    @jax.jit
    def average(optimizer: PyTree, weights: PyTree) -> PyTree:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats itself
            return optax.contrib.schedule_free_eval_params(optimizer, weights)

    return [Weights(place.path, tree, average(found[0], tree)) for place, tree in trees_like_parameters(setup, state)]


def _is_schedule_free(tree: PyTree) -> bool:
    return isinstance(tree, optax.contrib.ScheduleFreeState)
