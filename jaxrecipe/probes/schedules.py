"""The step counters in an optimizer's state that only a learning-rate schedule reads, and updates at other counts."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxrecipe import trees

PyTree = Any


def schedule_counters(opt_state: PyTree) -> list[int]:
    """Which leaves of an optimizer's state count steps for a schedule, as indices into `jax.tree.leaves`.

    Those are the integer scalars that stand alone (optax's ScaleByScheduleState) or beside hyperparameters
    (inject_hyperparams). A counter beside moments (Adam's) corrects their bias, and is none.
    """
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    beside: dict[Any, set[str]] = defaultdict(set)
    for path, _ in leaves:
        for depth in range(len(path)):
            beside[path[:depth]].add(str(path[depth]))
    return [
        index
        for index, (path, leaf) in enumerate(leaves)
        if _is_counter(leaf) and path and (len(beside[path[:-1]]) == 1 or ".hyperparams" in beside[path[:-1]])
    ]


def _is_counter(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.shape(leaf) == () and jnp.issubdtype(leaf.dtype, jnp.integer)


def with_counters(opt_state: PyTree, which: list[int], value: Any) -> PyTree:
    """The state with these counters set."""
    leaves, structure = jax.tree.flatten(opt_state)
    for index in which:
        leaves[index] = jnp.asarray(value, leaves[index].dtype)
    return jax.tree.unflatten(structure, leaves)


class ProbedUpdate(NamedTuple):
    """What an optimizer makes of a gradient.

    Attributes:
        updates: what is added to the parameters, a tree like them.
        norm: of all of it together.
    """

    updates: PyTree
    norm: Float[Array, ""]


def update_probe(optimizer: optax.GradientTransformation) -> Callable[..., ProbedUpdate]:
    """One compiled program that asks the optimizer for an update under other gradients, counts and histories.

    It is called as `probe(params, gradients, step, first=0.0, second=1.0)`: an update by `second` times the gradients,
    the schedule's counters as they are at a training step; after an update by `first` times the gradients, or from a
    fresh state where that is 0. Where several steps make an update (optax.MultiSteps), it is asked for whole ones.
    """

    @partial(jax.jit, static_argnames="every")
    def run(params: PyTree, gradients: PyTree, count: Any, first: Any, second: Any, *, every: int) -> ProbedUpdate:
        def updated(state: PyTree, by: Any) -> tuple[PyTree, PyTree]:
            scaled = jax.tree.map(lambda leaf: leaf * by.astype(leaf.dtype), gradients)
            gather = lambda _, state: optimizer.update(scaled, state, params)[1]  # noqa: E731
            state = jax.lax.fori_loop(0, every - 1, gather, state) if every > 1 else state
            return optimizer.update(scaled, state, params)

        with jax.numpy_dtype_promotion("standard"):
            fresh = optimizer.init(params)
            _, used = updated(fresh, first)
            state = jax.tree.map(lambda new, old: jnp.where(first != 0, new, old), used, fresh)
            state = with_counters(state, schedule_counters(state), count)
            updates, _ = updated(state, second)
        return ProbedUpdate(updates, trees.global_norm(updates))

    found: list[int] = []

    def probe(params: PyTree, gradients: PyTree, step: int, *, first: float = 0.0, second: float = 1.0) -> ProbedUpdate:
        found.extend([] if found else [steps_an_update(optimizer, params)])
        count = jnp.int32(step // found[0])
        return run(params, gradients, count, jnp.float32(first), jnp.float32(second), every=found[0])

    return probe


MOST_STEPS_AN_UPDATE = 1024
"""Gradients of more steps than this are not collected by anyone."""


def steps_an_update(optimizer: optax.GradientTransformation, params: PyTree) -> int:
    """How many training steps make the first update: 1, or as many as optax.MultiSteps collects gradients of."""
    if not any(map(_collects, jax.tree.leaves(_initial(optimizer, params), is_leaf=_collects))):
        return 1

    def waits(carried: tuple[Any, PyTree]) -> Any:
        kept = [state for state in jax.tree.leaves(carried[1], is_leaf=_collects) if _collects(state)]
        return (carried[0] < MOST_STEPS_AN_UPDATE) & (kept[0].gradient_step == 0)

    @jax.jit
    def count(params: PyTree) -> Any:
        still = jax.tree.map(jnp.zeros_like, params)
        step = lambda carried: (carried[0] + 1, optimizer.update(still, carried[1], params)[1])  # noqa: E731
        return jax.lax.while_loop(waits, step, (jnp.int32(0), optimizer.init(params)))[0]

    with jax.numpy_dtype_promotion("standard"):
        return int(count(params))


def _collects(state: Any) -> bool:
    """Whether a state is that of optax.MultiSteps."""
    return isinstance(state, optax.MultiStepsState)


def has_schedule(optimizer: optax.GradientTransformation, params: PyTree) -> bool:
    """Whether the optimizer's state holds a counter of a schedule. Traces `init`, computes nothing."""
    return bool(schedule_counters(_initial(optimizer, params)))


def _initial(optimizer: optax.GradientTransformation, params: PyTree) -> PyTree:
    """Shapes of the optimizer's initial state."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
        return jax.eval_shape(optimizer.init, params)
