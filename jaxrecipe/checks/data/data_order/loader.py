"""What a loader hands out in an epoch, read once: which stored examples, with which targets, and in which order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64, Int, UInt64

from jaxrecipe.probes.copies import hashes
from jaxrecipe.probes.reading import Head, by_path, finite, heads
from jaxrecipe.targets import Binary, Classes, MultiLabel, TargetTree, Unspecified, Values

PERMUTATIONS = 40
"""Random orders that tell what chance does: the spread is then known to about a tenth."""
SMALLEST_BLOCK = 16
"""Smaller batches are taken together: the classes of one or two examples say nothing."""
MOST_COLUMNS = 16
Form = tuple[tuple[str, Any, tuple[int, ...]], ...]
"""Path, dtype and shape of every array of one example."""


@dataclass(frozen=True)
class Watched:
    """Something that may depend on the order, `[n, columns]`; `categories` if the one column holds class numbers."""

    values: Float64[np.ndarray, "n columns"]
    categories: bool


@dataclass(frozen=True)
class Delivery:
    """The examples of one epoch in the order in which they came.

    Attributes:
        inputs, targets: a hash of each example's inputs and targets in the dtypes in which they are stored; None where these
            have another form.
        sizes: examples in each batch.
        labels: by head, those of the declared targets that are not pictures or text.
        moments: by input, mean and standard deviation of each example; not of tokens.
        endless: whether reading was stopped after far more examples than there are.
    """

    inputs: UInt64[np.ndarray, "n"] | None
    targets: UInt64[np.ndarray, "n"] | None
    sizes: list[int]
    labels: dict[str, Watched]
    moments: dict[str, Watched]
    endless: bool = False


def read(
    batches: Iterable[tuple[Any, Any]],
    target: TargetTree,
    *,
    like: tuple[Any, Any] | None = None,
    most: int | None = None,
) -> Delivery:
    """Read batches `(inputs, targets)` until they end, or until there are more than `most` examples.

    Args:
        batches: what a loader hands out.
        target: what is declared, so that labels can be watched.
        like: a stored example or more, whose dtypes the hashes are taken in; None for no hashes and no moments.
        most: examples after which the batches count as endless.
    """
    sizes: list[int] = []
    sides: tuple[list[Any], list[Any]] = ([], [])
    labels: dict[str, list[Watched]] = {}
    moments: dict[str, list[Watched]] = {}
    for batch in batches:
        inputs, targets = jax.tree.map(np.asarray, tuple(batch))
        sizes.append(len(jax.tree.leaves(inputs)[0]))
        for name, watched in _labels(heads(target, targets)):
            labels.setdefault(name, []).append(watched)
        if like is not None:
            for side, tree, stored in zip(sides, (inputs, targets), like, strict=True):
                side.append(hashed_as(tree, form_of(stored)))
            for name, watched in _moments(inputs):
                moments.setdefault(name, []).append(watched)
        if most is not None and sum(sizes) > most:
            break
    hashed = [None if not side or any(one is None for one in side) else np.concatenate(side) for side in sides]
    endless = most is not None and sum(sizes) > most
    return Delivery(hashed[0], hashed[1], sizes, _joined(labels), _joined(moments), endless)


def _joined(parts: dict[str, list[Watched]]) -> dict[str, Watched]:
    """The parts of every batch in one."""
    return {
        name: Watched(np.concatenate([one.values for one in found]), found[0].categories)
        for name, found in parts.items()
    }


def form_of(tree: Any) -> Form:
    """The form of one example, in the dtypes that JAX would give it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return tuple((str(path), jax.dtypes.canonicalize_dtype(leaf.dtype), np.shape(leaf)[1:]) for path, leaf in leaves)


def hashed_as(tree: Any, form: Form) -> UInt64[np.ndarray, "n"] | None:
    """A hash of each example in the dtypes of a form; None where there is nothing, shapes differ or a dtype would lose something."""
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


def _labels(found: list[Head]) -> Iterator[tuple[str, Watched]]:
    """The labels of each head as a few numbers an example; tokens and long values are left out."""
    for head in found:
        flat = head.labels.reshape(len(head.labels), -1)
        one = flat.shape[1] == 1
        match head.target:
            case Classes() | Unspecified() if one and flat.dtype.kind in "iub":
                yield head.path, Watched(flat.astype(np.float64), True)
            case Classes(n=n) if not one:
                shares = [(flat == number).mean(axis=1) for number in range(min(n, MOST_COLUMNS))]
                yield head.path, Watched(np.stack(shares, axis=1), False)
            case Binary() | MultiLabel() | Values() | Unspecified() if flat.shape[1] <= MOST_COLUMNS:
                yield head.path, Watched(flat.astype(np.float64), False)


def _moments(inputs: Any) -> Iterator[tuple[str, Watched]]:
    """Mean and standard deviation of each example of real inputs and pictures."""
    for path, leaf in by_path(inputs).items():
        tokens = leaf.dtype.kind in "iu" and leaf.dtype.itemsize > 1
        flat = leaf.reshape(len(leaf), -1)
        if not tokens and flat.shape[1]:
            numbers = finite(flat.astype(np.float32))
            both = np.stack([numbers.mean(axis=1), numbers.std(axis=1)], axis=1)
            yield path, Watched(both.astype(np.float64), False)


@dataclass(frozen=True)
class Dependence:
    """How much of what is watched depends on where in the order it comes.

    Attributes:
        share: of the variance that sorting would put between batches, what is there beyond chance: 0 in random order, 1 when sorted.
        chance: probability of so much or more in a random order.
        profile: mean of each column (share of each class) in up to 60 stretches of the order, `[stretches, columns]`.
        names: of the columns.
    """

    share: float
    chance: float
    profile: Float64[np.ndarray, "stretches columns"]
    names: tuple[str, ...]


def dependence(watched: Watched, sizes: list[int], seed: int) -> Dependence | None:
    """Compare the variance between batches with that in random orders of the same examples; None where nothing can be told.

    For classes this is the chi-squared statistic of batch against class, for values the F statistic. Mean and spread in random
    orders come from permutations, the tail from the chi-squared distribution of that mean and spread (Wilson and Hilferty).
    """
    columns, names = _spread_out(watched, seed)
    if not np.isfinite(columns).all():
        return None
    spread = columns.std(axis=0)
    kept = spread > 1e-9 * (np.abs(columns).max(axis=0, initial=0.0) + 1e-30)
    starts = _starts(sizes)
    if not kept.any() or len(starts) < 4:
        return None
    scaled = ((columns - columns.mean(axis=0)) / np.where(kept, spread, 1.0))[:, kept]
    rng = np.random.default_rng([seed, 313])
    orders = (rng.permutation(len(scaled)) for _ in range(PERMUTATIONS))
    random = np.array([_between(scaled[order], starts) for order in orders])
    mean, deviation = float(random.mean()), float(max(random.std(ddof=1), 1e-9))
    found = _between(scaled, starts)
    freedom = 2 * mean**2 / deviation**2
    z = ((found / mean) ** (1 / 3) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom))
    top = (
        _between(scaled[np.argsort(watched.values[:, 0], kind="stable")], starts)
        if watched.values.shape[1] == 1
        else 1.0
    )
    stretches = np.linspace(0, len(columns), min(60, len(starts)) + 1).astype(int)[:-1]
    counts = np.diff([*stretches, len(columns)])[:, None]
    profile = np.add.reduceat(columns, stretches, axis=0) / counts
    return Dependence(max(0.0, (found - mean) / max(top - mean, 1e-9)), float(0.5 * erfc(z / sqrt(2))), profile, names)


def _spread_out(watched: Watched, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers as a column of yes and no each; many classes as random signs, which depend on the order as much."""
    if not watched.categories:
        return watched.values, tuple(map(str, range(watched.values.shape[1])))
    classes, numbers = np.unique(watched.values[:, 0], return_inverse=True)
    if len(classes) <= MOST_COLUMNS:
        return np.eye(len(classes))[numbers], tuple(f"{one:g}" for one in classes)
    signs = np.random.default_rng([seed, 317]).choice([-1.0, 1.0], size=(len(classes), MOST_COLUMNS))
    return signs[numbers], ()


def _starts(sizes: list[int]) -> Int[np.ndarray, "blocks"]:
    """Where the batches begin; small ones taken together, a short last one given to the one before."""
    starts, size = [0], 0
    for number in sizes:
        size += number
        if size >= SMALLEST_BLOCK:
            starts.append(starts[-1] + size)
            size = 0
    return np.array(starts[:-1] if len(starts) > 1 else starts)


def _between(scaled: np.ndarray, starts: np.ndarray) -> float:
    """Share of the variance of standardised columns that lies between blocks."""
    counts = np.diff([*starts, len(scaled)])[:, None]
    sums = np.add.reduceat(scaled, starts, axis=0)
    return float((sums**2 / counts).sum() / scaled.size)
