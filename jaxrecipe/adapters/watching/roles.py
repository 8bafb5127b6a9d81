"""What each argument of a watched step is: learnt from how it changes from call to call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxrecipe.adapters.step.arrangement import BATCH_NAME, KEY_NAME
from jaxrecipe.adapters.watching.recording import Kept, Place, Recording, equal, host_arrays

RAW_KEY_WIDTHS = (2, 4)
"""Numbers of a key that has no type of its own: threefry has 2, rbg 4."""
OPTIMIZER_NAME = ("opt", "tx", "optim")


@dataclass(frozen=True)
class Roles:
    """What the arguments of a step are, by index.

    Attributes:
        state: what goes from one call to the next.
        places: for each of them where in the result the new one is; None where it is changed in place or lost.
        batch: what holds the data.
        keys: what holds keys.
        moving: numbers that change from call to call, as a step counter or a learning rate.
        lost: of the state, what the script never takes from the result.
        outside: what the step gives back and the script changes before it gives it again.
    """

    state: tuple[int, ...]
    places: tuple[Place | None, ...]
    batch: tuple[int, ...]
    keys: tuple[int, ...]
    moving: tuple[int, ...]
    lost: tuple[int, ...]
    outside: tuple[int, ...]


def roles_of(recording: Recording) -> Roles:
    """What each argument is."""
    first, later = recording.calls[0], recording.calls[1:]
    carried = {index: place for call in reversed(later) for index, place in call.carried.items()}
    graph = recording.graph.slots if recording.graph else ()
    rest = [i for i in range(len(recording.slots)) if i not in carried and i not in graph]
    names = [slot.name for slot in recording.slots]
    keys = [i for i in rest if is_key(names[i], first.given[i])]
    held = [i for i in rest if i not in keys and host_arrays(first.given[i])]
    fixed = [i for i in held if all(equal(first.given[i], call.given.get(i, first.given[i])) for call in later)]
    lost = [i for i in fixed if _is_optimizer_state(names[i], first.given[i])]
    changing = [i for i in held if i not in fixed]
    outside = [i for i in changing if i in recording.alike and _is_state_like(names[i], first.given[i])]
    arrays = {i: max(map(np.ndim, host_arrays(first.given[i]))) > 0 for i in held}
    batch = [i for i in changing if arrays[i] and i not in outside]
    state = sorted({*carried, *graph, *lost})
    return Roles(
        state=tuple(state),
        places=tuple(carried.get(i) for i in state),
        batch=tuple(_with_the_data(batch, [i for i in fixed if arrays[i] and i not in lost], recording)),
        keys=tuple(keys),
        moving=tuple(i for i in changing if not arrays[i]),
        lost=tuple(lost),
        outside=tuple(outside),
    )


def is_key(name: str, given: Any) -> bool:
    """Whether an argument holds keys and nothing else."""
    leaves = [leaf for leaf in jax.tree.leaves(given) if isinstance(leaf, Kept | np.ndarray)]
    return bool(leaves) and all(_is_typed(leaf) or _is_raw(name, leaf) for leaf in leaves)


def _is_typed(leaf: Any) -> bool:
    return isinstance(leaf, Kept) and leaf.impl is not None


def _is_raw(name: str, leaf: Any) -> bool:
    values = leaf.values if isinstance(leaf, Kept) else leaf
    like = values.dtype == np.uint32 and values.ndim > 0 and values.shape[-1] in RAW_KEY_WIDTHS
    return like and (values.ndim == 1 or KEY_NAME.search(name) is not None)


def _is_optimizer_state(name: str, given: Any) -> bool:
    """Whether an argument is the state of an optimizer, which must change in every step that is one."""
    of_optax = any(type(node).__module__.startswith("optax") for node in _nodes(given))
    return of_optax or any(part in name.lower() for part in OPTIMIZER_NAME)


def _nodes(tree: Any) -> Sequence[Any]:
    """The named tuples of a tree."""
    found: list[Any] = []

    def noted(node: Any) -> bool:
        if isinstance(node, tuple) and hasattr(node, "_fields"):
            found.append(node)
        return False

    jax.tree.leaves(tree, is_leaf=noted)
    return found


def _is_state_like(name: str, given: Any) -> bool:
    """Whether an argument that has the form of something returned is rather a state than a batch."""
    return not BATCH_NAME.search(name) and len(host_arrays(given)) > 1


def _with_the_data(changing: Sequence[int], fixed: Sequence[int], recording: Recording) -> list[int]:
    """The arguments that hold the data: those that change; the fixed ones too where these are none, or only indices."""
    given = recording.calls[0].given
    data = [i for i in fixed if BATCH_NAME.search(recording.slots[i].name)] or list(fixed)
    data = [i for i in data if not _is_state_like(recording.slots[i].name, given[i])]
    if not changing:
        return data
    examples = max((np.shape(leaf)[0] for i in data for leaf in host_arrays(given[i]) if np.ndim(leaf)), default=0)
    indices = all(_are_indices(leaf, examples) for i in changing for leaf in host_arrays(given[i]))
    return sorted([*changing, *data]) if indices and data else list(changing)


def _are_indices(leaf: np.ndarray, examples: int) -> bool:
    return bool(leaf.dtype.kind in "iu" and leaf.size > 0 and leaf.min() >= 0 and leaf.max() < examples)
