"""Do several texts packed into one row see one another? The others are changed; outputs of one must not move."""

import re
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.changed_values import replaced, revealing_parameters
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.probes.loss_alignment import only_array
from jaxrecipe.probes.rounding import changed, model_rounding
from jaxrecipe.setup import Setup

NAMED_SEGMENTS = re.compile(r"seg|doc|pack|example_?id|sequence_?id", re.IGNORECASE)
FEW = 2
"""Segments of a row up to which they may be parts of one example, as a question and its text are."""


@dataclass(frozen=True)
class Segments:
    """Where an input numbers the texts of a row.

    Attributes:
        path: of the input.
        ids: its values.
        certain: whether these are packed texts beyond doubt: positions begin anew in each, or they are called so and
            are more than two to a row.
        positions: paths of the inputs that count positions within each of them.
        seen: share of the rows in which one of them depends on another.
    """

    path: str
    ids: Int[np.ndarray, "batch time"]
    certain: bool
    positions: tuple[str, ...]
    seen: float = 0.0


def packed_segments(setup: Setup, key: PRNGKeyArray) -> list[Segments]:
    """Every input that numbers the texts packed into a row, and whether these see one another."""
    named = trees.named_leaves(on_host(setup.batch[0]))
    found = [one for path, leaf in named.items() if (one := _as_segments(path, leaf, named)) is not None]
    return [Segments(one.path, one.ids, one.certain, one.positions, _share_crossing(setup, key, one)) for one in found]


def _as_segments(path: str, leaf: np.ndarray, named: dict[str, np.ndarray]) -> Segments | None:
    """What an input says about segments; None where it numbers none.

    Segment numbers stand in one run each, 0 is padding, and some rows hold several.
    """
    if leaf.ndim != 2 or not np.issubdtype(leaf.dtype, np.integer) or not any(_beside(leaf, path, named)):
        return None
    runs = (leaf[:, 1:] != leaf[:, :-1]).sum(axis=1) + 1
    kinds = np.array([len(np.unique(row)) for row in leaf])
    several = np.array([len(np.unique(row[row != 0])) for row in leaf])
    if not np.array_equal(runs, kinds) or several.max(initial=0) < FEW or leaf.min(initial=0) < 0:
        return None
    positions = tuple(name for name, other in named.items() if name != path and _restarts(other, leaf))
    called = bool(NAMED_SEGMENTS.search(path))
    if not called and not positions:
        return None
    return Segments(path, leaf, bool(positions) or int(several.max()) > FEW, positions)


def _beside(leaf: np.ndarray, path: str, named: dict[str, np.ndarray]) -> list[bool]:
    """Of the other inputs whether they have a value at each of these places."""
    return [other.shape[:2] == leaf.shape for name, other in named.items() if name != path]


def _restarts(other: np.ndarray, ids: np.ndarray) -> bool:
    """Whether an array counts 0, 1, 2, ... within each segment."""
    if other.shape != ids.shape or not np.issubdtype(other.dtype, np.integer):
        return False
    first = np.ones(ids.shape, bool)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    place = np.arange(ids.shape[1])
    start = np.maximum.accumulate(np.where(first, place, 0), axis=1)
    within, real = place - start, ids != 0
    return bool((other[real] - other[real & first].min(initial=0) == within[real]).all())


def _share_crossing(setup: Setup, key: PRNGKeyArray, one: Segments) -> float:
    """Share of the rows with several segments where changing the others moves the outputs of the first or the last."""
    inputs, params = on_host(setup.batch[0]), revealing_parameters(setup, key)

    def outputs(inputs: Any) -> np.ndarray | None:
        return only_array(setup.forward(params, setup.model_state, inputs, train=False, key=key)[0])

    clean, ids = outputs(inputs), one.ids
    if clean is None or clean.shape[:2] != ids.shape:
        return 0.0
    several = np.array([len(np.unique(row[row != 0])) for row in ids]) > 1
    crossing = np.zeros(len(ids), bool)
    for chosen in (ids.max(axis=1), np.where(ids == 0, ids.max() + 1, ids).min(axis=1)):
        inside = ids == chosen[:, None]
        other = outputs(_with_others_changed(inputs, one, (ids != 0) & ~inside))
        moved = changed(clean, np.asarray(other), model_rounding(setup)).reshape(*ids.shape, -1).any(axis=-1)
        crossing |= (moved & inside).any(axis=1)
    return float(crossing[several].mean()) if several.any() else 0.0


def _with_others_changed(inputs: Any, one: Segments, where: Bool[np.ndarray, "batch time"]) -> Any:
    """The inputs with other values at some places; segment numbers and positions stay."""
    kept = (one.path, *one.positions)
    moved = [
        replaced(leaf, where) if name not in kept and leaf.shape[:2] == where.shape else leaf
        for name, leaf in trees.named_leaves(inputs).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(inputs), moved)
