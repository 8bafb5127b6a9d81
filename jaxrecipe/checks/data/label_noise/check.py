"""Label noise: labels agree with what the other examples say of theirs."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe.checks.data.label_noise.confident_labels import confident_learning
from jaxrecipe.probes.copies import is_picture
from jaxrecipe.probes.pairs import span
from jaxrecipe.probes.samples import Head, Sample, heads, sample
from jaxrecipe.probes.simple_predictor import explained, features_of, fit, one_hot, probabilities, skill
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Histogram, Images, Matrix, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens

_result = partial(unsorted_result, name="label_noise", stage="data")


def label_noise(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    wrong: float = 0.05,
    skilled: float = 0.5,
    evenly: float = 0.6,
    standard_errors: float = 3.0,
    tails: float = 15.0,
    outlying: float = 0.01,
    most: int = 4000,
) -> Result:
    """Hardly any label contradicts what a simple predictor learns from the other examples.

    What it does: predicts each training label from the other examples (ridge regression on the inputs and on Gaussian bumps, leaving one out), and
    estimates the share of wrong labels by confident learning. A hard task looks like noise to a simple predictor, so it takes one of
    two signs for a warning. Either clean test labels are predicted clearly better than held-out training labels. Or the predictor is wrong nearly as often where
    it is surest as elsewhere: difficulty spares the easy examples, wrong labels do not. Labels of the training split that have nothing to do with
    their inputs, while those of the test split have, are a failure. For real targets it looks for residuals far outside the others.

    Why it matters: wrong labels set a floor to the loss that no model gets under, and to what a test can show; a large model learns them by heart.

    What to do: look at the suspects, surest first. If they are wrong, correct or drop them, and ask where they come from.

    Args:
        setup: the set-up.
        key: unused; the sample follows the set-up's seed.
        wrong: WARN when about this share of the labels is wrong, FAIL when beyond doubt (by `standard_errors`) that many more are wrong
            than in the test split; without clean test labels the task may be as uncertain as that. Published test sets have 3 %.
        skilled: how far ahead of the commonest label (1 is perfect) the predictor must be before its surest errors are believed.
        evenly: the surest third must be wrong at least this many times as often as all; it is 1 for labels drawn at random and near 0
            for a task that is merely hard in parts.
        standard_errors: how sure a difference must be.
        tails: residuals beyond this many standard deviations (by the median absolute deviation), and beyond one standard deviation of the
            targets, are outlying. A normal distribution has none, a log-normal one 0.4 %.
        outlying: WARN when more than this share of them is.
        most: examples that are looked at.

    Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (2021); Northcutt, Athalye and Mueller,
        Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks (2021).
    """
    del key
    train = sample(setup, "train", most)
    test = None if setup.test is None else sample(setup, "test", most)
    asked = _asked(setup, train, test)
    if not asked:
        finding = f"There is no target that a simple predictor can judge (labels or a few values, {FEWEST} examples or more; ten examples a label; tokens may follow any text)."
        return _result(status=Status.SKIP, finding=finding, hint="Declare what is predicted, as target=jr.Classes(10).")
    limits = {
        "wrong": wrong,
        "skilled": skilled,
        "evenly": evenly,
        "errors": standard_errors,
        "tails": tails,
        "outlying": outlying,
    }
    findings: list[Finding] = []
    measured: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    evidence: list[Evidence] = []
    for ours, theirs in asked:
        told = f"{ours.name}: " if ours.name else ""
        judged = _labels(ours, theirs, train, limits) if ours.classes else _values(ours, theirs, train, limits)
        findings += [finding._replace(text=told + finding.text) for finding in judged.findings]
        measured |= {told + name: value for name, value in judged.measured.items()}
        expected |= {told + name: value for name, value in judged.expected.items()}
        evidence += judged.evidence
    first = next(iter(measured.items()))
    passed = f"Labels agree with the other examples as far as a simple predictor can tell: {first[0]} {first[1]:.2f}."
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=evidence)


FEWEST = 50
SHOWN = 16
NOISY = "Label noise: look at the suspects in the report, surest first. If they are wrong, correct or drop them, and ask how they came about (a join, a default label, hasty annotators)."
UNRELATED = (
    "The training labels have nothing to do with their inputs, those of the test split have: inputs were shuffled, sorted or filtered without their labels, or "
    "the labels are random."
)
OUTLIERS = "Residual outliers: a few targets are far from what the other examples say. Look at them: a wrong unit, a missing value written as a number, a slip of the decimal point?"


class _Judged(NamedTuple):
    """What was found for one head."""

    findings: list[Finding]
    measured: dict[str, Any]
    expected: dict[str, Any]
    evidence: list[Evidence]


def _asked(setup: Setup, train: Sample, test: Sample | None) -> list[tuple[Head, Head | None]]:
    """The heads that can be judged, each with the same of the test split."""
    ours = heads(setup, train)
    theirs: list[Head | None] = [None] * len(ours)
    if test is not None and len(found := heads(setup, test)) == len(ours):
        theirs = [head if len(head.values) >= FEWEST else None for head in found]
    return [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if not isinstance(a.target, Tokens)
        and len(a.values) >= FEWEST
        and 1 < len(np.unique(a.values)) <= (len(a.values) / 10 if a.classes else np.inf)
    ]


def _labels(train: Head, test: Head | None, drawn: Sample, limits: dict[str, float]) -> _Judged:
    """Confident learning, and the two signs by which noise differs from difficulty."""
    levels, given = np.unique(train.values, return_inverse=True)
    given = given.reshape(-1)
    features = features_of(train.inputs)
    fitted = fit(features.of(train.inputs), one_hot(train.values, levels), widths=(0.4, 0.8))
    probability = probabilities(fitted.held_out, given)
    learnt = confident_learning(given, probability)
    missed = fitted.held_out.argmax(axis=1) != given
    surest = np.argsort(-probability.max(axis=1), kind="stable")[: max(FEWEST, len(given) // 3)]
    everywhere, there = float(missed.mean()), float(missed[surest].mean())
    able = skill(given, fitted.held_out.argmax(axis=1))
    measured = {
        "skill of a simple predictor": able,
        "error on held-out training labels": everywhere,
        "error where it is surest": there,
        "wrong labels by confident learning": learnt.share,
    }
    expected = {
        "error where it is surest": f"up to {limits['wrong']:g}, or less than {limits['evenly']:g} of the error everywhere",
        "wrong labels by confident learning": "an upper bound where the task is hard",
    }
    carried = None
    if test is not None:
        carried = np.asarray(levels[fitted.predict(features.of(test.inputs)).argmax(axis=1)] != test.values)
        measured["error on test labels"] = float(carried.mean())
        expected["error on test labels"] = "as on held-out training labels"
    findings = list(_noise(missed, missed[surest], carried, able, learnt.share, limits))
    if (
        test is not None
        and not findings
        and able < 0.1
        and _own_skill(test) > 0.5
        and _chance_only(missed, given, limits["errors"])
    ):
        text = f"The training labels cannot be predicted from the other training examples (skill {able:.2f}), the test labels can be from test examples."
        findings.append(Finding(Status.FAIL, text, UNRELATED))
    names = [str(level) for level in levels]
    evidence: list[Evidence] = list(
        _suspects(train, drawn, levels[given], levels, learnt.suspects, learnt.true, probability, given)
    )
    if len(levels) <= 50:
        title = "Given and likely true labels, by confident learning (off the diagonal: wrong)"
        evidence.append(
            Matrix(
                title=title,
                values=learnt.joint,
                row_label="given",
                column_label="likely true",
                row_names=names,
                column_names=names,
            )
        )
    return _Judged(findings, measured, expected, evidence)


def _noise(
    missed: np.ndarray,
    surest: np.ndarray,
    carried: np.ndarray | None,
    able: float,
    share: float,
    limits: dict[str, float],
) -> Iterator[Finding]:
    """Clean test labels that are predicted better, or errors that do not spare the easy examples."""
    errors = limits["errors"]
    lowest = surest.mean() - errors * np.sqrt(surest.mean() * (1 - surest.mean()) / len(surest))
    if carried is not None and able > 0.1:
        apart = np.sqrt(missed.var() / len(missed) + carried.var() / len(carried))
        gap = missed.mean() - carried.mean()
        if gap - errors * apart > 0 and gap > limits["wrong"]:
            text = (
                f"About {gap:.1%} of the training labels are wrong: a simple predictor errs in {missed.mean():.1%} of held-out training examples "
                f"and in {carried.mean():.1%} of the test examples."
            )
            certain = gap - errors * apart > limits["wrong"]
            yield Finding(Status.FAIL if certain else Status.WARN, text, NOISY)
            return
    if able > limits["skilled"] and lowest > limits["wrong"] and surest.mean() > limits["evenly"] * missed.mean():
        text = (
            f"About {surest.mean():.1%} of the training labels are wrong ({share:.1%} by confident learning): that is how often a simple predictor errs "
            f"where it is surest; everywhere it is {missed.mean():.1%}."
        )
        yield Finding(Status.WARN, text, NOISY)


def _chance_only(missed: np.ndarray, given: np.ndarray, errors: float) -> bool:
    """Whether the labels are hit no more often than by naming the commonest one."""
    commonest = np.bincount(given).max() / len(given)
    return bool((1 - missed.mean()) - commonest < errors * np.sqrt(commonest * (1 - commonest) / len(given)))


def _own_skill(test: Head) -> float:
    """How well test examples are predicted from the others among them."""
    features = features_of(test.inputs).of(test.inputs)
    if not test.classes:
        return explained(test.values, fit(features, test.values).held_out)
    levels = np.unique(test.values)
    return skill(test.values, levels[fit(features, one_hot(test.values, levels)).held_out.argmax(axis=1)])


def _values(train: Head, test: Head | None, drawn: Sample, limits: dict[str, float]) -> _Judged:
    """Residuals far outside the others, and test targets that are predicted better."""
    features = features_of(train.inputs)
    targets = _cut(train.values, train.values)
    fitted = fit(features.of(train.inputs), targets, widths=(0.4, 0.8))
    scale = train.values.std(axis=0) + 1e-30
    size = np.abs((train.values - fitted.held_out) / scale).max(axis=1)
    typical = 1.4826 * max(float(np.median(size)), 1e-12)
    far = size > max(limits["tails"] * typical, 1.0)
    able = explained(targets, fitted.held_out)
    measured: dict[str, Any] = {
        "variance explained by a simple predictor": able,
        "share of outlying residuals": float(far.mean()),
    }
    expected: dict[str, Any] = {"share of outlying residuals": f"up to {limits['outlying']:g}"}
    findings = []
    if far.mean() > limits["outlying"] and far.sum() >= 5 and able > 0.1 and _far_in_logarithms(train, far):
        text = f"{far.sum()} of {len(far)} training targets looked at are more than {limits['tails']:g} standard deviations from what the other examples say."
        findings.append(Finding(Status.WARN, text, OUTLIERS))
    if test is not None and not findings:
        predicted, wanted = fitted.predict(features.of(test.inputs)), _cut(test.values, train.values)
        spread = targets.std(axis=0) + 1e-30
        carried = np.square((wanted - predicted) / spread).mean(axis=1)
        own = np.square((targets - fitted.held_out) / spread).mean(axis=1)
        measured["variance explained on test targets"] = explained(wanted, predicted)
        expected["variance explained on test targets"] = "as on held-out training targets"
        apart = np.sqrt(own.var() / len(own) + carried.var() / len(carried))
        gap = float(own.mean() - carried.mean())
        if gap > limits["errors"] * apart and gap > limits["wrong"] and able > 0.1:
            text = f"The training targets are noisier than the test targets: a simple predictor leaves {own.mean():.2f} of their variance, and {carried.mean():.2f} on the test data."
            findings.append(Finding(Status.WARN, text, NOISY))
        if able < 0.05 and _own_skill(test) > 0.5:
            text = f"The training targets cannot be predicted from the other training examples ({able:.2f} of the variance), the test targets can be from test examples."
            findings.append(Finding(Status.FAIL, text, UNRELATED))
    order = np.argsort(-size, kind="stable")
    return _Judged(
        findings,
        measured,
        expected,
        [*_residuals(size / typical), *_farthest(train, drawn, order, fitted.held_out, size / typical)],
    )


def _far_in_logarithms(train: Head, far: np.ndarray) -> bool:
    """Whether most of these targets are outlying too where noise that grows with the target does not count: after an inverse hyperbolic sine."""
    middle = np.median(train.values, axis=0)
    spread = np.median(np.abs(train.values - middle), axis=0)
    bent = np.arcsinh((train.values - middle) / np.where(spread > 0, spread, 1.0))
    residuals = np.abs(bent - fit(features_of(train.inputs).of(train.inputs), bent).held_out).max(axis=1)
    return bool(np.mean(residuals[far] > 6.0 * 1.4826 * np.median(residuals)) > 0.5)


def _cut(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Values cut where they are far outside of what is usual, so that a few do not rule the fit."""
    middle = np.median(by, axis=0)
    spread = 1.4826 * np.median(np.abs(by - middle), axis=0)
    spread = np.where(spread > 0, spread, by.std(axis=0))
    return np.clip(values, middle - 6.0 * spread, middle + 6.0 * spread)


def _residuals(size: Float[np.ndarray, "n"]) -> list[Evidence]:
    counts, edges = np.histogram(size, bins=40)
    title = "Residuals of a simple predictor, each held out"
    return [
        Histogram(
            title=title, edges=edges, counts={"training targets": counts}, x_label="in typical residuals", log_y=True
        )
    ]


def _farthest(train: Head, drawn: Sample, order: np.ndarray, predicted: np.ndarray, size: np.ndarray) -> list[Evidence]:
    """The targets that are farthest from their predictions."""
    rows = [
        (int(drawn.indices[train.example[i]]), float(train.values[i, 0]), float(predicted[i, 0]), float(size[i]))
        for i in order[:SHOWN]
    ]
    columns = ("example", "target", "predicted", "in typical residuals")
    return [Table(title="Training targets farthest from what the other examples say", columns=columns, rows=rows)]


def _suspects(
    train: Head,
    drawn: Sample,
    labels: np.ndarray,
    levels: np.ndarray,
    suspects: np.ndarray,
    true: np.ndarray,
    probability: np.ndarray,
    given: np.ndarray,
) -> Iterator[Evidence]:
    """The labels that are most likely wrong, surest first, with their pictures."""
    shown = suspects[:SHOWN]
    if not len(shown):
        return
    rows = [
        (
            int(drawn.indices[train.example[i]]),
            int(labels[i]),
            int(levels[k]),
            float(probability[i, given[i]]),
            float(probability[i, k]),
        )
        for i, k in zip(shown, true[:SHOWN], strict=True)
    ]
    columns = ("example", "given", "likely", "probability of given", "of likely")
    yield Table(title="Training labels that are most likely wrong", columns=columns, rows=rows)
    for leaf in train.inputs.values():
        if is_picture(leaf) and leaf.shape[-1] != 2:
            pictures = leaf[shown].astype(np.float32)
            low, high = span(pictures)
            captions = [f"{example}: given {label}, likely {other}" for example, label, other, *_ in rows]
            yield Images(
                title="Training labels that are most likely wrong, pictures",
                images=pictures,
                captions=captions,
                low=low,
                high=high,
            )
            return
