"""Where a loop's state holds trees that look like the parameters: averages of them, shadows, copies made earlier."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.first_steps import vector
from jaxrecipe.setup import Setup

PyTree = Any


class Place(NamedTuple):
    """Where in a state a tree like the parameters is: its number among the leaves and such trees, and its path."""

    number: int
    path: str


def parameter_copies(setup: Setup) -> list[Place]:
    """Places of a fresh state that hold the very numbers of the parameters, the parameters' own among them.

    Moments of an optimizer have the same form, but start at zero. Parameters that are all zero tell nothing.
    """
    state = setup.fresh_state()
    params = setup.loop.variables(state)[0]
    numbers = vector(params)
    if not numbers.any():
        return []
    return [place for place, tree in trees_like_parameters(setup, state) if np.array_equal(vector(tree), numbers)]


def trees_like_parameters(setup: Setup, state: PyTree) -> list[tuple[Place, PyTree]]:
    """Every tree of a state that has the structure and shapes of the parameters: they, their averages, moments."""
    params = setup.loop.variables(state)[0]
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=partial(_alike, params))
    return [
        (Place(number, jax.tree_util.keystr(path, simple=True, separator="/") or "the root"), tree)
        for number, (path, tree) in enumerate(found)
        if _alike(params, tree)
    ]


def parameters_at(setup: Setup, state: PyTree, place: Place) -> PyTree:
    """What a state holds at that place."""
    params = setup.loop.variables(state)[0]
    return jax.tree.leaves(state, is_leaf=partial(_alike, params))[place.number]


def moving_copy(setup: Setup, key: PRNGKeyArray) -> Place | None:
    """A place of the state whose parameters a step moves; of use where those that `variables` gives stand still."""
    places = parameter_copies(setup)
    state, _ = setup.step(setup.fresh_state(), *setup.training_batch(0), key)
    before = vector(setup.params)
    return next((place for place in places if (vector(parameters_at(setup, state, place)) != before).any()), None)


def _alike(params: PyTree, tree: PyTree) -> bool:
    """Whether a tree has the structure and shapes of the parameters."""
    if jax.tree.structure(tree) != jax.tree.structure(params):
        return False
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True)
    return all(np.shape(left) == np.shape(right) and trees.is_floating(left) for left, right in pairs)
