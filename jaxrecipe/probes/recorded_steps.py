"""A few steps of the loop under test, with what an independent plain step needs to know of each."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.precision.policy import apply_policy
from jaxrecipe.setup import Setup

PyTree = Any
Variables = Callable[[PyTree], tuple[PyTree, PyTree]]
DRAWS = 6
"""Draws of the model's own randomness where the key that a step used cannot be told."""


@dataclass(frozen=True)
class Trace:
    """Steps of a loop, each seen from the parameters that the loop really had.

    Attributes:
        params: before each step, and after the last.
        model_states: likewise.
        wanted_states: the model state that a forward pass in training leaves, of each step.
        gradients: of the mean loss at the parameters before each step, `[draws][steps]`; several draws when the model is random
            and the key of the step is not known.
        losses: mean loss of each step; of the first draw.
        reported: the "loss" that each step returned, where it did.
        state: after the last step.
    """

    params: list[PyTree]
    model_states: list[PyTree]
    wanted_states: list[PyTree]
    gradients: list[list[PyTree]]
    losses: list[float]
    reported: list[float | None]
    state: PyTree

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.losses)

    def moves(self) -> list[Float[np.ndarray, "parameters"]]:
        """What each step added to the parameters, as one vector."""
        flat = [vector(params) for params in self.params]
        return [after - before for before, after in itertools.pairwise(flat)]

    def without(self, dropped: Sequence[int]) -> "Trace":
        """The trace without some steps in which nothing happened."""
        kept = [step for step in range(self.steps) if step not in dropped]
        return Trace(
            params=[self.params[step] for step in kept] + [self.params[-1]],
            model_states=[self.model_states[step] for step in kept] + [self.model_states[-1]],
            wanted_states=[self.wanted_states[step] for step in kept],
            gradients=[[draw[step] for step in kept] for draw in self.gradients],
            losses=[self.losses[step] for step in kept],
            reported=[self.reported[step] for step in kept],
            state=self.state,
        )


def vector(tree: PyTree) -> Float[np.ndarray, "n"]:
    """All numbers of a tree in float64, one after the other."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def random_in_training(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the model in training depends on its key."""
    inputs, _ = setup.batch
    first, second = (
        vector(setup.forward(*setup.variables, inputs, train=True, key=jax.random.fold_in(key, draw))[0])
        for draw in range(2)
    )
    return not np.array_equal(first, second, equal_nan=True)


def watch(setup: Setup, key: PRNGKeyArray, steps: int, *, variables: Variables | None = None) -> Trace:
    """Take steps with the loop on different batches, and the gradient of the mean loss beside each.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: how many.
        variables: where in the state the parameters are, where that is not what the loop says.
    """
    variables = variables or setup.loop.variables
    gradients_of = _gradients(setup)
    noisy = random_in_training(setup, key)
    state = setup.fresh_state()
    params, model_state = trees.copy(variables(state))
    trace = Trace([params], [model_state], [], [[] for _ in range(DRAWS if noisy else 1)], [], [], None)
    derive: Callable[..., PRNGKeyArray] | None = None
    for step in range(steps):
        inputs, targets = setup.training_batch(step)
        step_key = jax.random.fold_in(key, step)
        held = [leaf for leaf in jax.tree.leaves(trees.copy(state)) if _is_key(leaf)]
        after, metrics = setup.step(trees.copy(state), inputs, targets, step_key)
        reported = float(metrics["loss"]) if "loss" in metrics else None

        def loss_of(one: PRNGKeyArray, batch: Any = (inputs, targets), at: Any = (params, model_state)) -> float:
            return setup.mean_loss(*at, *batch, train=True, key=one)

        if noisy and step == 0 and reported is not None:
            derive = _derivation(loss_of, reported, step_key, step, held)
        if derive is not None and reported is not None and not _same(loss_of(derive(step_key, step, held)), reported):
            derive = None
        keys = [derive(step_key, step, held)] if derive else list(jax.random.split(step_key, len(trace.gradients)))
        for draw, into in enumerate(trace.gradients):
            loss, grads = gradients_of(params, model_state, inputs, targets, keys[min(draw, len(keys) - 1)])
            into.append(grads)
            if draw == 0:
                trace.losses.append(float(loss))
        _, wanted = setup.forward(params, model_state, inputs, train=True, key=keys[0])
        state = after
        params, model_state = trees.copy(variables(state))
        trace.params.append(params)
        trace.model_states.append(model_state)
        trace.wanted_states.append(wanted)
        trace.reported.append(reported)
    known = not noisy or derive is not None
    return Trace(
        trace.params,
        trace.model_states,
        trace.wanted_states,
        trace.gradients[:1] if known else trace.gradients,
        trace.losses,
        trace.reported,
        state,
    )


def _gradients(setup: Setup) -> Callable[..., tuple[Any, PyTree]]:
    """Mean loss and gradient in training mode; through the task's loss scale where there is one, as small ones would vanish."""
    if setup.task.loss_scale.kind == "none":
        return lambda params, state, inputs, targets, key: setup.gradients(params, state, inputs, targets, key=key)
    apply = apply_policy(setup.task.model.apply, setup.task.precision)

    @jax.jit
    def scaled(params: Any, state: Any, inputs: Any, targets: Any, key: Any, scale: Any) -> Any:
        def loss_of(params: Any) -> Any:
            outputs, _ = apply(params, state, inputs, train=True, key=key)
            loss = setup.task.loss(outputs, targets).astype(jnp.float32).mean()
            return loss * scale, loss

        grads, loss = jax.grad(loss_of, has_aux=True)(params)
        return loss, jax.tree.map(lambda leaf: leaf.astype(jnp.float32) / scale, grads)

    def gradients(params: Any, state: Any, inputs: Any, targets: Any, key: Any) -> tuple[Any, PyTree]:
        scale = np.float32(setup.task.loss_scale.scale)
        loss, grads = scaled(params, state, inputs, targets, key, scale)
        while not bool(trees.all_finite(grads)) and scale > 1:
            scale = np.float32(scale / 2)
            loss, grads = scaled(params, state, inputs, targets, key, scale)
        return loss, grads

    return gradients


def _is_key(leaf: Any) -> bool:
    return trees.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) and leaf.shape == ()


def _derivation(
    loss_of: Callable[[PRNGKeyArray], float], reported: float, key: PRNGKeyArray, step: int, held: list[PRNGKeyArray]
) -> Callable[..., PRNGKeyArray] | None:
    """How a step makes the model's key of its own, told by the loss that it reports; None when none of the usual ways fits."""
    for which in range(-1, len(held)):
        for way in WAYS:
            if _same(loss_of(way(key if which < 0 else held[which], step)), reported):
                return lambda key, step, held, which=which, way=way: way(key if which < 0 else held[which], step)
    return None


WAYS: tuple[Callable[[PRNGKeyArray, int], PRNGKeyArray], ...] = (
    lambda key, _: key,
    jax.random.fold_in,
    lambda key, step: jax.random.split(jax.random.fold_in(key, step))[1],
    lambda key, step: jax.random.split(jax.random.fold_in(key, step))[0],
    lambda key, _: jax.random.split(key)[0],
    lambda key, _: jax.random.split(key)[1],
    lambda key, step: jax.random.fold_in(key, step + 1),
)
"""The usual ways in which a step makes the model's key of the one that it is given or holds."""


def _same(left: float, right: float) -> bool:
    return abs(left - right) <= 1e-5 * max(abs(left), abs(right), 1e-3)


def like_params(setup: Setup) -> list[tuple[int, str]]:
    """Where the state holds a tree like the parameters, other than optimizer moments: index among the leaves so found, and path."""
    state = setup.fresh_state()
    params = setup.loop.variables(state)[0]
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=partial(alike, params))
    return [
        (index, jax.tree_util.keystr(path, simple=True, separator="/") or "the root")
        for index, (path, tree) in enumerate(found)
        if alike(params, tree) and np.array_equal(vector(tree), vector(params))
    ]


def alike(params: Any, tree: Any) -> bool:
    """Whether a tree has the structure and shapes of the parameters."""
    if jax.tree.structure(tree) != jax.tree.structure(params):
        return False
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True)
    return all(np.shape(left) == np.shape(right) and trees.is_floating(left) for left, right in pairs)
