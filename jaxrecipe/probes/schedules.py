"""The step counters in an optimizer's state that only a learning-rate schedule reads, and updates at other counts."""

from collections import defaultdict
from collections.abc import Callable
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

    It is called as `probe(params, gradients, count, first=0.0, second=1.0)`: an update by `second` times the gradients,
    the schedule's counters at `count`; after an update by `first` times the gradients, or from a fresh state where that
    is 0.
    """

    @jax.jit
    def run(params: PyTree, gradients: PyTree, count: Any, first: Any, second: Any) -> ProbedUpdate:
        def scaled(by: Any) -> PyTree:
            return jax.tree.map(lambda leaf: leaf * by.astype(leaf.dtype), gradients)

        with jax.numpy_dtype_promotion("standard"):
            fresh = optimizer.init(params)
            _, used = optimizer.update(scaled(first), fresh, params)
            state = jax.tree.map(lambda new, old: jnp.where(first != 0, new, old), used, fresh)
            state = with_counters(state, schedule_counters(state), count)
            updates, _ = optimizer.update(scaled(second), state, params)
        return ProbedUpdate(updates, trees.global_norm(updates))

    def probe(
        params: PyTree, gradients: PyTree, count: int, *, first: float = 0.0, second: float = 1.0
    ) -> ProbedUpdate:
        return run(params, gradients, jnp.int32(count), jnp.float32(first), jnp.float32(second))

    return probe


def has_schedule(optimizer: optax.GradientTransformation, params: PyTree) -> bool:
    """Whether the optimizer's state holds a counter of a schedule. Traces `init`, computes nothing."""
    return bool(schedule_counters(jax.eval_shape(optimizer.init, params)))
