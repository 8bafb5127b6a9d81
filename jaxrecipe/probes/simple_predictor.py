"""Predictions that a cheap and robust predictor makes for examples that it was not fitted on.

Ridge regression (on one-hot labels or on values) of the numbers of an example and of Gaussian bumps around some of the
examples. Leaving each example out has a closed form, so that out-of-sample predictions for every training example cost
one fit, and they are exact. Everything is numpy in float64, and nothing is random but a fixed choice of the bumps'
centres.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxrecipe.inputs import InputKind, are_names
from jaxrecipe.probes.sketches import pooled

CELLS = 16
"""Larger images enter as means of 16×16 cells."""
WIDEST = 1024
"""Numbers an example at most before the main directions are taken."""
DIRECTIONS = 96
CENTRES = 256
LEVELS = 64
"""Integers with at most this many values are taken as categories."""
LONGEST_ROW_OF_CATEGORIES = 8
"""Integers a row from which on those of many values are counted like words."""


@dataclass(frozen=True, eq=False)
class Features:
    """Numbers made of inputs, `of(inputs) -> [n, d]` float64; made by `features_of` from the training inputs.

    Attributes:
        of: applies to any inputs of the same structure.
    """

    of: Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted predictor.

    Attributes:
        held_out: for each training example the prediction of the predictor that was fitted without it, `[n, columns]`.
        predict: `predict(features) -> [m, columns]` of new examples.
    """

    held_out: Float[np.ndarray, "n columns"]
    predict: Callable[[np.ndarray], np.ndarray]


def features_of(inputs: Mapping[str, np.ndarray], kinds: Mapping[str, InputKind]) -> Features:
    """Decide from training inputs of these kinds how inputs become numbers: images pooled, categories one-hot, the
    rest standardized.

    Constant columns are left out; values beyond eight standard deviations are cut, so that one broken number does not
    rule.
    """
    encoders = {path: _encoder(leaf, kinds[path]) for path, leaf in inputs.items()}

    def raw(some: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([encoders[path](some[path]) for path in encoders], axis=1)

    numbers = raw(inputs)
    mean, scale = numbers.mean(axis=0), numbers.std(axis=0)
    kept = scale > 1e-6 * (1e-30 + np.abs(mean) + scale.max(initial=0.0) * 1e-3)
    mean, scale = mean[kept], scale[kept]

    def standard(some: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.clip((raw(some)[:, kept] - mean) / scale, -8.0, 8.0)

    axes = _main_axes(np.clip((numbers[:, kept] - mean) / scale, -8.0, 8.0))
    return Features(lambda some: standard(some) @ axes)


def _encoder(leaf: np.ndarray, kind: InputKind) -> Callable[[np.ndarray], np.ndarray]:
    """How one leaf becomes columns."""
    size = int(np.prod(leaf.shape[1:]))
    if are_names(kind, leaf.dtype):
        levels = np.unique(leaf)
        if len(levels) <= LEVELS and size * len(levels) <= WIDEST:
            return lambda some: (some.reshape(len(some), -1, 1) == levels).astype(np.float64).reshape(len(some), -1)
        if kind == "tokens" or size >= LONGEST_ROW_OF_CATEGORIES:
            return _bag(size)
    image = kind == "image"
    narrow = _narrowed(int(np.prod(pooled(leaf[:1], CELLS).shape[1:])) if image else size)

    def numbers(some: np.ndarray) -> np.ndarray:
        values = pooled(some, CELLS) if image else some
        flat = np.nan_to_num(values.reshape(len(some), -1).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        return narrow(flat)

    return numbers


def _narrowed(width: int) -> Callable[[np.ndarray], np.ndarray]:
    """Random directions for what is too wide."""
    if width <= WIDEST:
        return lambda flat: flat
    directions = np.random.default_rng(width).normal(size=(width, WIDEST)) / np.sqrt(WIDEST)
    return lambda flat: flat @ directions


def _bag(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """How often tokens of each of 256 random groups occur, and the groups of the last three."""

    def bag(some: np.ndarray) -> np.ndarray:
        group = (some.reshape(len(some), size).astype(np.int64) * 2654435761 % 2**32) >> 24
        counts = np.zeros((len(some), 256))
        np.add.at(counts, (np.arange(len(some))[:, None], group), 1.0)
        last = (group[:, -3:, None] == np.arange(256)).astype(np.float64).reshape(len(some), -1)
        return np.concatenate([np.sqrt(counts), last], axis=1)

    return bag


def _main_axes(standard: np.ndarray) -> np.ndarray:
    """The directions of largest variance `[d, ≤96]`, all of them for narrow rows."""
    if standard.shape[1] <= DIRECTIONS:
        return np.eye(standard.shape[1])
    _, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    return vectors[:, -DIRECTIONS:]


def fit(
    features: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, "n columns"],
    *,
    widths: tuple[float, ...] = (0.7,),
) -> Fit:
    """Fit the predictor; the width of the bumps and the strength of the ridge are those with the least leave-one-out
    error.

    Args:
        features: made by `features_of`.
        targets: one-hot labels or values.
        widths: of the bumps, in median distances between examples; each costs another fit.
    """
    bumps = [_bumps(features, width) for width in widths] if len(features) >= 20 else [None]
    return min((_ridge(features, targets, one) for one in bumps), key=lambda fitted: fitted[0])[1]


def _bumps(features: np.ndarray, width: float) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian bumps around some examples, as wide as `width` times the median distance between them."""
    count = min(CENTRES, len(features) // 3)
    centres = features[np.random.default_rng(5).permutation(len(features))[:count]]
    scale = 2.0 * width**2 * max(float(np.median(_squared(centres, centres)[np.triu_indices(count, 1)])), 1e-12)
    return lambda some: np.exp(-_squared(some, centres) / scale)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum(np.square(a).sum(axis=1)[:, None] - 2.0 * (a @ b.T) + np.square(b).sum(axis=1), 0.0)


def _ridge(
    features: np.ndarray, targets: np.ndarray, bumps: Callable[[np.ndarray], np.ndarray] | None
) -> tuple[float, Fit]:
    """Ridge regression with its exact leave-one-out predictions; also their squared error."""

    def columns(some: np.ndarray) -> np.ndarray:
        return some if bumps is None else np.concatenate([some * weight, bumps(some)], axis=1)

    weight = 1.0
    if bumps is not None:  # the numbers and the bumps weigh the same
        weight = float(np.sqrt(bumps(features).var(axis=0).sum() / max(features.var(axis=0).sum(), 1e-12)))
    X = columns(features)
    centre, mean = X.mean(axis=0), targets.mean(axis=0)
    X, Y = X - centre, targets - mean
    values, vectors = np.linalg.eigh(X.T @ X)
    values = np.maximum(values, 0.0)
    turned = X @ vectors
    against = turned.T @ Y
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for strength in max(values.sum() / len(values), 1e-12) * 10.0 ** np.arange(-5.0, 2.0):
        shrunk = against / (values + strength)[:, None]
        own = 1.0 / len(X) + np.square(turned) @ (1.0 / (values + strength))
        residuals = (Y - turned @ shrunk) / np.maximum(1.0 - own, 1e-9)[:, None]
        error = float(np.square(residuals).sum())
        if best is None or error < best[0] * (1.0 - 1e-9):
            best = (error, residuals, vectors @ shrunk)
    if best is None:
        raise ValueError("no strength of the ridge was tried")
    error, residuals, slopes = best
    return error, Fit(targets - residuals, lambda some: (columns(some) - centre) @ slopes + mean)


def one_hot(labels: Int[np.ndarray, "n"], levels: Int[np.ndarray, "k"]) -> Float[np.ndarray, "n k"]:
    """1 where a label is that level."""
    return (labels[:, None] == levels[None, :]).astype(np.float64)


def probabilities(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n k"]:
    """Scores as probabilities: a softmax whose temperature is the one under which the labels (indices of columns) are
    likeliest.
    """
    tried = 10.0 ** np.linspace(-0.5, 2.0, 26)
    best = min(tried, key=lambda slope: -_log_softmax(slope * scores)[np.arange(len(labels)), labels].mean())
    return np.exp(_log_softmax(best * scores))


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def skill(labels: Int[np.ndarray, "n"], predicted: Int[np.ndarray, "n"]) -> float:
    """How far predictions are ahead of always naming the commonest label: 1 is perfect, 0 no better than that."""
    _, counts = np.unique(labels, return_counts=True)
    known = counts.max() / len(labels)
    return float((np.mean(labels == predicted) - known) / (1.0 - known)) if known < 1.0 else 0.0


def explained(values: Float[np.ndarray, "n columns"], predicted: Float[np.ndarray, "n columns"]) -> float:
    """Share of the variance that predictions explain, all columns on one scale: 1 is perfect, 0 no better than the
    mean.
    """
    spread = values.var(axis=0)
    used = spread > 0
    if not used.any():
        return 0.0
    error = np.square(values - predicted).mean(axis=0)[used] / spread[used]
    return float(1.0 - error.mean())


def held_out_skill(features: Float[np.ndarray, "n d"], values: np.ndarray, *, classes: bool) -> float:
    """How well each example is predicted from the others among them: `skill` of labels `[n]`, else what is
    `explained`.
    """
    if not classes:
        return explained(values, fit(features, values).held_out)
    levels = np.unique(values)
    return skill(values, levels[fit(features, one_hot(values, levels)).held_out.argmax(axis=1)])
