"""What depends on what: by gradients, and by which numbers move when others are changed; shared by the checks that
chart it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.changed_values import revealing_parameters
from jaxrecipe.setup import Setup

DependenceGradients = Callable[..., tuple[list[Array], list[Array]]]
"""`(variables, batch, output_weights, loss_weights, key, train=...) -> gradients of the inputs' and the targets'
leaves`."""


def on_host(tree: Any) -> Any:
    """The tree as numpy arrays."""
    return jax.tree.map(np.asarray, tree)


def revealed_outputs(setup: Setup, key: PRNGKeyArray) -> Any:
    """Outputs on the first batch in evaluation mode, under parameters that hide nothing, on the host."""
    drawn = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())

    def outputs() -> Any:
        params = revealing_parameters(setup, key)
        if setup.task.objective is not None:
            return on_host(setup.costs(params, setup.model_state, *setup.batch, train=False, key=key).outputs)
        return on_host(setup.forward(params, setup.model_state, setup.batch[0], train=False, key=key)[0])

    return setup.memo((revealed_outputs, drawn), outputs)


def dependence_gradients(setup: Setup) -> DependenceGradients:
    """The one program by which all charts take gradients: of a weighted sum of outputs and losses, by inputs and
    targets.

    Only floating leaves have weights and gradients. A loss whose gradient is not finite makes all of them NaN.
    """

    def compiled() -> DependenceGradients:
        @partial(jax.jit, static_argnames="train")
        def gradients(
            variables: Any, batch: Any, output_weights: Any, loss_weights: Any, key: Any, *, train: bool
        ) -> Any:
            parts = [split_floating(part) for part in batch]

            def weighted(leaves: list[list[Any]]) -> Array:
                inputs, targets = (join_floating(one, rest) for one, (_, rest) in zip(leaves, parts, strict=True))
                params, model_state = variables
                costs = setup.costs(params, model_state, inputs, targets, train=train, key=key)
                pairs = zip(output_weights, split_floating(costs.outputs)[0], strict=True)
                projected = sum((jnp.vdot(w, leaf.astype(jnp.float32)) for w, leaf in pairs), jnp.float32(0))
                return projected + jnp.vdot(loss_weights, costs.losses.astype(jnp.float32))

            return tuple(jax.grad(weighted)([floating for floating, _ in parts]))

        return gradients

    return setup.memo((dependence_gradients,), compiled)


def flat_outputs(outputs: Any, lead: int = 1) -> Float[np.ndarray, "..."]:
    """All floating leaves side by side, float64, with `lead` leading axes kept; leaves that lack them are left out."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs)]
    kept = [leaf for leaf in leaves if leaf.ndim >= lead]
    first = next(iter(kept), np.zeros((0,) * lead))
    kept = [leaf for leaf in kept if leaf.shape[:lead] == first.shape[:lead]]
    return np.concatenate([leaf.astype(np.float64).reshape(*leaf.shape[:lead], -1) for leaf in kept], axis=-1)


def spread_of(values: np.ndarray) -> float:
    """Standard deviation of the numbers; where they hardly differ a millionth of their size, and never zero."""
    if not values.size:
        return TINY
    return max(float(np.nanstd(values)), 1e-6 * float(np.nanmax(np.abs(values), initial=0.0)), TINY)


TINY = 1e-30
"""What a spread of zero counts as, so that any difference is large against it."""


def movement(before: np.ndarray, after: np.ndarray, lead: int = 1) -> Float[np.ndarray, "..."]:
    """Largest difference over all but the leading axes, as a share of the spread of `before`; NaN on one side is
    infinite.
    """
    with np.errstate(invalid="ignore"):
        difference = np.abs(after - before)
    difference[np.isnan(before) & np.isnan(after)] = 0.0
    difference = np.nan_to_num(difference, nan=np.inf, posinf=np.inf)
    return difference.reshape(*difference.shape[:lead], -1).max(axis=-1, initial=0.0) / spread_of(before)


def split_floating(tree: Any) -> tuple[list[Any], Any]:
    """The floating leaves as a list, and what `join_floating` needs to put them back among the others."""
    leaves, structure = jax.tree.flatten(tree)
    floating = [leaf for leaf in leaves if trees.is_floating(leaf)]
    return floating, (structure, [None if trees.is_floating(leaf) else leaf for leaf in leaves])


def join_floating(floating: list[Any], rest: Any) -> Any:
    """The tree that `split_floating` took apart, with other floating leaves."""
    structure, others = rest
    moved = iter(floating)
    return jax.tree.unflatten(structure, [next(moved) if leaf is None else leaf for leaf in others])
