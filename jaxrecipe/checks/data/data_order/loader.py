"""What a loader hands out in an epoch, read once: which stored examples, with which targets, and in which order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64, UInt64

from jaxrecipe.probes.fingerprints import hashes
from jaxrecipe.probes.heads import heads_with_arrays
from jaxrecipe.probes.reading import by_path, finite
from jaxrecipe.targets import Binary, Classes, Head, MultiLabel, TargetTree, Unspecified, Values

MOST_COLUMNS = 16
"""Columns of a target that are followed along the order; more are a reconstruction."""
Form = tuple[tuple[str, Any, tuple[int, ...]], ...]
"""Path, dtype and shape of every array of one example."""


@dataclass(frozen=True)
class Observed:
    """Numbers of each example that may depend on the order; `categories` if the one column holds class numbers."""

    values: Float64[np.ndarray, "n columns"]
    categories: bool


@dataclass(frozen=True)
class Epoch:
    """The examples of one epoch in the order in which they came.

    Attributes:
        inputs, targets: a hash of each example's inputs and targets in the dtypes in which they are stored; None where
            these have another form.
        sizes: examples in each batch.
        labels: by head, those of the declared targets that are not images or text.
        moments: by input, mean and standard deviation of each example; not of tokens.
        endless: whether reading was stopped after far more examples than there are.
    """

    inputs: UInt64[np.ndarray, "n"] | None
    targets: UInt64[np.ndarray, "n"] | None
    sizes: list[int]
    labels: dict[str, Observed]
    moments: dict[str, Observed]
    endless: bool = False


def read_epoch(
    batches: Iterable[tuple[Any, Any]],
    target: TargetTree,
    *,
    like: tuple[Any, Any] | None = None,
    most: int | None = None,
) -> Epoch:
    """Read batches `(inputs, targets)` until they end, or until there are more than `most` examples.

    Args:
        batches: what a loader hands out.
        target: what is declared, so that labels can be followed.
        like: a stored example or more, whose dtypes the hashes are taken in; None for no hashes and no moments.
        most: examples after which the batches count as endless.
    """
    sizes: list[int] = []
    sides: tuple[list[Any], list[Any]] = ([], [])
    labels: dict[str, list[Observed]] = {}
    moments: dict[str, list[Observed]] = {}
    for batch in batches:
        inputs, targets = jax.tree.map(np.asarray, tuple(batch))
        sizes.append(len(jax.tree.leaves(inputs)[0]))
        for name, observed in _label_columns(heads_with_arrays(target, targets)):
            labels.setdefault(name, []).append(observed)
        if like is not None:
            for side, tree, stored in zip(sides, (inputs, targets), like, strict=True):
                side.append(hashes_in_form(tree, form_of(stored)))
            for name, observed in _input_moments(inputs):
                moments.setdefault(name, []).append(observed)
        if most is not None and sum(sizes) > most:
            break
    hashed = [None if not side or any(one is None for one in side) else np.concatenate(side) for side in sides]
    endless = most is not None and sum(sizes) > most
    return Epoch(hashed[0], hashed[1], sizes, _concatenated(labels), _concatenated(moments), endless)


def _concatenated(parts: dict[str, list[Observed]]) -> dict[str, Observed]:
    """The parts of every batch in one."""
    return {
        name: Observed(np.concatenate([one.values for one in found]), found[0].categories)
        for name, found in parts.items()
    }


def form_of(tree: Any) -> Form:
    """The form of one example, in the dtypes that JAX would give it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return tuple((str(path), jax.dtypes.canonicalize_dtype(leaf.dtype), np.shape(leaf)[1:]) for path, leaf in leaves)


def hashes_in_form(tree: Any, form: Form) -> UInt64[np.ndarray, "n"] | None:
    """A hash of each example in the dtypes of a form; None where shapes differ or a dtype would lose something."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves or [(str(path), np.shape(leaf)[1:]) for path, leaf in leaves] != [
        (path, shape) for path, _, shape in form
    ]:
        return None
    cast = []
    for (_, leaf), (_, dtype, _) in zip(leaves, form, strict=True):
        given = np.asarray(leaf)
        changed = given.astype(dtype)
        wider = given.dtype.kind == changed.dtype.kind  # 64 bits that JAX narrows anyway
        if not wider and not np.array_equal(changed.astype(given.dtype), given):
            return None
        cast.append(changed)
    return hashes(cast)


def _label_columns(found: list[Head]) -> Iterator[tuple[str, Observed]]:
    """The labels of each head as a few numbers an example; tokens and long values are left out."""
    for head in found:
        flat = head.targets.reshape(len(head.targets), -1)
        one = flat.shape[1] == 1
        match head.target:
            case Classes() | Unspecified() if one and flat.dtype.kind in "iub":
                yield head.path, Observed(flat.astype(np.float64), True)
            case Classes(n=n) if not one:
                shares = [(flat == number).mean(axis=1) for number in range(min(n, MOST_COLUMNS))]
                yield head.path, Observed(np.stack(shares, axis=1), False)
            case Binary() | MultiLabel() | Values() | Unspecified() if flat.shape[1] <= MOST_COLUMNS:
                yield head.path, Observed(flat.astype(np.float64), False)


def _input_moments(inputs: Any) -> Iterator[tuple[str, Observed]]:
    """Mean and standard deviation of each example of real inputs and images."""
    for path, leaf in by_path(inputs).items():
        tokens = leaf.dtype.kind in "iu" and leaf.dtype.itemsize > 1
        flat = leaf.reshape(len(leaf), -1)
        if not tokens and flat.shape[1]:
            numbers = finite(flat.astype(np.float32))
            both = np.stack([numbers.mean(axis=1), numbers.std(axis=1)], axis=1)
            yield path, Observed(both.astype(np.float64), False)
