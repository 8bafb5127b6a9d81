"""Batches as a step takes them, taken apart into examples `(inputs, targets)` and put together again."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxrecipe.adapters.step.state import is_number

TARGET_NAMES = ("label", "labels", "target", "targets", "y", "ys", "label_ids", "classes", "mask_label")
"""Names of a batch's parts that are taken for targets unless the user says otherwise."""


@dataclass(frozen=True)
class Batches:
    """What was taken of the user's batches.

    Attributes:
        examples: `(inputs, targets)`, arrays with one leading axis of examples; targets None where there are none. Of
            batches without such an axis each is one example.
        size: examples a batch.
        join: `join(inputs, targets)`, the batch as the step takes it.
        first: the first batch, as the step takes it, on the host.
        batches: each batch as `(inputs, targets)`, in the order in which they came.
        whole: whether each batch is one example.
        notes: what of them was left out or guessed.
    """

    examples: tuple[Any, Any]
    size: int
    join: Callable[[Any, Any], Any]
    first: Any
    batches: tuple[tuple[Any, Any], ...]
    whole: bool
    notes: tuple[str, ...]


def take_batches(
    source: Any, *, most: int, targets: str | Sequence[str] | bool | None = True, device_axis: bool = False
) -> Batches:
    """The first batches of a list, an iterator, a loader, or a function `batches(epoch)`.

    Args:
        source: where they come from.
        most: how many are taken.
        targets: names of the parts that are targets; None for none; True to guess.
        device_axis: whether the first axis of every array is that of devices and the second that of examples.

    Raises:
        TypeError: there is nothing to iterate over, or a batch holds what is no number.
        ValueError: there is no batch.
    """
    given = source(0) if callable(source) and not hasattr(source, "__iter__") else source
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise TypeError(
            f"batches is a {type(source).__name__}; wanted a list, an iterator or a loader of batches, or a function "
            "batches(epoch) that gives one"
        )
    listed = [jax.tree.map(_on_host, batch) for batch in itertools.islice(iter(given), most)]
    if not listed:
        raise ValueError(
            "batches gave no batch at all; wanted at least one. A used-up iterator gives none: make it anew."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(listed[0]):
        if not is_number(leaf):
            raise TypeError(
                f"a batch holds a {type(leaf).__name__} at {jax.tree_util.keystr(path) or 'its top'}; wanted arrays of "
                "numbers. Drop it from the batch, or encode it."
            )
    return _taken(listed, targets, 2 if device_axis else 1)


def _taken(listed: Sequence[Any], targets: Any, axes: int) -> Batches:
    """Batches on the host, taken apart."""
    alike, notes = _most_usual(listed)
    structure = jax.tree.structure(alike[0])
    whole = _examples_in(alike[0], axes) is None
    if whole:
        notes.append("The arrays of a batch have no common axis of examples, so that each batch counts as one example.")
    split = _split(alike[0], targets)
    join = _joined(structure, split)
    fold = _whole_form if whole else _example_form(axes, alike[0])
    pairs = [split(fold.apart(batch)) for batch in alike]
    stacked = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *pairs)
    return Batches(
        examples=stacked,
        size=1 if whole else _examples_in(alike[0], axes) or 1,
        join=lambda inputs, targets: fold.together(join(inputs, targets)),
        first=alike[0],
        batches=tuple(pairs),
        whole=whole,
        notes=tuple(notes),
    )


def no_batches(count: int) -> Batches:
    """What stands for the batches of a step that makes its own data: it is given None, whatever the example."""
    stands = np.zeros((count, 1), np.float32), None
    note = "The step is given no batch, so nothing is said of its data."
    return Batches(stands, 1, lambda *_: None, None, (), True, (note,))


@dataclass(frozen=True)
class Fold:
    """How a batch becomes arrays with one leading axis of examples, and back."""

    apart: Callable[[Any], Any]
    together: Callable[[Any], Any]


_whole_form = Fold(
    apart=lambda batch: jax.tree.map(lambda leaf: np.asarray(leaf)[None], batch),
    together=lambda batch: jax.tree.map(lambda leaf: leaf[0], batch),
)


def _example_form(axes: int, first: Any) -> Fold:
    if axes == 1:
        return Fold(lambda batch: batch, lambda batch: batch)
    devices = jax.tree.leaves(first)[0].shape[0]
    return Fold(
        apart=lambda batch: jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), batch),
        together=lambda batch: jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch),
    )


def _on_host(leaf: Any) -> Any:
    """A numpy array of anything that is one; typed keys, Python numbers and everything else as they are."""
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    if hasattr(leaf, "__array__") and not isinstance(leaf, np.ndarray | np.generic):
        return np.array(leaf)
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _most_usual(batches: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The batches of the commonest form but for their number of examples, and a word on the others."""

    def form(batch: Any) -> Any:
        leaves = [
            (np.shape(leaf)[1:], np.ndim(leaf), str(getattr(leaf, "dtype", ""))) for leaf in jax.tree.leaves(batch)
        ]
        return jax.tree.structure(batch), tuple(leaves)

    forms = [form(batch) for batch in batches]
    usual = Counter(forms).most_common(1)[0][0]
    kept = [batch for batch, own in zip(batches, forms, strict=True) if own == usual]
    left = len(batches) - len(kept)
    told = f"{left} of {len(batches)} batches have arrays of other shapes than the rest and were left out."
    return kept, [told] if left else []


def _examples_in(batch: Any, axes: int) -> int | None:
    """Examples in a batch: the common size of the leading axes of all arrays; None where there is none."""
    leaves = jax.tree.leaves(batch)
    if not leaves or any(np.ndim(leaf) < axes for leaf in leaves):
        return None
    sizes = {np.shape(leaf)[:axes] for leaf in leaves}
    return int(np.prod(sizes.pop())) if len(sizes) == 1 else None


def _split(first: Any, targets: Any) -> Callable[[Any], tuple[Any, Any]]:
    """How a batch is split into inputs and targets."""
    if isinstance(first, Mapping) and targets is not None:
        known = TARGET_NAMES if targets is True else (targets,) if isinstance(targets, str) else tuple(targets)
        names = [name for name in first if (str(name).lower() if targets is True else name) in known]
        if targets is not True and len(names) < len(known):
            missing = ", ".join(sorted(set(known) - set(names)))
            raise ValueError(f"targets: a batch has no {missing}; it has {', '.join(map(str, first))}")
        if names and len(names) < len(first):
            return lambda batch: _by_name(batch, names)
    elif targets is True and isinstance(first, tuple | list) and len(first) == 2:
        return lambda batch: (batch[0], batch[1])
    return lambda batch: (batch, None)


def _by_name(batch: Mapping[Any, Any], names: Sequence[Any]) -> tuple[Any, Any]:
    inputs = {name: part for name, part in batch.items() if name not in names}
    single = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return single, batch[names[0]] if len(names) == 1 else {name: batch[name] for name in names}


def _joined(structure: Any, split: Callable[[Any], tuple[Any, Any]]) -> Callable[[Any, Any], Any]:
    """The way back from `(inputs, targets)` to a batch: each leaf to the place that it came from."""
    places = split(jax.tree.unflatten(structure, range(structure.num_leaves)))

    def join(inputs: Any, targets: Any) -> Any:
        leaves = dict(zip(jax.tree.leaves(places), jax.tree.leaves((inputs, targets)), strict=True))
        return jax.tree.unflatten(structure, [leaves[place] for place in range(structure.num_leaves)])

    return join
