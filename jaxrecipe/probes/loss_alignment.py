"""Which outputs the loss holds against which targets, asked of the loss itself by its gradient; and which token is
padding.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxrecipe import trees
from jaxrecipe.probes.changed_values import other_values, replaced
from jaxrecipe.probes.dependencies import join_floating, on_host, split_floating
from jaxrecipe.setup import Setup
from jaxrecipe.targets import TargetTree, Tokens, heads

STRONG = 0.1
"""Share of the largest change of a gradient from which on an output counts as the one that a target is held against."""
LONG_RUNS = 0.25
"""Share of the rows that must end in a run of one token, so that it looks like padding."""
SHORTEST, FEWEST = 3, 4
"""Positions of a row, and rows, below which nothing can be said about time or padding."""
RUN_LENGTHS = 3
"""How many different lengths such runs must have: padding fills up rows of different lengths."""


def loss_gradient_at_outputs(setup: Setup) -> Callable[[Any, Any], Any]:
    """A compiled function `(outputs, targets) -> gradient of the summed losses by the floating outputs`."""

    def compiled() -> Callable[[Any, Any], Any]:
        @jax.jit
        def gradient(outputs: Any, targets: Any) -> Any:
            floating, rest = split_floating(outputs)
            return jax.grad(lambda leaves: setup.losses(join_floating(leaves, rest), targets).sum())(floating)

        return gradient

    return setup.memo((loss_gradient_at_outputs,), compiled)


def loss_alignment(setup: Setup) -> int | None:
    """The `a` such that the loss holds target t + a against output t, for targets `[batch, time, ...]`; None if it is
    not one number.

    Zero for most losses, one for those that shift inside: found by changing targets and watching where the gradient at
    the outputs moves.
    """
    return setup.memo((loss_alignment,), lambda: _alignment(setup))


def _alignment(setup: Setup) -> int | None:
    inputs, tree = on_host(setup.batch)
    outputs = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)[0]
    shape, targets = only_array(outputs), only_array(tree)
    if shape is None or targets is None or targets.ndim < 2 or not trees.is_floating(shape):
        return None
    if shape.shape[1:2] != targets.shape[1:2] or targets.shape[1] < SHORTEST:
        return None
    length, pad = targets.shape[1], declared_padding(setup.task.target)
    counted = (targets != pad) & (other_values(targets) != pad) if pad is not None else np.ones(targets.shape, bool)
    clean, found = _gradient(setup, outputs, tree), set[int]()
    for position in {length // 2, max(1, length // 3)}:
        where = np.zeros(targets.shape[:2], bool)
        where[:, position] = counted[:, position].reshape(len(targets), -1).all(axis=1)
        changed = jax.tree.map(lambda leaf, where=where: replaced(leaf, where), tree)
        moved = np.abs(_gradient(setup, outputs, changed) - clean)
        by_output = moved.reshape(*moved.shape[:2], -1).max(axis=(0, 2))
        if not np.isfinite(by_output).all() or by_output.max() == 0:
            return None
        found |= {position - int(t) for t in np.flatnonzero(by_output > STRONG * by_output.max())}
    return found.pop() if len(found) == 1 else None


def only_array(tree: Any) -> np.ndarray | None:
    """The array that a tree consists of, alone or under one name, on the host; None where there are several."""
    leaves = jax.tree.leaves(tree)
    return np.asarray(leaves[0]) if len(leaves) == 1 else None


def token_target(target: TargetTree) -> Tokens | None:
    """The declared target, where one alone is declared, in a mapping or not, and it is Tokens."""
    declared = heads(target)
    alone = declared[0].target if len(declared) == 1 else None
    return alone if isinstance(alone, Tokens) else None


def declared_padding(target: TargetTree) -> int | None:
    """The token that the only declared target marks as padding."""
    tokens = token_target(target)
    return None if tokens is None else tokens.pad


def padding_id(tokens: np.ndarray) -> int | None:
    """The id that looks like padding: it ends many rows, in runs of several lengths, and stands nowhere else; None
    without one.
    """
    if (
        tokens.ndim != 2
        or not np.issubdtype(tokens.dtype, np.integer)
        or tokens.shape[1] < SHORTEST
        or len(tokens) < FEWEST
    ):
        return None
    values, counts = np.unique(tokens[:, -1], return_counts=True)
    value = int(values[counts.argmax()])
    hits = tokens == value
    runs = np.argmin(hits[:, ::-1], axis=1)
    runs[hits.all(axis=1)] = tokens.shape[1]
    several = (runs > 1).mean() >= LONG_RUNS and len(np.unique(runs)) >= RUN_LENGTHS
    return value if several and hits.sum() == runs.sum() else None


def _gradient(setup: Setup, outputs: Any, targets: Any) -> Float[np.ndarray, "..."]:
    return np.asarray(loss_gradient_at_outputs(setup)(outputs, targets)[0], np.float64)
