"""The first training steps of the loop under test, taken once for all checks that look at them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.objective import mean_cost, objective_of
from jaxrecipe.setup import Setup

PyTree = Any
Variables = tuple[PyTree, PyTree]
"""Parameters and model state."""
VariablesOf = Callable[[PyTree], Variables]
"""Where in a loop's state its variables are."""

KEPT_BYTES = 2**30
"""Memory that variables and batches of steps taken once may keep; steps beyond it are taken again when asked for."""


@dataclass(frozen=True)
class Step:
    """One step of the loop, seen from the variables that the loop really had.

    Attributes:
        index: which step it is, from 0.
        batch: the inputs and targets that it was given.
        key: what the loop was given.
        held_keys: typed scalar keys that the state held before it, in the order of its leaves.
        before, after: the variables around it, copies.
        metrics: what the step returned beside the state.
    """

    index: int
    batch: tuple[Any, Any]
    key: PRNGKeyArray
    held_keys: tuple[PRNGKeyArray, ...]
    before: Variables
    after: Variables
    metrics: dict[str, Any]

    @property
    def reported_loss(self) -> float | None:
        """The "loss" that the step returned, where it did."""
        return float(np.mean(np.asarray(self.metrics["loss"]))) if "loss" in self.metrics else None

    @cached_property
    def moved(self) -> float:
        """Norm of what the step added to the parameters; exactly 0 where no bit of them changed."""
        pairs = zip(jax.tree.leaves(self.before[0]), jax.tree.leaves(self.after[0]), strict=True)
        with np.errstate(invalid="ignore", over="ignore"):  # a run that blows up moves by NaN
            added = [on_host(after) - on_host(before) for before, after in pairs if trees.is_floating(before)]
        return float(np.linalg.norm([np.linalg.norm(leaf) for leaf in added])) if added else 0.0


@dataclass
class _Recording:
    """Steps that were taken already, from the first on, and the state behind the last of them."""

    state: PyTree
    steps: list[Step] = field(default_factory=list)
    kept_bytes: int = 0


def first_steps(setup: Setup, key: PRNGKeyArray, count: int) -> Iterator[Step]:
    """The loop's first steps from a fresh state, on successive training batches, with a key folded by the step.

    They are taken when they are first asked for, and once for all checks of the set-up.

    Args:
        setup: the set-up.
        key: seeds the steps.
        count: how many.
    """
    recording = setup.memo((first_steps, key_bytes(key)), lambda: _Recording(setup.fresh_state()))
    state = None
    for index in range(count):
        if index < len(recording.steps):
            yield recording.steps[index]
            continue
        state = recording.state if state is None else state
        state, step = _take(setup, key, index, trees.copy(state), setup.loop.variables)
        if recording.kept_bytes + trees.nbytes((step.after, step.batch)) <= KEPT_BYTES:
            recording.kept_bytes += trees.nbytes((step.after, step.batch))
            recording.steps.append(step)
            recording.state = state
        yield step


def steps_of_other_variables(setup: Setup, key: PRNGKeyArray, count: int, variables_of: VariablesOf) -> Iterator[Step]:
    """The same steps, with the variables read from another place of the state than the loop says."""
    state = setup.fresh_state()
    for index in range(count):
        state, step = _take(setup, key, index, state, variables_of)
        yield step


def _take(setup: Setup, key: PRNGKeyArray, index: int, state: PyTree, variables_of: VariablesOf) -> tuple[PyTree, Step]:
    """One step; `state` may be donated."""
    step_key = jax.random.fold_in(key, index)
    before = trees.copy(variables_of(state))
    held = tuple(trees.copy(leaf) for leaf in jax.tree.leaves(state) if _is_key(leaf))
    batch = setup.training_batch(index)
    state, metrics = setup.step(state, *batch, step_key)
    return state, Step(index, batch, step_key, held, before, trees.copy(variables_of(state)), metrics)


def _is_key(leaf: Any) -> bool:
    return trees.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) and leaf.shape == ()


def first_movement(setup: Setup, key: PRNGKeyArray, patience: int) -> Step | None:
    """The first step that moves a parameter; None when none of so many does."""
    return next((step for step in first_steps(setup, key, patience) if step.moved > 0), None)


def vector(tree: PyTree) -> Float[np.ndarray, "numbers"]:
    """All numbers of a tree on the host in float64, one after the other, in the order of the leaves."""
    leaves = [on_host(leaf).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def on_host(leaf: Any) -> Float[np.ndarray, "..."]:
    """An array in float64 on the host."""
    return np.asarray(leaf).astype(np.float64)


def random_in_training(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the model, or the objective, in training depends on its key."""

    def outputs(draw: int) -> Float[np.ndarray, "numbers"]:
        draws, (inputs, targets) = jax.random.fold_in(key, draw), setup.batch
        if setup.task.objective is None:
            found, _ = setup.forward(*setup.variables, inputs, train=True, key=draws)
        else:
            found = setup.costs(*setup.variables, inputs, targets, train=True, key=draws)
        return vector([leaf for leaf in jax.tree.leaves(found) if trees.is_inexact(leaf)])

    return setup.memo(
        (random_in_training, key_bytes(key)), lambda: not np.array_equal(outputs(0), outputs(1), equal_nan=True)
    )


def lightly_trained(setup: Setup, key: PRNGKeyArray, steps: int = 10) -> PyTree:
    """A copy of the loop's state after a few steps, where nothing is degenerate; a fresh one if they are not finite."""

    def train() -> PyTree | None:
        state = setup.fresh_state()
        for step in range(steps):
            state, _ = setup.step(state, *setup.training_batch(step), jax.random.fold_in(key, step))
        floating = [leaf for leaf in jax.tree.leaves(setup.loop.variables(state)) if trees.is_floating(leaf)]
        return state if np.isfinite(vector(floating)).all() else None

    state = setup.memo((lightly_trained, key_bytes(key), steps), train)
    return setup.fresh_state() if state is None else trees.copy(state)


def mean_gradient(
    setup: Setup, variables: Variables, batch: tuple[Any, Any], key: PRNGKeyArray
) -> tuple[float, PyTree]:
    """Mean loss of a batch in training mode and its gradient, float32.

    Through the task's loss scale where there is one, since small gradients would vanish; a scale that overflows is
    halved.
    """
    if setup.task.loss_scale.kind == "none":
        loss, gradient = setup.gradients(*variables, *batch, key=key)
        return float(loss), gradient
    scaled = setup.memo(_scaled_gradient, lambda: _scaled_gradient(setup))
    scale = np.float32(setup.task.loss_scale.scale)
    loss, gradient = scaled(*variables, *batch, key, scale)
    while not bool(trees.all_finite(gradient)) and scale > 1:
        scale = np.float32(scale / 2)
        loss, gradient = scaled(*variables, *batch, key, scale)
    return float(loss), gradient


def _scaled_gradient(setup: Setup) -> Callable[..., tuple[Any, PyTree]]:
    """The gradient of the loss times a scale, divided by it in float32."""
    objective = objective_of(setup.task)

    @jax.jit
    def scaled(params: Any, state: Any, inputs: Any, targets: Any, key: Any, scale: Any) -> Any:
        def loss_of(params: Any) -> Any:
            loss = mean_cost(objective(params, state, inputs, targets, train=True, key=key))
            return loss * scale, loss

        gradient, loss = jax.grad(loss_of, has_aux=True)(params)
        return loss, jax.tree.map(lambda leaf: leaf.astype(jnp.float32) / scale, gradient)

    return scaled


def key_bytes(key: PRNGKeyArray) -> bytes:
    """A key as something that can be hashed."""
    return np.asarray(jax.random.key_data(key)).tobytes()


def usual_gradient(setup: Setup, key: PRNGKeyArray) -> PyTree:
    """The gradient at the start on the first batch, without augmentation; ones where it is not finite."""
    _, gradient = setup.gradients(*setup.variables, *setup.batch, key=key)
    return gradient if np.isfinite(vector(gradient)).all() else jax.tree.map(jnp.ones_like, gradient)
