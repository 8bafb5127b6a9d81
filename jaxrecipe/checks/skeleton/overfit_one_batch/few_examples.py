"""The few examples that are to be memorized, and what a model and its loss make of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.reading import random_rows
from jaxrecipe.setup import Setup

SINGLES = 4
"""Examples that a step which takes one at a time is given in turn: with one alone, a constant would be perfect."""
NUMBERS_PER_PARAMETER = 0.5
"""Targets may hold at most this many numbers a parameter: more, and no model of that size could memorize them."""


def _expressible(setup: Setup) -> int:
    """How many examples a model has parameters for, two examples at least."""
    targets = jax.tree.leaves(setup.batch[1])
    numbers = sum(leaf.size for leaf in targets) / max(trees.leading_size(setup.batch[0]), 1)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(setup.params))
    return max(2, int(NUMBERS_PER_PARAMETER * parameters / max(numbers, 1.0)))


def few_examples(setup: Setup, examples: int, *, augmented: bool) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """Inputs, targets, and both as full batches that hold only a few different examples: no new program is compiled.

    A loss that compares the examples of a batch gets the batch as it is: repetitions would have no right answer. Where
    a batch is one example, several batches are put together, to be learned in turn.
    """
    size, examples = setup.batch_size, min(examples, _expressible(setup))

    def given(inputs: Any, targets: Any) -> tuple[Any, Any]:
        augment = setup.task.augment if augmented else None
        return (inputs, targets) if augment is None else augment(setup.key, inputs, targets)

    batch = given(*setup.batch)
    if setup.task.mixes_examples:
        return *batch, [batch]
    if size == 1:
        inputs, targets = given(*setup.prepared("train", random_rows(setup, "train", min(examples, SINGLES))))
        on_host = jax.tree.map(np.asarray, (inputs, targets))
        singles = [trees.take(on_host, np.arange(i, i + 1)) for i in range(trees.leading_size(inputs))]
        return inputs, targets, jax.device_put(singles)
    on_host = jax.tree.map(np.asarray, batch)
    chosen = differing(on_host[1], min(examples, size))
    batch = jax.device_put(trees.take(on_host, chosen[np.arange(size) % len(chosen)]))
    return *batch, [batch]


def differing(targets: Any, count: int) -> Int[np.ndarray, "count"]:
    """The first `count` examples of a batch; where those all have one target and others do not, the first other one
    too.

    Were all targets alike, a constant output would be perfect and nothing about the inputs would have to be learned.
    """
    leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(targets)]
    others = np.flatnonzero(np.any([(leaf != leaf[:1]).any(axis=1) for leaf in leaves], axis=0)) if leaves else []
    chosen = np.arange(count)
    if len(others) and others[0] >= count:
        chosen[-1] = others[0]
    return chosen


def all_alike(inputs: Any) -> bool:
    """Whether all examples have the same inputs."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)]
    return all(bool((leaf == leaf[:1]).all()) for leaf in leaves)


def outputs_of(
    setup: Setup, variables: tuple[Any, Any], batches: list[tuple[Any, Any]], *, train: bool, key: PRNGKeyArray
) -> Any:
    """Outputs on the few examples, batch by batch as the step takes them."""
    parts = [setup.forward(*variables, inputs, train=train, key=key)[0] for inputs, _ in batches]
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate([np.asarray(leaf) for leaf in leaves])), *parts)


def mean_loss(setup: Setup, outputs: Any, targets: Any) -> float:
    """Mean of the task's losses at some outputs."""
    return float(np.asarray(setup.losses(outputs, targets), np.float64).mean())
