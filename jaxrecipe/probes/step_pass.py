"""One pass of the loop's own step over the training data, and what it does to each array of the state."""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.setup import Setup

FEWEST_STEPS, MOST_STEPS = 40, 64
"""Steps of a pass: more than most people collect gradients over, and as many batches as a bare step has at most."""

Leaves = dict[str, np.ndarray]
"""Arrays of a state on the host, by path; typed keys as the numbers that they hold."""


@dataclass(frozen=True)
class Given:
    """What a step was given: a state, a batch and a key."""

    state: Any
    batch: tuple[Any, Any]
    key: PRNGKeyArray


@dataclass(frozen=True)
class Broken:
    """The first step that gave NaN or infinity of a finite state.

    Attributes:
        index: of the step.
        given: what it was given; the state is finite.
        loss: whether the loss that it reports is not finite; otherwise only the new state is not.
    """

    index: int
    given: Given
    loss: bool


@dataclass(frozen=True)
class Pass:
    """What a pass showed.

    Attributes:
        losses: that the steps report; NaN where there is none.
        first, last: the state before and after.
        moved: paths of the arrays that were seen to differ from what they began with, bit for bit.
        broken: the step that gave NaN or infinity, if one did.
    """

    losses: tuple[float, ...]
    first: Leaves
    last: Leaves
    moved: frozenset[str]
    broken: Broken | None

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.losses)


def one_pass(setup: Setup, key: PRNGKeyArray) -> Pass:
    """One pass from a fresh state over all batches, shared by all checks."""
    return setup.memo((one_pass, jax.random.key_data(key).tobytes()), lambda: _take(setup, key))


def reported_loss(metrics: dict[str, Any]) -> float:
    """The loss among a step's metrics; NaN where there is none."""
    return float(np.asarray(metrics["loss"], np.float64).mean()) if "loss" in metrics else math.nan


def reports_loss(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the step reports a loss."""
    return setup.memo((reports_loss,), lambda: "loss" in setup.step(setup.fresh_state(), *setup.batch, key)[1])


def host_leaves(tree: Any) -> Leaves:
    """Every array of a tree on the host, by path."""
    return {path: _on_host(leaf) for path, leaf in trees.named_leaves(tree).items()}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same bits."""
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def is_finite(tree: Any) -> bool:
    """Whether no floating array of a tree holds NaN or infinity."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if trees.is_inexact(leaf)]
    return all(np.isfinite(np.asarray(leaf, np.complex128)).all() for leaf in leaves)


@dataclass
class _Notes:
    losses: list[float] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)
    broken: Broken | None = None


def _take(setup: Setup, key: PRNGKeyArray) -> Pass:
    count = min(max(-(-setup.train.size // setup.batch_size), FEWEST_STEPS), MOST_STEPS)
    state, notes, before = setup.fresh_state(), _Notes(), None
    first = host_leaves(state)
    for index in range(count):
        given = Given(state, setup.training_batch(index), jax.random.fold_in(key, index))
        state, metrics = setup.step(trees.copy(state), *given.batch, given.key)
        notes.losses.append(reported_loss(metrics))
        bad = "loss" in metrics and not math.isfinite(notes.losses[-1])
        looked_at = (index + 1) & index == 0 or index == count - 1  # after 1, 2, 4, 8, ... steps and the last
        if bad or looked_at:
            now = host_leaves(state)
            notes.moved |= {path for path in first if path not in now or not same(first[path], now[path])}
            notes.broken = _broken(index, before, given, state, bad=bad)
        if notes.broken is not None:
            break
        before = given
    last = host_leaves(state)
    return Pass(tuple(notes.losses), first, last, frozenset(notes.moved), notes.broken)


def programs_of_calls(setup: Setup, key: PRNGKeyArray, calls: int) -> list[int]:
    """How many programs each of a few calls of the step compiles, all of arrays of the same shapes."""
    state, found = setup.fresh_state(), []
    for index in range(calls):
        copy, batch, own = trees.copy(state), setup.training_batch(index), jax.random.fold_in(key, index)
        with counting_compiles() as compiles:
            state, _ = setup.step(copy, *batch, own)
        found.append(compiles.programs)
    return found


def _broken(index: int, before: Given | None, given: Given, after: Any, *, bad: bool) -> Broken | None:
    """Which step broke, of the last two."""
    if bad and is_finite(given.state):
        return Broken(index, given, loss=True)
    if before is not None and not is_finite(given.state) and is_finite(before.state):
        return Broken(index - 1, before, loss=False)
    if is_finite(given.state) and not is_finite(after):
        return Broken(index, given, loss=False)
    return None


def _on_host(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.array(leaf)


def with_leaves(state: Any, values: dict[str, np.ndarray]) -> Any:
    """The same state with other arrays at some paths; typed keys are given as the numbers that they hold."""
    leaves, structure = jax.tree.flatten(state)
    made = []
    for path, leaf in zip(trees.paths(state), leaves, strict=True):
        if path not in values:
            made.append(leaf)
        elif isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jnp.asarray(values[path])
            made.append(jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf)))
        else:
            made.append(jnp.asarray(values[path]) if trees.is_array(leaf) else values[path].item())
    return jax.tree.unflatten(structure, made)


def result_of(setup: Setup, given: Given) -> Leaves:
    """The parameters and the metrics that a step gives, on the host; what it was given is kept."""
    state, metrics = setup.step(trees.copy(given.state), *given.batch, given.key)
    return {**host_leaves({"params": setup.loop.variables(state)[0]}), **host_leaves({"metrics": metrics})}


def equal(one: Leaves, other: Leaves) -> bool:
    """Whether two sets of arrays hold the same bits."""
    return one.keys() == other.keys() and all(same(one[path], other[path]) for path in one)
