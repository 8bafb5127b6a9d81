"""The step counters in an optimizer's state that only a learning-rate schedule reads."""

from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from jaxrecipe import trees

PyTree = Any


def clocks(opt_state: PyTree) -> list[int]:
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
        if _counts(leaf) and path and (len(beside[path[:-1]]) == 1 or ".hyperparams" in beside[path[:-1]])
    ]


def _counts(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.shape(leaf) == () and jnp.issubdtype(leaf.dtype, jnp.integer)


def with_clocks(opt_state: PyTree, which: list[int], value: Any) -> PyTree:
    """The state with these counters set."""
    leaves, structure = jax.tree.flatten(opt_state)
    for index in which:
        leaves[index] = jnp.asarray(value, leaves[index].dtype)
    return jax.tree.unflatten(structure, leaves)


def rates(
    optimizer: optax.GradientTransformation, params: PyTree, gradients: PyTree, counts: np.ndarray
) -> Float[np.ndarray, "counts"] | None:
    """How large an update is when nothing but the schedule's counter differs; None when there is no schedule.

    The moments are those after one step with the same gradients, the counter each of `counts`.
    """

    def after_one(params: PyTree, gradients: PyTree) -> PyTree:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(gradients, optimizer.init(params), params)[1]

    which = clocks(jax.eval_shape(after_one, params, gradients))
    if not which:
        return None

    @jax.jit
    def size(params: PyTree, gradients: PyTree, count: Any) -> Any:
        after = with_clocks(after_one(params, gradients), which, count)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = optimizer.update(gradients, after, params)
        return trees.global_norm(updates)

    return np.array([float(size(params, gradients, np.int32(count))) for count in counts])
