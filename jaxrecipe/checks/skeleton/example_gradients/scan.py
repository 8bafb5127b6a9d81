"""Loss and gradient of many training examples: which are not finite, and which no output can change."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.probes.first_steps import mean_gradient
from jaxrecipe.probes.loss_alignment import loss_gradient_at_outputs
from jaxrecipe.setup import Setup

Rows = np.ndarray
"""Numbers of training examples."""
OTHER_OUTPUTS = (1.0, -1.0, 10.0, -10.0)
"""Sizes of random outputs at which an example must teach nothing either: a margin that is kept at one is not at its
negative."""


@dataclass(frozen=True)
class Scan:
    """What was found.

    Attributes:
        rows: the examples that were looked at.
        bad_losses: those whose loss is not finite.
        silent: those whose loss is finite and no output changes.
        bad_batches: batches of examples with finite losses and a gradient that is not.
    """

    rows: Rows
    bad_losses: Rows
    silent: Rows
    bad_batches: tuple[Rows, ...]


def batches(setup: Setup, most: int) -> Iterator[Rows]:
    """Up to `most` training examples, spread evenly, in batches of one size; the last is filled up with first ones."""
    size = setup.batch_size
    count = min(setup.train.size, max(most, size))
    rows = np.unique(np.linspace(0, setup.train.size - 1, count).round().astype(np.int64))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield np.concatenate([part, rows[: size - len(part)]])


def scan(setup: Setup, key: PRNGKeyArray, most: int) -> Scan:
    """Losses, their gradients by the outputs, and the gradient by the parameters, of the untrained model in training.

    Args:
        setup: the set-up.
        key: seeds dropout, and the other outputs that are tried.
        most: examples looked at.
    """
    rows, bad_losses, silent, bad_batches = [], [], [], []
    for part in batches(setup, most):
        batch = setup.prepared("train", part)
        outputs, _ = setup.forward(*setup.variables, batch[0], train=True, key=key)
        finite = np.isfinite(np.asarray(setup.losses(outputs, batch[1])))
        rows.append(part)
        bad_losses.append(part[~finite])
        silent.append(part[finite & unmoved_by_outputs(setup, key, outputs, batch[1])])
        if finite.all() and not finite_gradient(setup, key, part):
            bad_batches.append(part)
    looked_at, not_finite, unmoved = (np.unique(np.concatenate(parts)) for parts in (rows, bad_losses, silent))
    return Scan(looked_at, not_finite, unmoved, tuple(bad_batches))


def finite_gradient(setup: Setup, key: PRNGKeyArray, rows: Rows) -> bool:
    """Whether the gradient of these examples' mean loss by the parameters is finite in training mode."""
    _, gradient = mean_gradient(setup, setup.variables, setup.prepared("train", rows), key)
    return bool(trees.all_finite(gradient))


def unmoved_by_outputs(setup: Setup, key: PRNGKeyArray, outputs: Any, targets: Any) -> Bool[np.ndarray, "batch"]:
    """The examples whose loss has no gradient by the outputs, neither these nor random ones, and keeps its value."""
    gradient, before = loss_gradient_at_outputs(setup), np.asarray(setup.losses(outputs, targets))
    unmoved = ~_any_by_example(gradient(outputs, targets), len(before))
    for size in OTHER_OUTPUTS:
        if not unmoved.any():
            break
        drawn = _random_like(key, outputs, size)
        after = np.asarray(setup.losses(drawn, targets))
        unmoved &= (after == before) & ~_any_by_example(gradient(drawn, targets), len(before))
    return unmoved


def _any_by_example(leaves: list[Any], size: int) -> Bool[np.ndarray, "batch"]:
    """Of each example whether any number is not zero."""
    found = np.zeros(size, bool)
    for leaf in on_host(leaves):
        if leaf.shape[:1] == (size,):
            found |= (leaf != 0).reshape(size, -1).any(axis=1)
    return found


def _random_like(key: PRNGKeyArray, outputs: Any, size: float) -> Any:
    """Normal numbers of this size in the place of all floating outputs."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())

    def one(leaf: Any) -> Any:
        return (size * rng.standard_normal(leaf.shape)).astype(leaf.dtype) if trees.is_floating(leaf) else leaf

    return jax.tree.map(one, outputs)


def culprits(setup: Setup, key: PRNGKeyArray, batch: Rows, good: int) -> Rows:
    """Which examples of a batch make its gradient not finite, by halves whose rest is filled up with a good example;
    none where it is not single examples.
    """
    size = len(batch)

    def spoil(rows: Rows) -> bool:
        return not finite_gradient(setup, key, np.concatenate([rows, np.full(size - len(rows), good)]))

    if spoil(batch[:0]):
        return batch[:0]
    suspects, found = [np.unique(batch)], []
    while suspects:
        rows = suspects.pop()
        if not spoil(rows):
            continue
        if len(rows) == 1:
            found.append(int(rows[0]))
        else:
            suspects += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
    return np.array(sorted(found), np.int64)
