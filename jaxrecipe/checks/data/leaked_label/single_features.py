"""How well each number of the inputs alone gives the label: by a lookup of its values, or by a curve through them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 64
"""Bins of a lookup, for numbers of more different values."""
TARGET_BINS = 20
"""Bins of a real target, for the share of a number's variance that lies between them."""
ROUNDING = 1e-9
"""Variance of a column, as a share of its mean square, below which it is constant but for rounding."""
PIECE = 4096
"""Columns that are measured at a time."""
LARGEST = np.float32(1e15)
"""Beyond this a square, summed over examples, is no float32."""
LOOKED_UP = 256
"""Numbers whose lookup is made: those that vary most between the labels and least within."""


class SingleFeatures(NamedTuple):
    """The numbers of an input that tell most, best first.

    Attributes:
        places: their columns among all the numbers of an example, in the order of `flattened`.
        errors: for labels the balanced error of a lookup, for values the share of the variance that a curve leaves
            unexplained; both on examples that it was not made from.
        one_label: for labels, the least balanced error of telling one label from all others, and which label that is,
            `[places, 2]`.
        between: share of the variance of each of these numbers that is between the labels.
        levels: how many different values each of them has.
        map: the same share for all the numbers of an example.
    """

    places: Int[np.ndarray, "k"]
    errors: Float[np.ndarray, "k"]
    one_label: Float[np.ndarray, "k 2"]
    between: Float[np.ndarray, "k"]
    levels: Int[np.ndarray, "k"]
    map: Float[np.ndarray, "d"]


def flattened(inputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n d"]:
    """All the numbers of each example side by side, leaf by leaf."""
    rows = [leaf.reshape(len(leaf), -1).astype(np.float32) for leaf in inputs.values()]
    joined = np.nan_to_num(np.concatenate(rows, axis=1), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(joined, -LARGEST, LARGEST)


def place_name(inputs: Mapping[str, np.ndarray], column: int) -> str:
    """What a column of `flattened` is called: the leaf and the index in it."""
    for path, leaf in inputs.items():
        size = int(np.prod(leaf.shape[1:]))
        if column < size:
            index = ", ".join(str(int(i)) for i in np.unravel_index(column, leaf.shape[1:])) if leaf.ndim > 1 else ""
            return f"{path}[{index}]" if index else path
        column -= size
    raise IndexError(f"there is no number {column} in an example")


def measure_single_features(rows: Float[np.ndarray, "n d"], values: np.ndarray, *, classes: bool) -> SingleFeatures:
    """Measure every number alone against labels `[n]` or one column of values `[n]`."""
    labels = (
        np.unique(values, return_inverse=True)[1].reshape(-1) if classes else _quantiles(values, values, TARGET_BINS)
    )
    between = _share_between(rows, labels)
    places = np.argsort(-between, kind="stable")[:LOOKED_UP]
    measured = [_errors_alone(rows[:, place], labels if classes else values, classes=classes) for place in places]
    errors = np.array([error for error, _ in measured])
    order = np.argsort(errors, kind="stable")
    return SingleFeatures(
        places=places[order],
        errors=errors[order],
        one_label=np.array([one for _, one in measured]).reshape(-1, 2)[order],
        between=between[places][order],
        levels=np.array([len(np.unique(rows[:, place])) for place in places[order]]),
        map=between,
    )


def _share_between(rows: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "d"]:
    """Share of each column's variance that is between the labels: 1 where a number is a function of the label."""
    counts = np.bincount(labels).astype(np.float64)
    member = (labels[None, :] == np.arange(len(counts))[:, None]).astype(np.float32)
    found = np.zeros(rows.shape[1])
    for start in range(0, rows.shape[1], PIECE):
        part = rows[:, start : start + PIECE]
        rounding = ROUNDING * np.square(part).sum(axis=0, dtype=np.float64)
        part = part - part.mean(axis=0)
        total = np.square(part).sum(axis=0, dtype=np.float64)
        sums = (member @ part).astype(np.float64)
        found[start : start + PIECE] = np.where(
            total > rounding, (np.square(sums) / counts[:, None]).sum(axis=0) / np.maximum(total, 1e-30), 0.0
        )
    return np.clip(found, 0.0, 1.0)


def _quantiles(values: np.ndarray, of: np.ndarray, bins: int) -> Int[np.ndarray, "n"]:
    """The bin of each value: one for each different value where there are few, else bins of equally many; gaps stay
    gaps.
    """
    levels = np.unique(of)
    if len(levels) > bins:
        levels = np.unique(np.quantile(of, np.linspace(0, 1, bins + 1))[:-1])
    middles = (levels[1:] + levels[:-1]) / 2.0 if len(levels) <= bins // 2 else levels[1:]
    return np.searchsorted(middles, values, side="right")


def _errors_alone(column: np.ndarray, target: np.ndarray, *, classes: bool) -> tuple[float, tuple[float, float]]:
    """Error of one number alone on the odd examples, by what the even ones say (and the other way round), and of one
    label against all.
    """
    if not classes:
        return float(np.mean([_curve(column, target, side) for side in (0, 1)])), (1.0, -1.0)
    wrong = [_lookup(column, target, side) for side in (0, 1)]
    ones = np.mean([one for _, one in wrong], axis=0)
    best = int(ones.argmin())
    return float(np.mean([error for error, _ in wrong])), (float(ones[best]), float(best))


def _lookup(column: np.ndarray, labels: np.ndarray, side: int) -> tuple[float, np.ndarray]:
    """Balanced error of naming the likeliest label of each bin, or the label with the nearest mean, and of telling each
    label from the rest.
    """
    made, judged = slice(side, None, 2), slice(1 - side, None, 2)
    bins = _quantiles(column, column[made], BINS)
    shape = (int(bins.max()) + 1, int(labels.max()) + 1)
    counts, held_out = (_counts(bins[part], labels[part], shape) for part in (made, judged))
    of_label, of_bin = counts.sum(axis=0), counts.sum(axis=1, keepdims=True)
    rates = counts / np.maximum(of_label, 1.0)
    others = (of_bin - counts) / np.maximum(counts.sum() - of_label, 1.0)
    sums = np.bincount(labels[made], weights=column[made], minlength=shape[1])
    means = np.where(of_label > 0, sums / np.maximum(of_label, 1.0), np.inf)
    given = labels[judged]
    guesses = (rates.argmax(axis=1)[bins[judged]], nearest_mean(column[judged], means))
    error = min(_balanced_error(named, given) for named in guesses)
    return error, _errors_of_one_label(rates > others, held_out)


def _counts(bins: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> Float[np.ndarray, "bins labels"]:
    """How often each label is in each bin."""
    return np.bincount(bins * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def _balanced_error(named: Int[np.ndarray, "n"], given: Int[np.ndarray, "n"]) -> float:
    """Share of wrong names, each label that is given counting alike."""
    times = np.bincount(given)
    wrong = np.bincount(given, weights=named != given)
    return float((wrong[times > 0] / times[times > 0]).mean())


def _errors_of_one_label(
    said: Bool[np.ndarray, "bins labels"], counts: Float[np.ndarray, "bins labels"]
) -> Float[np.ndarray, "labels"]:
    """Balanced error of telling each label from the rest by the bins that are `said` to be its own; 1 for a label that
    is not among the counted ones, or alone there.
    """
    of_label, total = counts.sum(axis=0), counts.sum()
    missed = 1.0 - (counts * said).sum(axis=0) / np.maximum(of_label, 1.0)
    taken = ((counts.sum(axis=1, keepdims=True) - counts) * said).sum(axis=0) / np.maximum(total - of_label, 1.0)
    return np.where((of_label > 0) & (of_label < total), (missed + taken) / 2.0, 1.0)


def nearest_mean(values: Float[np.ndarray, "n"], means: Float[np.ndarray, "labels"]) -> Int[np.ndarray, "n"]:
    """The label whose mean is nearest to each value, the first of those that are equally near."""
    order = np.argsort(means, kind="stable")
    ordered, first = np.unique(means[order], return_index=True)
    names = order[first]
    above = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    below = np.maximum(above - 1, 0)
    over, under = np.abs(values - ordered[above]), np.abs(values - ordered[below])
    tie = np.minimum(names[above], names[below])
    return np.where(over < under, names[above], np.where(under < over, names[below], tie))


def _curve(column: np.ndarray, values: np.ndarray, side: int) -> float:
    """Share of the variance that a straight line, or a curve through the means of bins, leaves unexplained."""
    made, judged = slice(side, None, 2), slice(1 - side, None, 2)
    x, y = column[made].astype(np.float64), values[made]
    spread = float(values[judged].var())
    if spread == 0.0 or x.std() == 0.0:
        return 1.0
    slope = float(np.mean((x - x.mean()) * (y - y.mean())) / x.var())
    line = y.mean() + slope * (column[judged] - x.mean())
    bins = _quantiles(x, x, BINS)
    counts = np.maximum(np.bincount(bins), 1e-9)
    knots, means = np.bincount(bins, weights=x) / counts, np.bincount(bins, weights=y) / counts
    used = np.bincount(bins) > 0
    curve = np.interp(column[judged], knots[used], means[used])
    return float(min(np.square(values[judged] - guess).mean() for guess in (line, curve)) / spread)
