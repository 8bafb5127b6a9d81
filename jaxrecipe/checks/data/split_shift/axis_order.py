"""In which order of axes, channels or columns the inputs of one split look most like those of another."""

from collections.abc import Callable
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.sketches import pooled

CELLS = 8
"""Images are compared by the means of 8×8 cells."""
COLUMNS = 256
"""Columns that can be assigned to each other: more take seconds."""
FEW_COLUMNS = 64
"""Columns up to which every order that fits four times better is one that was mixed up."""
MOST_CHANNELS = 4
"""Channels up to which every order is tried; of more only the reverse."""
ROUNDING = 1e-12
"""Differences of means, as a share of their square, that are rounding in float64."""
MOST_APART = 1e6
"""Mean square of standard errors at which a place counts as just different."""


class AxisOrder(NamedTuple):
    """What was found for one input.

    Attributes:
        as_is: how far the moments of the splits are apart, as mean square of standard errors: about 1 for a random
            split.
        best: the same in the best other order of axes, channels or columns.
        words: that order in words.
        simple: whether it is one that a slip makes, and not one of very many.
    """

    as_is: float
    best: float
    words: str
    simple: bool


class _Moments(NamedTuple):
    """Mean values and squares at each place, and their squared standard errors; `[moments, ...]`."""

    means: np.ndarray
    errors: np.ndarray


def best_axis_order(
    train: np.ndarray, test: np.ndarray, kind: InputKind, targets: tuple[np.ndarray, np.ndarray] | None
) -> AxisOrder | None:
    """Compare a leaf of both splits in every order of axes that is likely to be a mistake; None where there is no other
    one.

    Images are mirrored, turned and their channels permuted; the columns of tables and sequences are assigned to each
    other one by one.

    Args:
        train: the leaf of the training split, `[n, ...]`.
        test: that of the test split, `[m, ...]`, of at least four examples.
        kind: what the leaf is.
        targets: numbers to predict, `[n, k]` and `[m, k]`: how columns go with them tells columns apart that are alike
            otherwise.
    """
    train, test = (np.nan_to_num(leaf.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) for leaf in (train, test))
    tried = [_image_order(train, test)] if kind == "image" else []
    if 2 <= train.shape[-1] <= COLUMNS and train.ndim <= 3 and (train.ndim == 2 or train.shape[-1] <= FEW_COLUMNS):
        tried.append(_column_order(train, test, targets))
    return min(tried, key=lambda one: one.best / max(one.as_is, ROUNDING)) if tried else None


def _moments(values: np.ndarray) -> _Moments:
    stacked = np.stack([values, np.square(values)])
    return _Moments(stacked.mean(axis=1), stacked.var(axis=1) / len(values))


def _distance(left: _Moments, right: _Moments) -> float:
    """Mean square of the differences in standard errors; constant places that are equal count nothing."""
    errors, squares = left.errors + right.errors, np.square(left.means - right.means)
    used = (errors > 0) | (squares > ROUNDING * (1.0 + np.square(left.means)))
    return (
        float(np.minimum(squares[used] / np.maximum(errors[used], ROUNDING), MOST_APART).mean()) if used.any() else 0.0
    )


def _image_order(train: np.ndarray, test: np.ndarray) -> AxisOrder:
    """Every way to mirror, turn and permute channels, tried on the maps of moments.

    Three kinds of maps: the values, their deviations from the mean of the image, and from the mean of the channels. The
    last two leave out how bright an image is, which varies so much that it would hide its colors and its shape. The
    kind that differs most counts.
    """
    center = float(np.mean(train, dtype=np.float64))
    kinds = [
        _deviations(pooled(leaf.reshape(*leaf.shape[:3], -1), CELLS).astype(np.float64) - center)
        for leaf in (train, test)
    ]
    ours, theirs = ([_moments(values) for values in kind] for kind in kinds)

    def distance(change: Callable[[np.ndarray], np.ndarray]) -> float:
        changed = [_Moments(change(kind.means), change(kind.errors)) for kind in theirs]
        return max(_distance(*pair) for pair in zip(ours, changed, strict=True))

    tried = {words: distance(change) for words, change in _image_changes(ours[0].means.shape[1:])}
    words = min(tried, key=lambda name: tried[name])
    return AxisOrder(distance(lambda maps: maps), tried[words], words, True)


def _deviations(values: np.ndarray) -> list[np.ndarray]:
    found = [values, values - values.mean(axis=(1, 2), keepdims=True)]
    return [*found, values - values.mean(axis=3, keepdims=True)] if values.shape[3] > 1 else found


def _image_changes(shape: tuple[int, ...]) -> list[tuple[str, Any]]:
    """Named changes of maps `[moments, h, w, c]` other than none at all."""
    high, wide, channels = shape
    turns = [
        ("", lambda m: m),
        ("upside down", lambda m: m[:, ::-1]),
        ("mirrored left to right", lambda m: m[:, :, ::-1]),
    ]
    turns.append(("turned by 180 degrees", lambda m: m[:, ::-1, ::-1]))
    if high == wide:
        turns += [
            ("with height and width swapped", lambda m: m.swapaxes(1, 2)),
            ("turned by 90 degrees", lambda m: m.swapaxes(1, 2)[:, ::-1]),
            ("turned by 270 degrees", lambda m: m.swapaxes(1, 2)[:, :, ::-1]),
            ("with height and width swapped and turned by 180 degrees", lambda m: m.swapaxes(1, 2)[:, ::-1, ::-1]),
        ]
    identity = tuple(range(channels))
    orders = list(permutations(identity)) if channels <= MOST_CHANNELS else [identity, identity[::-1]]
    found = []
    for words, turn in turns:
        for order in orders:
            named = _channel_words(order, identity)
            if named or words:
                both = " and ".join(part for part in (named, words) if part)
                found.append((both, lambda m, t=turn, o=list(order): t(m)[..., o]))
    return found


def _channel_words(order: tuple[int, ...], identity: tuple[int, ...]) -> str:
    """An order of channels in words; empty for the one that they have."""
    if order == identity:
        return ""
    return "with channels reversed" if order == identity[::-1] else f"with channels in the order {list(order)}"


def _column_order(train: np.ndarray, test: np.ndarray, targets: tuple[np.ndarray, np.ndarray] | None) -> AxisOrder:
    """Assign the columns of one half of the test split to those of the training split, and judge by the other half."""
    from scipy.optimize import linear_sum_assignment

    width = train.shape[-1]
    used = targets if targets is not None else (np.zeros((len(train), 0)), np.zeros((len(test), 0)))
    scale = used[0].std(axis=0) + 1e-12
    ours = _column_moments(train, (used[0] - used[0].mean(axis=0)) / scale)
    halves = [_column_moments(test[side::2], ((used[1] - used[0].mean(axis=0)) / scale)[side::2]) for side in (0, 1)]
    costs = [_costs(ours, half) for half in halves]
    _, order = linear_sum_assignment(costs[0])
    as_is, best = float(np.diag(costs[1]).mean()), float(costs[1][np.arange(width), order].mean())
    moved = np.flatnonzero(order != np.arange(width))
    if not len(moved):
        return AxisOrder(as_is, np.inf, "", True)
    reverse = bool((order == np.arange(width)[::-1]).all())
    pairs = ", ".join(f"{order[j]} for {j}" for j in moved[:6]) + (", ..." if len(moved) > 6 else "")
    words = "with columns reversed" if reverse else f"with columns {pairs}"
    return AxisOrder(as_is, best, words, reverse or width <= FEW_COLUMNS)


def _column_moments(leaf: np.ndarray, targets: Float[np.ndarray, "n k"]) -> _Moments:
    """Mean value, mean square and mean products with the targets of each column; `[moments, columns]`."""
    rows = leaf.astype(np.float64)
    rows = rows.reshape(len(rows), -1, rows.shape[-1])
    value, square = rows.mean(axis=1), np.square(rows).mean(axis=1)
    stacked = np.stack([value, square, *(value * column[:, None] for column in targets.T[:16])])
    return _Moments(stacked.mean(axis=1), stacked.var(axis=1) / len(rows))


def _costs(left: _Moments, right: _Moments) -> Float[np.ndarray, "d d"]:
    """How far each column of one is from each column of the other, as mean square of standard errors."""
    squares = np.square(left.means[:, :, None] - right.means[:, None, :])
    errors = left.errors[:, :, None] + right.errors[:, None, :]
    scale = ROUNDING * (1.0 + np.square(left.means[:, :, None]))
    return np.minimum(squares / np.maximum(errors, scale), MOST_APART).mean(axis=0)
