"""Whether labels of two splits mean the same: what a predictor fitted on one says of the other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxrecipe.probes.questions import Question
from jaxrecipe.probes.simple_predictor import explained, features_of, fit, held_out_skill, one_hot, skill

WIDTHS = (0.4, 0.8)
"""Widths of the predictor's bumps that are tried, in median distances between examples."""
CLEARLY = 2.0
"""Times as many examples that a map must explain as leaving the label as it is, for the label to be mapped."""
FEWEST_AGREEING = 3
"""Test examples that must agree with a mapped label."""
MOST_LABELS = 200
"""Labels that are compared, the commonest ones: rarer ones have too few examples in a sample."""


@dataclass(frozen=True, eq=False)
class Relation:
    """A head of both splits as a predictor sees it that was fitted on the training examples.

    Attributes:
        name: the path of the head.
        skill: how well held-out training examples are predicted (1 perfect, 0 as without inputs).
        test_skill: how well the test examples are predicted.
        own_skill: how well test examples are predicted from other test examples; only measured where `test_skill` is
            poor.
        map: for labels, what the training labels are called in the test split, where that is not the same.
        errors: by how many standard errors the mapped labels agree better with the predictions than the labels as they
            are.
        shift: the number that labels are shifted by (around the end), 0 if it is no shift.
        slope, offset: for values, target = slope × prediction + offset × the training targets' standard deviation.
        confusion: how often each label `[training label predicted, test label]`, for the evidence.
        levels: the labels.
        unseen: share of the test examples whose label has no training example.
    """

    name: str
    skill: float
    test_skill: float
    own_skill: float
    map: dict[int, int]
    errors: float = 0.0
    shift: int = 0
    slope: float = 1.0
    offset: float = 0.0
    confusion: Float[np.ndarray, "k k"] | None = None
    levels: Int[np.ndarray, "k"] | None = None
    unseen: float = 0.0


def relation(train: Question, test: Question) -> Relation:
    """Fit on the training examples of a head, predict the test examples, and look for what maps one to the other."""
    if train.classes and len(np.unique(train.values)) > MOST_LABELS:
        labels, counts = np.unique(train.values, return_counts=True)
        commonest = labels[np.argsort(-counts, kind="stable")[:MOST_LABELS]]
        train, test = (one.of(np.isin(one.values, commonest)) for one in (train, test))
        if not len(train.values) or not len(test.values):
            return Relation(train.name, 0.0, 0.0, 0.0, {})
    features = features_of(train.inputs, train.kinds)
    ours, theirs = features.of(train.inputs), features.of(test.inputs)
    return _relate_labels(train, test, ours, theirs) if train.classes else _relate_values(train, test, ours, theirs)


def _relate_labels(train: Question, test: Question, ours: np.ndarray, theirs: np.ndarray) -> Relation:
    known = np.unique(train.values)
    levels = np.unique(np.concatenate([known, test.values]))
    fitted = fit(ours, one_hot(train.values, known), widths=WIDTHS)
    held_out, predicted = known[fitted.held_out.argmax(axis=1)], known[fitted.predict(theirs).argmax(axis=1)]
    ability, carried = skill(train.values, held_out), skill(test.values, predicted)
    mapped, errors = _best_map(levels, known, (held_out, train.values), (predicted, test.values))
    steps = {(levels.tolist().index(b) - levels.tolist().index(a)) % len(levels) for a, b in mapped.items()}
    whole = len(mapped) >= len(levels) - 1 and len(levels) > 2 and len(steps) == 1
    return Relation(
        name=train.name,
        skill=ability,
        test_skill=carried,
        own_skill=_skill_within(test, theirs, carried, ability),
        map=mapped,
        errors=errors,
        shift=steps.pop() if whole else 0,
        confusion=_confusion(levels, predicted, test.values),
        levels=levels,
        unseen=float((~np.isin(test.values, known)).mean()),
    )


def _best_map(
    levels: np.ndarray, known: np.ndarray, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> tuple[dict[int, int], float]:
    """The one-to-one map from training to test labels that agrees best with the predictions, and by how many standard
    errors.

    It is chosen on one half of the test examples and judged on the other, both ways round. Only labels that the
    training data have can be
    wrong: new ones are another question. A pair that the predictor confuses in the training data too is no map.
    """
    from scipy.optimize import linear_sum_assignment

    among = _confusion(levels, *train)
    halves = [_confusion(levels, *(part[side::2] for part in test)) for side in (0, 1)]
    gain = spread = 0.0
    for chosen, judged in (halves, halves[::-1]):
        _, order = linear_sum_assignment(-chosen)
        gained, counted = _gain(judged, among, order, np.isin(levels, known))
        gain, spread = gain + gained, spread + counted
    _, order = linear_sum_assignment(-(halves[0] + halves[1]))
    total, kept = halves[0] + halves[1], np.isin(levels, known)
    changed = {
        int(levels[a]): int(levels[b])
        for a, b in enumerate(order)
        if a != b
        and kept[a]
        and total[a, b] > CLEARLY * total[a, a]
        and total[a, b] >= FEWEST_AGREEING
        and among[a, a] > CLEARLY * among[a, b]
    }
    return changed, float(gain / np.sqrt(spread)) if spread > 0 else 0.0


def _gain(judged: np.ndarray, among: np.ndarray, order: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Hits that a map gains over leaving labels as they are, and hits of either, over what it changes."""
    gained = counted = 0.0
    for a, b in enumerate(order):
        if a != b and known[a] and known[b] and among[a, a] > CLEARLY * among[a, b]:
            gained += judged[a, b] - judged[a, a]
            counted += judged[a, b] + judged[a, a]
    return gained, counted


def _confusion(levels: np.ndarray, predicted: np.ndarray, given: np.ndarray) -> Float[np.ndarray, "k k"]:
    """How often each label is given where each is predicted, `[predicted, given]`."""
    counts = np.zeros((len(levels), len(levels)))
    np.add.at(counts, (np.searchsorted(levels, predicted), np.searchsorted(levels, given)), 1.0)
    return counts


def _relate_values(train: Question, test: Question, ours: np.ndarray, theirs: np.ndarray) -> Relation:
    fitted = fit(ours, train.values, widths=WIDTHS)
    predicted = fitted.predict(theirs)
    scale = train.values.std(axis=0) + 1e-12
    x, y = ((values - train.values.mean(axis=0)) / scale for values in (predicted, test.values))
    x, y = x.ravel(), y.ravel()
    spread = float(x.var())
    slope = float(np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread > 1e-12 else 0.0
    r = float(np.corrcoef(x, y)[0, 1]) if spread > 1e-12 and y.var() > 0 else 0.0
    ability, carried = explained(train.values, fitted.held_out), explained(test.values, predicted)
    return Relation(
        name=train.name,
        skill=ability,
        test_skill=carried,
        own_skill=_skill_within(test, theirs, carried, ability),
        map={},
        errors=float(r * np.sqrt(max(len(x) - 2, 1) / max(1.0 - r * r, 1e-9))),
        slope=slope,
        offset=float(y.mean() - slope * x.mean()),
    )


def _skill_within(test: Question, features: np.ndarray, carried: float, ability: float) -> float:
    """How well test examples are predicted from the others among them, where the training split says little of them."""
    return held_out_skill(features, test.values, classes=test.classes) if carried < 0.5 * ability else carried
