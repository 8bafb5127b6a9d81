"""The time axis that inputs and outputs share, and where among the inputs the targets stand."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.probes.loss_alignment import SHORTEST, declared_padding, loss_alignment, only_array, token_target
from jaxrecipe.setup import Setup

OFFSETS = range(-3, 4)
"""How far apart a target and the input that it equals are looked for."""
FEWEST_PAIRS = 20
"""Pairs of a target and an input that must be compared before they count as the same."""


@dataclass(frozen=True)
class TimeAxis:
    """The time axis that inputs and outputs share: its length, and which input leaves (by index) lie along it."""

    length: int
    leaves: tuple[int, ...]


def time_axis(setup: Setup, match: float) -> TimeAxis | str:
    """The time axis, or in words why there is none to look at, and what to declare."""
    if not (setup.task.causal or token_target(setup.task.target)):
        return "Nothing is predicted along time: declare target=jr.Tokens(...) or causal=True if something is."
    inputs, _ = setup.batch
    predicted, _ = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)
    outputs = [leaf for leaf in jax.tree.leaves(predicted) if leaf.ndim >= 2]
    lengths = {leaf.shape[1] for leaf in outputs if leaf.ndim >= 3} or {leaf.shape[1] for leaf in outputs}
    if len(lengths) != 1:
        return "The outputs have no one time axis, [batch, time, ...], to chart."
    length = lengths.pop()
    along = [i for i, leaf in enumerate(jax.tree.leaves(inputs)) if leaf.ndim >= 2 and leaf.shape[1] == length]
    kept = [i for i in along if not _is_mask(np.asarray(jax.tree.leaves(inputs)[i]))] or along
    if length < SHORTEST or not kept:
        return f"No input has the time axis of the outputs, [batch, {length}, ...], or it is too short to chart."
    shifted = [i for i in kept if target_offsets(setup, i, match)]
    return TimeAxis(length, tuple(shifted if len(shifted) < len(kept) and shifted else kept))


def _is_mask(leaf: np.ndarray) -> bool:
    return leaf.dtype == np.bool_ or (leaf.ndim == 2 and bool(np.isin(leaf, (0, 1)).all()))


def target_offsets(setup: Setup, leaf: int, match: float) -> list[int]:
    """Every d such that the target at position t equals the input at t + d, in nearly every row and position of a
    batch.
    """
    inputs, tree = on_host(setup.batch if setup.task.augment is None else setup.training_batch(0))
    seen, targets = jax.tree.leaves(inputs)[leaf], only_array(tree)
    if targets is None or targets.ndim < 2 or targets.shape[1:] != seen.shape[1:]:
        return []
    pad, length, found = declared_padding(setup.task.target), targets.shape[1], []
    for d in OFFSETS:
        rows = slice(max(0, -d), length - max(0, d))
        wanted, given = targets[:, rows], seen[:, max(0, d) : length + min(0, d)]
        counted = np.ones(wanted.shape, bool) if pad is None else wanted != pad
        if counted.sum() >= FEWEST_PAIRS and np.isclose(wanted, given)[counted].mean() >= match:
            found.append(d)
    return found


def target_distance(setup: Setup, axis: TimeAxis, ahead: int, distances: set[int], match: float) -> int | None:
    """Where among the inputs the target of output t stands, relative to t; None when it is not there, or not at one
    place.

    Of several places (repetitive rows) the one that a sound set-up has wins: the first that output t does not see,
    given how far `ahead` it sees and at which `distances`.
    """
    by_leaf = [target_offsets(setup, leaf, match) for leaf in axis.leaves]
    offsets = next((offsets for offsets in by_leaf if offsets), [])
    shift = loss_alignment(setup) if offsets else None
    if shift is None:
        return None
    places = [shift + d for d in offsets]
    if ahead + 1 in places:
        return ahead + 1
    return min(places, key=lambda place: (place not in distances, place))
