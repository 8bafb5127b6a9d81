"""Which arguments of a call are what the call before returned: the state."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxrecipe.adapters.step.arrangement import result_parts
from jaxrecipe.adapters.step.state import Arrays, alike, arrays_of, is_graph
from jaxrecipe.adapters.watching.recording import Kept, Place, kept

Part = tuple[Place, Arrays]
"""A part of what a function returned, by its path, and its arrays."""
SAME_SHARE = 0.5
"""Arrays of an argument that must be what was returned; the script may have changed the others in between."""


def parts_of(result: Any) -> list[Part]:
    """The parts of a result that hold arrays, the outer ones first."""
    return [(path, arrays) for path, arrays in result_parts(result) if arrays]


def parts_alike(parts: Sequence[Part], value: Any) -> list[Part]:
    """Those that have the form of an argument."""
    own = {} if is_graph(value) else arrays_of(value)
    return [(path, arrays) for path, arrays in parts if own and alike(arrays, own)]


def carried_by_identity(parts: Sequence[Part], values: Sequence[Any]) -> dict[int, Place]:
    """For each argument that holds the very arrays which were returned, where they stood."""
    return dict(_carried(parts, values, lambda one, other: one is other and hasattr(one, "dtype"), 0.0))


def carried_by_value(parts: Sequence[Part], values: Sequence[Any]) -> dict[int, Place]:
    """The same where another function has passed the state on, so that arrays are equal and not the same.

    Args:
        parts: with copies of the arrays.
        values: the arguments.
    """
    return dict(_carried(parts, values, lambda one, other: np.ndim(other) > 0 and _equal(one, other), SAME_SHARE))


def _carried(parts: Sequence[Part], values: Sequence[Any], same: Any, share: float) -> Iterator[tuple[int, Place]]:
    for index, value in enumerate(values):
        options = parts_alike(parts, value)
        own = arrays_of(value) if options else {}
        counts = [sum(bool(same(arrays[path], own[path])) for path in own) for _, arrays in options]
        most = max(counts, default=0)
        large = sum(np.ndim(leaf) > 0 for leaf in own.values())
        if most > 0 and most >= share * large:
            yield index, options[counts.index(most)][0]


def _equal(one: Any, other: Any) -> bool:
    left, right = (leaf.values if isinstance(leaf, Kept) else np.asarray(leaf) for leaf in (one, kept(other)))
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def numbers_moved(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> int:
    """How many numbers of arrays are others than before."""
    if len(before) != len(after):
        return sum(one.size for one in after)
    pairs = zip(before, after, strict=True)
    return sum(int((one != other).sum()) if one.shape == other.shape else other.size for one, other in pairs)
