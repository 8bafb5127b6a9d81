"""Do small integers wrap around in prepare? Every level is sent through it at one place of one example."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.setup import Setup

SMALL = 2
"""Bytes of the integers that wrap in practice."""
LEVELS = 256
"""Levels that are tried at most, between the smallest and the largest that the examples hold."""
FEWEST = 8
"""Levels below which nothing can be told from a jump."""
MOST_JUMPS = 4
"""More jumps than this are no wrapping, but an encoding of one's own."""
WHOLE_RANGE = 0.4
"""A wrapped value falls by at least this share of the whole range: all of it, or half where it wraps twice."""


def wrapped(setup: Setup, examples: Any, targets: Any) -> Iterator[Finding]:
    """Levels of an input that rise evenly, and after prepare fall once or a few times by the whole range.

    Args:
        setup: the set-up.
        examples: inputs of some raw training examples.
        targets: their targets.
    """
    if setup.task.prepare is None:
        return
    for path, leaf in trees.named_leaves(examples).items():
        if not np.issubdtype(leaf.dtype, np.integer) or leaf.dtype.itemsize > SMALL or leaf.ndim < 2:
            continue
        levels = np.unique(np.linspace(int(leaf.min()), int(leaf.max()), LEVELS).round().astype(np.int64))
        if len(levels) < FEWEST:
            continue
        given = _through_prepare(setup, examples, targets, path, levels)
        jump = None if given is None else first_jump(given)
        if jump is None or given is None:
            continue
        before, after = levels[jump], levels[jump + 1]
        text = (
            f"train, {path or 'inputs'}: prepare makes {given[jump]:.4g} of level {before} and {given[jump + 1]:.4g} "
            f"of level {after}, where its output otherwise moves evenly from level to level: {leaf.dtype} wraps around."
        )
        size = Measure(name="jump between two neighboring levels", value=abs(given[jump + 1] - given[jump]), high=0)
        yield failure("data/integer-arithmetic", text, measures=(size,), causes=causes("data/integer-arithmetic"))


def first_jump(values: np.ndarray) -> int | None:
    """The place of the first fall against the direction of all other steps by the whole range; None where there is
    none, or steps of another kind.
    """
    steps = np.diff(values)
    if not np.isfinite(values).all() or not steps.any():
        return None
    direction = np.sign(np.median(steps))
    back = steps * direction < 0
    large = np.abs(steps) >= WHOLE_RANGE * np.ptp(values)
    if direction == 0 or not 1 <= back.sum() <= MOST_JUMPS or not np.array_equal(back, back & large):
        return None
    return int(np.flatnonzero(back)[0])


def _through_prepare(setup: Setup, examples: Any, targets: Any, path: str, levels: np.ndarray) -> np.ndarray | None:
    """What prepare makes of each level, at the place of its output that varies most; None where nothing does."""
    leaf = trees.named_leaves(examples)[path]
    middle = tuple(size // 2 for size in leaf.shape[1:])

    def repeated(array: np.ndarray) -> np.ndarray:
        return np.repeat(array[:1], len(levels), axis=0)

    many = jax.tree.map(repeated, examples)
    named = trees.named_leaves(many)
    named[path][(slice(None), *middle)] = levels.astype(leaf.dtype)
    given = [np.asarray(one) for one in jax.tree.leaves(setup.prepare(many, jax.tree.map(repeated, targets))[0])]
    flat = [one.astype(np.float64).reshape(len(levels), -1) for one in given if one.shape[:1] == levels.shape]
    if not flat:
        return None
    columns = np.concatenate(flat, axis=1)
    spread = np.ptp(columns, axis=0)
    return columns[:, int(np.nanargmax(spread))] if np.isfinite(spread).any() and np.nanmax(spread) > 0 else None
