"""The loop's own steps at another learning rate, from another start: what a step adds to the parameters, times a
factor.

Any optimizer and any step of one's own can be asked so, and no program is compiled for it: it is what
`optax.chain(optimizer, optax.scale(factor))` does.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.setup import Setup

PyTree = Any
TakeStep = Callable[[PyTree, Any, Any, PRNGKeyArray], PyTree]
"""`take(state, inputs, targets, key) -> state`; the given state may be donated."""


def other_start(setup: Setup, number: int) -> PyTree:
    """A fresh state: the set-up's own for number 0, one with other initial parameters for any other."""
    if number == 0:
        return setup.fresh_state()
    return trees.copy(setup.loop.init(jax.random.fold_in(setup.key, number)))


def plain_step(setup: Setup) -> TakeStep:
    """The loop's step as it is."""
    return lambda state, inputs, targets, key: setup.step(state, inputs, targets, key)[0]


def step_at_rate(setup: Setup, factor: float) -> TakeStep | None:
    """The loop's step with a learning rate so many times its own; None where the parameters cannot be put back into its
    state.
    """
    plain = plain_step(setup)
    if factor == 1.0:
        return plain
    places = setup.memo((step_at_rate, "places"), lambda: _places(setup))
    if places is None:
        return None

    def scaled(state: PyTree, inputs: Any, targets: Any, key: PRNGKeyArray) -> PyTree:
        before = trees.copy(setup.loop.variables(state)[0])
        state = plain(state, inputs, targets, key)
        between = jax.tree.leaves(_between(before, setup.loop.variables(state)[0], jnp.float32(factor)))
        leaves, structure = jax.tree.flatten(state)
        for place, leaf in zip(places, between, strict=True):
            leaves[place] = leaf
        return jax.tree.unflatten(structure, leaves)

    return scaled


@jax.jit
def _between(before: PyTree, after: PyTree, factor: Float[Array, ""]) -> PyTree:
    """Parameters on the line through two others; what is no floating number is taken from the second."""

    def move(a: Array, b: Array) -> Array:
        if not trees.is_floating(a):
            return b
        return (a.astype(jnp.float32) + factor * (b.astype(jnp.float32) - a.astype(jnp.float32))).astype(a.dtype)

    return jax.tree.map(move, before, after)


def _places(setup: Setup) -> list[int] | None:
    """Where among the leaves of a state the parameters are, in their order: the very same arrays, after a step.

    A fresh state may hold one array in several places (an average that starts from the parameters), a later one not.
    """
    state, _ = setup.step(setup.fresh_state(), *setup.batch, setup.key)
    where = {id(leaf): place for place, leaf in enumerate(jax.tree.leaves(state))}
    places = [where.get(id(leaf)) for leaf in jax.tree.leaves(setup.loop.variables(state)[0])]
    found = [place for place in places if place is not None]
    return found if len(set(found)) == len(places) else None
