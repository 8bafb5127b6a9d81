"""What depends on what: changed inputs, parameters that hide nothing, and which outputs move; shared by the checks that chart it.

Batches are changed on the host, in numpy, so that no program is compiled for it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens

SMALL_START = 0.01
"""Parameters that all hold one value smaller than this (zero initialisation, layer scale) hide what stands behind them."""


def awake(params: Any, key: PRNGKeyArray) -> Any:
    """The parameters with those that start at zero drawn at random, since a zero in the last layer hides everything before it."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())

    def wake(leaf: Any) -> Any:
        if not trees.is_floating(leaf) or leaf.size == 0:
            return leaf
        values = np.asarray(leaf, np.float64)
        if np.ptp(values) > 0 or abs(values.flat[0]) > SMALL_START:
            return leaf
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100.0
        return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), leaf.dtype)

    return jax.tree.map(wake, params)


def on_host(tree: Any) -> Any:
    """The tree as numpy arrays."""
    return jax.tree.map(np.asarray, tree)


def other_values(leaf: np.ndarray) -> np.ndarray:
    """An array of the same shape and dtype that differs everywhere and stays within what the data hold.

    Numbers move by about their spread, integers to another value that occurs, truth values flip.
    """
    if leaf.dtype == np.bool_:
        return ~leaf
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        values = np.unique(leaf)
        if len(values) == 1:
            return np.full_like(leaf, values[0] - 1 if values[0] > 0 else values[0] + 1)
        return values[(np.searchsorted(values, leaf) + 1) % len(values)].astype(leaf.dtype)
    wide = leaf.astype(np.float64)
    spread = float(np.nanstd(wide)) or max(float(np.nanmax(np.abs(wide), initial=0.0)), 1.0)
    noise = np.random.default_rng(0).normal(size=leaf.shape)
    return (wide + spread * (noise + np.sign(noise))).astype(leaf.dtype)


def replaced(leaf: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The leaf with `other_values` where a mask over its leading axes is true."""
    mask = where.reshape(where.shape + (1,) * (leaf.ndim - where.ndim))
    return np.where(mask, other_values(leaf), leaf)


def flat_outputs(outputs: Any, lead: int = 1) -> Float[np.ndarray, "..."]:
    """All floating leaves side by side, float64, with `lead` leading axes kept; leaves that lack them are left out."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs)]
    kept = [leaf for leaf in leaves if leaf.ndim >= lead]
    first = next(iter(kept), np.zeros((0,) * lead))
    kept = [leaf for leaf in kept if leaf.shape[:lead] == first.shape[:lead]]
    return np.concatenate([leaf.astype(np.float64).reshape(*leaf.shape[:lead], -1) for leaf in kept], axis=-1)


def movement(before: np.ndarray, after: np.ndarray, lead: int = 1) -> Float[np.ndarray, "..."]:
    """Largest difference over all but the leading axes, as a share of the spread of `before`; NaN on one side only is infinite."""
    spread = float(np.nanstd(before)) if before.size else 0.0
    scale = max(spread, 1e-6 * float(np.nanmax(np.abs(before), initial=0.0)), 1e-30)
    with np.errstate(invalid="ignore"):
        difference = np.abs(after - before)
    difference[np.isnan(before) & np.isnan(after)] = 0.0
    difference = np.nan_to_num(difference, nan=np.inf, posinf=np.inf)
    return difference.reshape(*difference.shape[:lead], -1).max(axis=-1, initial=0.0) / scale


def precision_of(setup: Setup) -> float:
    """Relative rounding of the format that the model computes in."""
    return float(jnp.finfo(setup.task.precision.compute_dtype).eps) if setup.task.precision.casts else 1.2e-7


def loss_gradient_at_outputs(setup: Setup) -> Callable[[Any, Any], Any]:
    """A compiled function `(outputs, targets) -> gradient of the summed losses with respect to the floating outputs`."""

    @jax.jit
    def gradient(outputs: Any, targets: Any) -> Any:
        floating, rest = split_floating(outputs)
        return jax.grad(lambda leaves: setup.losses(join_floating(leaves, rest), targets).sum())(floating)

    return gradient


def split_floating(tree: Any) -> tuple[list[Array], Any]:
    """The floating leaves as a list, and what `join_floating` needs to put them back among the others."""
    leaves, structure = jax.tree.flatten(tree)
    floating = [leaf for leaf in leaves if trees.is_floating(leaf)]
    return floating, (structure, [None if trees.is_floating(leaf) else leaf for leaf in leaves])


def join_floating(floating: list[Array], rest: Any) -> Any:
    """The tree that `split_floating` took apart, with other floating leaves."""
    structure, others = rest
    moved = iter(floating)
    return jax.tree.unflatten(structure, [next(moved) if leaf is None else leaf for leaf in others])


def norm_of_example(leaves: list[Array], size: int) -> Float[Array, "batch"]:
    """Norm over everything but the batch axis, all leaves together; never a signed sum, which would cancel."""
    if not leaves:
        return jnp.zeros(size, jnp.float32)
    return jnp.sqrt(sum(jnp.square(leaf.astype(jnp.float32)).reshape(size, -1).sum(axis=1) for leaf in leaves))


def padding_id(tokens: np.ndarray) -> int | None:
    """The id that looks like padding: it ends many rows, in runs of several lengths, and stands nowhere else; None without one."""
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer) or tokens.shape[1] < 3 or len(tokens) < 4:
        return None
    values, counts = np.unique(tokens[:, -1], return_counts=True)
    value = int(values[counts.argmax()])
    hits = tokens == value
    runs = np.argmin(hits[:, ::-1], axis=1)
    runs[hits.all(axis=1)] = tokens.shape[1]
    several = (runs > 1).mean() >= 0.25 and len(np.unique(runs)) >= 3
    return value if several and hits.sum() == runs.sum() else None


def loss_alignment(setup: Setup) -> int | None:
    """The `a` such that the loss holds target t + a against output t, for targets `[batch, time, ...]`; None if it is not one number.

    Zero for most losses, one for those that shift inside: found by changing targets and watching where the gradient at the outputs moves.
    """
    inputs, targets = on_host(setup.batch)
    outputs = on_host(setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)[0])
    if not isinstance(targets, np.ndarray) or not isinstance(outputs, np.ndarray) or targets.ndim < 2:
        return None
    if outputs.shape[1] != targets.shape[1] or targets.shape[1] < 3:
        return None
    gradient = loss_gradient_at_outputs(setup)
    clean = np.asarray(gradient(outputs, targets)[0], np.float64)
    length, pad, found = targets.shape[1], _pad(setup), set()
    counted = (targets != pad) & (other_values(targets) != pad) if pad is not None else np.ones(targets.shape, bool)
    for position in {length // 2, max(1, length // 3)}:
        where = np.zeros(targets.shape[:2], bool)
        where[:, position] = counted[:, position].reshape(len(targets), -1).all(axis=1)
        moved = np.abs(np.asarray(gradient(outputs, replaced(targets, where))[0], np.float64) - clean)
        by_output = moved.reshape(*moved.shape[:2], -1).max(axis=(0, 2))
        if not np.isfinite(by_output).all() or by_output.max() == 0:
            return None
        strong = np.flatnonzero(by_output > 0.1 * by_output.max())
        found |= {position - int(t) for t in strong}
    return found.pop() if len(found) == 1 else None


def _pad(setup: Setup) -> int | None:
    return setup.task.target.pad if isinstance(setup.task.target, Tokens) else None
