"""Whether a term of the loss that has nothing to do with the targets keeps the model from using its inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.setup import Setup

RELIEF = 0.01
"""Times the gradient of the penalized outputs in the training that is compared."""
NOTICEABLE = 1e-6
"""A gradient whose share is less than this is none."""
PLAIN_RATE = 1e-3
"""Learning rate of Adam where the task declares no optimizer."""
Batches = list[tuple[Any, Any]]


class Relief(NamedTuple):
    """Two trainings from one start with the same batches: with the loss as it is, and with the penalty's pull reduced.

    Attributes:
        outputs: paths of the outputs that are penalized whatever the targets are.
        before: how much more a held-out example costs with the outputs of another one than with its own, after the
            training with the loss as it is.
        after: the same after the other training, in the same unit: the inputs are used where it is large.
        sure: standard errors by which `after` is larger, pair by pair.
    """

    outputs: tuple[str, ...]
    before: float
    after: float
    sure: float


def relieved(setup: Setup, batches: Batches, key: PRNGKeyArray, steps: int) -> Relief | None:
    """Train with less of the penalty; None where no output is penalized apart from the targets."""
    penalized = _penalized(setup, key)
    if not any(penalized.values()) or all(penalized.values()):
        return None
    own, other = (
        _worth_of_own(setup, _train(setup, penalized, share, key, steps), batches, penalized) for share in (1.0, RELIEF)
    )
    difference = other - own
    error = max(float(difference.std() / np.sqrt(len(difference))), 1e-12)
    sure = float(difference.mean() / error) if np.isfinite(difference).all() else 0.0
    return Relief(
        tuple(path for path, is_so in penalized.items() if is_so), float(own.mean()), float(other.mean()), sure
    )


def _penalized(setup: Setup, key: PRNGKeyArray) -> dict[str, bool]:
    """Of each output whether its gradient is there and is the same whatever the targets are."""
    inputs, targets = setup.batch
    outputs, _ = setup.forward(*setup.variables, inputs, train=True, key=key)
    if not all(trees.is_floating(leaf) for leaf in jax.tree.leaves(outputs)):
        return {}
    pull = jax.jit(jax.grad(lambda outputs, targets: setup.losses(outputs, targets).sum()))
    moved = jax.tree.map(lambda leaf: np.roll(np.asarray(leaf), 1, axis=0), targets)
    here, there = (trees.named_leaves(pull(outputs, one)) for one in (targets, moved))

    def alike(path: str) -> bool:
        one, other = (np.asarray(leaves[path], np.float64) for leaves in (here, there))
        size = np.abs(one).max(initial=0.0)
        return bool(size > 0 and np.abs(one - other).max() <= NOTICEABLE * size)

    return {path: alike(path) for path in here}


def _train(setup: Setup, penalized: dict[str, bool], share: float, key: PRNGKeyArray, steps: int) -> tuple[Any, Any]:
    """Variables after so many steps with a share of the penalty's gradient."""
    optimizer = setup.task.optimizer if setup.task.has_optimizer else optax.adam(PLAIN_RATE)
    take = setup.memo((_train, "step"), lambda: _step(setup, optimizer, tuple(penalized.values())))
    params, model_state = setup.variables
    state = optimizer.init(params)
    for step in range(steps):
        batch, step_key = setup.training_batch(step), jax.random.fold_in(key, step)
        params, model_state, state = take(params, model_state, state, *batch, step_key, np.float32(share))
    return params, model_state


def _step(setup: Setup, optimizer: Any, penalized: tuple[bool, ...]) -> Callable[..., tuple[Any, Any, Any]]:
    """A plain step whose outputs hand on a share of their gradient where they are penalized."""

    @jax.jit
    def step(params: Any, model_state: Any, state: Any, inputs: Any, targets: Any, key: Any, share: Any) -> Any:
        def total(params: Any) -> Any:
            outputs, after = setup.forward(params, model_state, inputs, train=True, key=key)
            leaves, form = jax.tree.flatten(outputs)
            held = [
                jax.lax.stop_gradient(leaf) + share.astype(leaf.dtype) * (leaf - jax.lax.stop_gradient(leaf))
                if is_so
                else leaf
                for leaf, is_so in zip(leaves, penalized, strict=True)
            ]
            return jnp.mean(setup.losses(jax.tree.unflatten(form, held), targets)), after

        (_, after), gradient = jax.value_and_grad(total, has_aux=True)(params)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), after, state

    return step


def _worth_of_own(
    setup: Setup, variables: tuple[Any, Any], batches: Batches, penalized: dict[str, bool]
) -> Float[np.ndarray, "examples"]:
    """How much more each held-out example costs with another one's outputs in place of its own, penalty apart."""
    found = []
    for inputs, targets in batches:
        outputs, _ = setup.forward(*variables, inputs, train=False, key=setup.key)
        leaves, form = jax.tree.flatten(jax.tree.map(np.asarray, outputs))
        rolled = [
            leaf if is_so else np.roll(leaf, 1, axis=0) for leaf, is_so in zip(leaves, penalized.values(), strict=True)
        ]
        others = setup.losses(jax.tree.unflatten(form, rolled), targets)
        found.append(np.asarray(others, np.float64) - np.asarray(setup.losses(outputs, targets), np.float64))
    return np.concatenate(found)
