"""Split shift: the test data are scaled, arranged and labelled as the training data are."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.split_shift.axis_order import best_arrangement
from jaxrecipe.checks.data.split_shift.label_maps import Relation, relation
from jaxrecipe.probes.copies import is_integer, is_picture
from jaxrecipe.probes.pairs import span
from jaxrecipe.probes.samples import Head, Sample, heads, sample
from jaxrecipe.probes.simple_predictor import features_of, fit
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Images, Matrix, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="split_shift", stage="data")


def split_shift(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    times: float = 2.5,
    moved: float = 1.0,
    standard_errors: float = 5.0,
    arranged: float = 8.0,
    told_apart: float = 0.75,
    most: int = 2000,
) -> Result:
    """The test data look like the training data: same scale, same order of axes, channels and columns, same meaning of the labels.

    What it does: compares samples of both splits as they enter the model. Scale: the standard deviation and mean of every number.
    Arrangement: whether the test split looks much more like the training split when it is mirrored, turned, or its channels or columns
    are permuted. Labels: a simple predictor (ridge regression on the inputs and on Gaussian bumps) that is fitted on the training split
    names the test examples; if another one-to-one map of labels than the identity agrees much better with what the test split says, that is the
    map. Values: slope and offset between predictions and targets. Last, the predictor tries to tell the splits apart.

    Why it matters: a test set that is prepared or labelled in another way than the training set makes a good model look bad, and it is the model
    that gets changed. Training never shows it.

    What to do: use one code path for both splits. A mild shift is natural where the splits are of different times or places.

    Args:
        setup: the set-up.
        key: unused; the samples follow the set-up's seed.
        times: FAIL when the spread of the typical number differs by more than this factor, by its standard deviation and by its mean
            absolute deviation alike. Sampling and the seasons do not do that to most numbers at once, units do.
        moved: FAIL when the typical number is moved by more than this many standard deviations.
        standard_errors: whatever is called a FAIL is this many standard errors away from chance.
        arranged: FAIL when the moments of the splits differ by more than this mean square of standard errors (1 is expected), and
            four times less in another arrangement.
        told_apart: WARN when a training and a test example can be told apart with more than this probability.
        most: examples of each split that are looked at: enough for a shift of a twentieth of a standard deviation.

    Source: Rabanser, Günnemann and Lipton, Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift (2019); Lipton, Wang and
        Smola, Detecting and Correcting for Label Shift with Black Box Predictors (2018).
    """
    del key
    if setup.test is None:
        return _result(status=Status.SKIP, finding="There are no test data; give Task(test=...) to compare the splits.")
    if min(setup.train.size, setup.test.size) < FEWEST:
        return _result(
            status=Status.SKIP,
            finding=f"One of the splits has fewer than {FEWEST} examples, too few to compare distributions.",
        )
    train, test = sample(setup, "train", most), sample(setup, "test", most)
    pairs = list(zip(heads(setup, train), heads(setup, test), strict=False))
    findings: list[Finding] = []
    scales = {
        path: _scale(train.inputs[path], test.inputs[path])
        for path in train.inputs
        if not _categories(train.inputs[path])
    }
    for path, scale in scales.items():
        findings += _scale_findings(path, scale, times, moved, standard_errors)
    if not findings:  # in other units everything differs, whatever the arrangement
        findings += _arrangement_findings(train, test, None, arranged)
    findings += _token_findings(train, test)
    related = [relation(*pair) for pair in pairs if min(len(pair[0].values), len(pair[1].values)) >= FEWEST]
    apart, error = _told_apart(train, test)
    for one in related:
        findings += _relation_findings(one, standard_errors, shifted=bool(findings), apart=apart - 3 * error)
    if any(finding.hint in (WORSE, UNRELATED) for finding in findings):
        findings += _arrangement_findings(train, test, _targets_of(pairs, train, test), arranged)
    if apart - 3 * error > told_apart - 0.1 and apart > told_apart:
        findings.append(
            Finding(
                Status.WARN,
                f"A simple predictor tells training from test examples with probability {apart:.2f}.",
                APART,
            )
        )
    measured: dict[str, Any] = {"probability of telling the splits apart": apart}
    expected: dict[str, Any] = {"probability of telling the splits apart": f"about 0.5, up to {told_apart:g}"}
    for path, scale in scales.items():
        measured[f"{path}: spread, test / train"], expected[f"{path}: spread, test / train"] = (
            scale.ratio,
            f"{1 / times:.2g} to {times:.2g}",
        )
        measured[f"{path}: shift in standard deviations"], expected[f"{path}: shift in standard deviations"] = (
            scale.shift,
            f"up to {moved:g}",
        )
    for one in related:
        name = f"{one.name}: " if one.name else ""
        measured[f"{name}skill on held-out training examples"] = one.skill
        measured[f"{name}skill on test examples"] = one.test_skill
        expected[f"{name}skill on test examples"] = "as on held-out training examples"
    passed = f"Training and test examples are told apart with probability {apart:.2f} (0.5 or less is chance)"
    passed += (
        f"; a predictor fitted on the first has skill {related[0].test_skill:.2f} on the second ({related[0].skill:.2f} held out)."
        if related
        else "."
    )
    evidence = [*_numbers(scales), *_confusions(related), *_pictures(train, test)]
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=evidence)


FEWEST = 20
SHOWN = 8
SCALED = "One split is scaled and the other is not, or scaled twice: apply the same function with the same numbers (those of the training split) to both."
MOVED = "One split is centred and the other is not: subtract the mean of the training split from both."
ONE_FEATURE = "Is it in other units in one split, or a number that drifts with time?"
ARRANGED = "Axes, channels or columns are swapped between the splits (RGB against BGR, height against width, another order of columns): read both splits by the same code."
MAPPED = "The label map of one split is shifted or permuted against the other: number the classes once (the sorted names, say) and use that map for both splits."
VALUES = "The targets of one split are scaled or centred and those of the other are not: use one function with the training split's numbers for both."
SIGN = "The targets of one split have the opposite sign: use one function for both splits."
UNRELATED = (
    "The inputs look alike and each split makes sense by itself, but not the one by the other: labels in another coding, columns in another order, "
    "or other targets in one split."
)
WORSE = "What holds in the training split does not hold in the test split: other conditions (persons, times, places), a label map or columns that differ, or labels shuffled in one of them."
APART = "Natural for splits by time, place or person; otherwise one of them is filtered, scaled, compressed or made in another way."
TOKENS = "The targets of one split are shifted against those of the other: make inputs and targets of both splits by the same slices, rows[:, :-1] and rows[:, 1:]."


Targets = tuple[np.ndarray, np.ndarray] | None


class Scale(NamedTuple):
    """How one input of the test split compares with that of the training split, over its numbers that vary.

    Attributes:
        ratio: median of the ratios of their spreads, by standard or mean absolute deviation, whichever is nearer to 1.
        shift: median of the shifts of their means in standard deviations, without sign.
        ratio_errors, shift_errors: the same in standard errors.
        numbers: how many numbers vary.
        means, spreads: over all numbers, `(train, test)`.
    """

    ratio: float
    shift: float
    ratio_errors: float
    shift_errors: float
    numbers: int
    means: tuple[float, float]
    spreads: tuple[float, float]


def _categories(leaf: np.ndarray) -> bool:
    """Whether a leaf holds tokens or categories, which have no scale."""
    return is_integer(leaf) and not is_picture(leaf) and leaf.dtype != np.uint8


def _scale(train: np.ndarray, test: np.ndarray) -> Scale:
    """Spread and mean of every number that varies in either split, at most 512 numbers, evenly spread."""
    ours, theirs = (
        np.nan_to_num(leaf.reshape(len(leaf), -1).astype(np.float64), posinf=0.0, neginf=0.0) for leaf in (train, test)
    )
    columns = np.linspace(0, ours.shape[1] - 1, min(ours.shape[1], 512)).astype(int)
    ours, theirs = ours[:, columns], theirs[:, columns]
    lively = [(rows != np.median(rows, axis=0)).sum(axis=0) >= max(10, 0.05 * len(rows)) for rows in (ours, theirs)]
    ours, theirs = (rows[:, lively[0] & lively[1]] for rows in (ours, theirs))
    whole = (float(ours.mean()), float(theirs.mean())) if ours.size else (0.0, 0.0)
    if not ours.shape[1]:
        return Scale(1.0, 0.0, 0.0, 0.0, 0, whole, (0.0, 0.0))
    means, spreads = (tuple(measure(rows, axis=0) for rows in (ours, theirs)) for measure in (np.mean, np.std))
    standard, absolute = np.log(spreads[1] / spreads[0]), np.log(_deviation(theirs) / _deviation(ours))
    logs = np.where(
        np.sign(standard) == np.sign(absolute), np.sign(standard) * np.minimum(np.abs(standard), np.abs(absolute)), 0.0
    )
    tails = [
        np.mean(((rows - m) / s) ** 4, axis=0) - 1.0 for rows, m, s in zip((ours, theirs), means, spreads, strict=True)
    ]
    log_error = np.sqrt(tails[0] / (4 * len(ours)) + tails[1] / (4 * len(theirs)))
    pooled = np.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2.0)
    shift = np.abs(means[1] - means[0]) / pooled
    shift_error = np.sqrt(spreads[0] ** 2 / len(ours) + spreads[1] ** 2 / len(theirs)) / pooled
    return Scale(
        ratio=float(np.exp(np.median(logs))),
        shift=float(np.median(shift)),
        ratio_errors=float(abs(np.median(logs)) / np.median(log_error)),
        shift_errors=float(np.median(shift) / np.median(shift_error)),
        numbers=ours.shape[1],
        means=whole,
        spreads=(float(np.sqrt(np.mean(spreads[0] ** 2))), float(np.sqrt(np.mean(spreads[1] ** 2)))),
    )


def _deviation(rows: np.ndarray) -> np.ndarray:
    """Mean absolute deviation from the mean of each column."""
    return np.abs(rows - rows.mean(axis=0)).mean(axis=0)


def _scale_findings(path: str, scale: Scale, times: float, moved: float, errors: float) -> Iterator[Finding]:
    """Other units in one split. One or two numbers may drift, but not by a factor of ten."""
    means, spreads = scale.means, scale.spreads
    told = f"({path}: mean {means[0]:.3g} and spread {spreads[0]:.3g} in train, {means[1]:.3g} and {spreads[1]:.3g} in test)"
    factor = max(scale.ratio, 1.0 / scale.ratio)
    if factor > times and scale.ratio_errors > errors:
        sure = scale.numbers > 2 or factor > 10.0
        size = f"{scale.ratio:.3g} times" if scale.ratio > 1 else f"1/{1 / scale.ratio:.3g} of"
        text = f"The spread of the test inputs is {size} that of the training inputs {told}."
        yield Finding(Status.FAIL if sure else Status.WARN, text, SCALED if sure else ONE_FEATURE)
    elif scale.shift > moved and scale.shift_errors > errors:
        sure = scale.numbers > 2 or scale.shift > 10.0
        text = f"The test inputs are moved by {scale.shift:.3g} standard deviations against the training inputs {told}."
        yield Finding(Status.FAIL if sure else Status.WARN, text, MOVED if sure else ONE_FEATURE)


def _arrangement_findings(train: Sample, test: Sample, targets: Targets, limit: float) -> Iterator[Finding]:
    """Another arrangement of the test split that looks like the training split."""
    for path, leaf in train.inputs.items():
        if _categories(leaf) or leaf.ndim < 2:
            continue
        found = best_arrangement(leaf, test.inputs[path], targets)
        if found is None or found.as_is < limit or found.best > found.as_is / 4.0:
            continue
        text = f"{path}: the test split looks like the training split {found.words} (moments {found.best:.3g} instead of {found.as_is:.3g} apart, 1 is chance)."
        yield Finding(Status.FAIL if found.simple else Status.WARN, text, ARRANGED)


def _targets_of(pairs: list[tuple[Head, Head]], train: Sample, test: Sample) -> Targets:
    """The targets of whole examples as numbers: values, or one column for each of the first labels."""
    for ours, theirs in pairs:
        if len(ours.values) == len(train.indices) and len(theirs.values) == len(test.indices):
            if not ours.classes:
                return ours.values, theirs.values
            levels = np.unique(ours.values)[:16]
            return (ours.values[:, None] == levels) * 1.0, (theirs.values[:, None] == levels) * 1.0
    return None


def _relation_findings(one: Relation, errors: float, *, shifted: bool, apart: float) -> Iterator[Finding]:
    """Labels or values that mean something else in one of the splits."""
    where = f"{one.name}: " if one.name else ""
    if one.map and one.errors > errors:
        listed = ", ".join(f"{a}→{b}" for a, b in list(one.map.items())[:6]) + (", ..." if len(one.map) > 6 else "")
        named = f" (shifted by {one.shift})" if one.shift else ""
        text = f"{where}the same examples have other labels in the two splits (training→test): {listed}{named}."
        yield Finding(Status.WARN if shifted else Status.FAIL, text, MAPPED)
        return
    values = one.levels is None
    strong = values and one.skill > 0.3 and abs(one.errors) > 2 * errors
    if strong and one.errors < 0:
        text = (
            f"{where}predictions fitted on the training split go with the test targets at a slope of {one.slope:.3g}."
        )
        yield Finding(Status.FAIL, text, SIGN)
    elif strong and (not 0.4 < one.slope < 2.5 or abs(one.offset) > 10.0) and not shifted:
        text = f"{where}the test targets are {one.slope:.3g} times what the training split leads to expect, moved by {one.offset:.3g} standard deviations."
        yield Finding(Status.FAIL, text, VALUES)
    elif one.skill > 0.5 and one.test_skill < 0.2 * one.skill and not shifted:
        sure = one.own_skill > 0.5 and one.test_skill < 0.1 and apart < 0.6
        text = f"{where}a predictor fitted on the training split has skill {one.skill:.2f} on held-out training examples and {one.test_skill:.2f} on test examples."
        yield Finding(Status.FAIL if sure else Status.WARN, text, UNRELATED if sure else WORSE)


def _token_findings(train: Sample, test: Sample) -> Iterator[Finding]:
    """Targets that are the inputs moved by another number of places in one split than in the other."""
    for path, leaf in train.inputs.items():
        targets = [one.targets for one in (train, test)]
        if not all(
            getattr(target, "shape", ()) == one.inputs[path].shape
            for target, one in zip(targets, (train, test), strict=True)
        ):
            continue
        if leaf.ndim != 2 or not is_integer(leaf) or leaf.shape[1] < 4:
            continue
        moves = [_moved(one.inputs[path], np.asarray(one.targets)) for one in (train, test)]
        if all(share > 0.95 for _, share in moves) and moves[0][0] != moves[1][0]:
            text = f"The training targets are the inputs moved by {moves[0][0]}, the test targets by {moves[1][0]}."
            yield Finding(Status.FAIL, text, TOKENS)


def _moved(inputs: np.ndarray, targets: np.ndarray) -> tuple[int, float]:
    """By how many places (-2 to 2) targets are the inputs moved to the left, and how much of them agrees."""
    shares = {}
    for move in (1, 0, -1, 2, -2):
        left, right = (inputs[:, max(move, 0) :], targets[:, max(-move, 0) :])
        width = inputs.shape[1] - abs(move)
        shares[move] = float((left[:, :width] == right[:, :width]).mean())
    best = max(shares, key=lambda move: shares[move])
    return best, shares[best]


def _told_apart(train: Sample, test: Sample) -> tuple[float, float]:
    """Probability that a predictor ranks a test example above a training one (leave-one-out), and its standard error by chance."""
    from scipy.stats import rankdata

    both = {path: np.concatenate([leaf, test.inputs[path].astype(leaf.dtype)]) for path, leaf in train.inputs.items()}
    split = np.repeat([0.0, 1.0], [len(train.indices), len(test.indices)])
    features = features_of(both).of(both)
    if not features.shape[1]:
        return 0.5, 1.0
    scores = fit(features, split[:, None]).held_out[:, 0]
    ranks = rankdata(np.round(scores, 9))
    n, m = len(train.indices), len(test.indices)
    area = (ranks[split == 1].sum() - m * (m + 1) / 2) / (n * m)
    return float(area), float(np.sqrt((n + m + 1) / (12.0 * n * m)))


def _numbers(scales: dict[str, Scale]) -> list[Evidence]:
    """A table of means and spreads."""
    rows = [(path, *scale.means, *scale.spreads, scale.ratio, scale.shift) for path, scale in scales.items()]
    columns = ("input", "mean, train", "mean, test", "spread, train", "spread, test", "typical ratio", "typical shift")
    return [Table(title="Scale of the splits", columns=columns, rows=rows)] if rows else []


def _confusions(related: list[Relation]) -> list[Evidence]:
    """Given against predicted test labels of each head with not too many labels."""
    found: list[Evidence] = []
    for one in related:
        if one.confusion is not None and one.levels is not None and len(one.levels) <= 50:
            names = [str(level) for level in one.levels]
            title = f"{one.name}: test labels" if one.name else "Test labels"
            found.append(
                Matrix(
                    title=f"{title} by a predictor fitted on the training split",
                    values=one.confusion,
                    row_label="predicted",
                    column_label="given",
                    row_names=names,
                    column_names=names,
                )
            )
    return found


def _pictures(train: Sample, test: Sample) -> list[Evidence]:
    """The mean picture of each split and some examples of both."""
    for path, leaf in train.inputs.items():
        if is_picture(leaf) and leaf.shape[-1] != 2:
            other = test.inputs[path]
            means = [part.mean(axis=0, keepdims=True, dtype=np.float32) for part in (leaf, other)]
            shown = np.concatenate([*means, leaf[:SHOWN].astype(np.float32), other[:SHOWN].astype(np.float32)])
            captions = ["mean, train", "mean, test", *["train"] * len(leaf[:SHOWN]), *["test"] * len(other[:SHOWN])]
            low, high = span(shown)
            return [
                Images(
                    title=f"{path} of both splits, as the model gets it",
                    images=shown,
                    captions=captions,
                    low=low,
                    high=high,
                )
            ]
    return []
