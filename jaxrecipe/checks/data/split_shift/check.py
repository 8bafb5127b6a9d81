"""Split shift: the test data are scaled, ordered and labeled as the training data are."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.split_shift.axis_order import best_axis_order
from jaxrecipe.checks.data.split_shift.distinguishable import probability_of_telling_apart
from jaxrecipe.checks.data.split_shift.evidence import images_of_both, label_matrices, scale_table
from jaxrecipe.checks.data.split_shift.label_maps import Relation, relation
from jaxrecipe.checks.data.split_shift.relation_findings import (
    LEAST_SKILL,
    Context,
    relation_findings,
    relation_measures,
)
from jaxrecipe.checks.data.split_shift.scale import (
    Scale,
    ScaleLimits,
    compare_scales,
    rescaled,
    scale_findings,
    scale_measures,
)
from jaxrecipe.checks.data.split_shift.shifted_tokens import shifted_token_findings
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.multiple_tests import errors_of_each
from jaxrecipe.probes.questions import Question, questions
from jaxrecipe.probes.samples import Sample, sample
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.setup import Setup

FEWEST = 20
"""Fewer examples than this have no distribution to compare."""
BETTER = 4.0
"""Times nearer that another order of axes must bring the splits."""
MOST_LABELS = 16
"""Labels by which columns are told apart."""
SURE, SLACK = 3.0, 0.1
"""Standard errors from chance, and from how far below the bound, a probability of telling apart must lie."""

EXPLAINED = ("data/split-scaled-differently", "data/split-axes-swapped")
"""Findings by which the splits can be told apart anyhow."""

Pairs = Sequence[tuple[Question, Question]]
Targets = tuple[np.ndarray, np.ndarray] | None


def split_shift(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    scale_ratio: float = 2.5,
    mean_shift: float = 1.0,
    standard_errors: float = 5.0,
    moments_apart: float = 8.0,
    distinguishable: float = 0.75,
    most: int = 2000,
) -> Result:
    """The test data look like the training data: same scale, same order of axes, channels and columns, same labels.

    What it does: compares samples of both splits as they enter the model. Scale: the standard deviation and mean of
    every number, and whether a predictor fitted on the training split does better on rescaled test inputs. Order of
    axes: whether the test split looks much more like the training split when it is mirrored, turned, or its channels or
    columns are permuted. Labels: a simple predictor (ridge regression on the inputs and on Gaussian bumps) that is
    fitted on the training split names the test examples; if another one-to-one map of labels than the identity agrees
    much better with what the test split says, that is the map. Values: slope and offset between predictions and
    targets. Last, the predictor tries to tell the splits apart.

    Why it matters: a test set that is prepared or labeled in another way than the training set makes a good model look
    bad, and it is the model that gets changed. Training never shows it.

    What to do: use one code path for both splits. A mild shift is natural where the splits are of different times or
    places.

    Args:
        setup: the set-up.
        key: unused; the samples follow the set-up's seed.
        scale_ratio: a finding when the spread of the typical number differs by more than this factor, by its standard
            deviation and by its mean absolute deviation alike, or the slope of the targets does. Sampling and the
            seasons do not do that to most numbers at once, units do. FAIL only where rescaling repairs it, else WARN.
        mean_shift: likewise when the typical number is moved by more than this many standard deviations.
        standard_errors: a finding of scale or labels is this many standard errors away from chance, all inputs and
            heads taken together (Bonferroni).
        moments_apart: FAIL when the moments of the splits differ by more than this mean square of standard errors (1 is
            expected), and four times less in another order of axes, channels or columns.
        distinguishable: WARN when a training and a test example can be told apart with more than this probability.
        most: examples of each split that are looked at: enough for a shift of a twentieth of a standard deviation.

    Source: Rabanser, Günnemann and Lipton, Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift
        (2019); Lipton, Wang and Smola, Detecting and Correcting for Label Shift with Black Box Predictors (2018).
    """
    del key
    if setup.test is None:
        return skipped("There are no test data to compare with. Give Task(test=(inputs, targets)).")
    if min(setup.train.size, setup.test.size) < FEWEST:
        return skipped(f"One of the splits has fewer than {FEWEST} examples, too few to compare distributions.")
    train, test = sample(setup, "train", most), sample(setup, "test", most)
    pairs = list(zip(questions(setup, train), questions(setup, test), strict=False))
    scales = {path: compare_scales(x, test.inputs[path]) for path, x in train.with_scale().items()}
    related = [relation(*pair) for pair in pairs if min(len(head.values) for head in pair) >= FEWEST]
    each = errors_of_each(standard_errors, 2 * len(scales) + len(related))
    limits = ScaleLimits(scale_ratio, mean_shift, each)
    measures = {path: scale_measures(path, scale, limits) for path, scale in scales.items()}
    findings = _scale_findings(setup, train, test, scales, measures, related)
    if not findings:  # in other units everything differs, whatever the order
        findings += _axis_findings(train, test, None, moments_apart)
    findings += shifted_token_findings(setup, train, test)
    apart, error = probability_of_telling_apart(train, test)
    context = Context(each, scale_ratio, bool(findings), apart - SURE * error)
    unlike = [finding for one in related for finding in relation_findings(one, context)]
    if any(finding.code in ("data/split-shift", "data/splits-disagree") for finding in unlike):
        findings += _axis_findings(train, test, _targets_as_numbers(pairs, train, test), moments_apart)
    telling = _telling_apart(apart, error, distinguishable)
    findings += unlike
    if not any(finding.code in EXPLAINED for finding in findings):
        findings += _telling_apart_findings(telling)
    return Result(
        summary=_summary(apart, related),
        findings=tuple(findings),
        measures=(
            telling,
            *(measure for pair in measures.values() for measure in pair),
            *(measure for one in related for measure in relation_measures(one, context)),
        ),
        evidence=(*scale_table(scales), *label_matrices(related), *images_of_both(train, test)),
    )


def _summary(apart: float, related: list[Relation]) -> str:
    """What was measured, in a sentence."""
    words = f"Training and test examples can be told apart with probability {apart:.2f} (0.5 is chance)"
    if not related:
        return f"{words}."
    first = related[0]
    return (
        f"{words}; a predictor has skill {first.skill:.2f} on held-out training and {first.test_skill:.2f} on "
        "test examples."
    )


def _scale_findings(
    setup: Setup,
    train: Sample,
    test: Sample,
    scales: dict[str, Scale],
    measures: dict[str, tuple[Measure, Measure]],
    related: list[Relation],
) -> list[Finding]:
    """Inputs of another scale, and what rescaling them gains for any head that can be predicted at all."""

    @cache
    def gain() -> float | None:
        return _skill_gained(setup, train, rescaled(train, test), related)

    return [f for path, scale in scales.items() for f in scale_findings(path, scale, measures[path], gain)]


def _skill_gained(setup: Setup, train: Sample, repaired: Sample, related: list[Relation]) -> float | None:
    """Skill on test examples that the repaired sample gains, at best; None where no head has any skill."""
    before = {one.name: one for one in related if one.skill > LEAST_SKILL}
    pairs = zip(questions(setup, train), questions(setup, repaired), strict=False)
    gains = [relation(*pair).test_skill - before[pair[0].name].test_skill for pair in pairs if pair[0].name in before]
    return max(gains, default=None)


def _axis_findings(train: Sample, test: Sample, targets: Targets, limit: float) -> Iterator[Finding]:
    """Another order of axes, channels or columns in which the test split looks like the training split."""
    for path, leaf in train.with_scale().items():
        if leaf.ndim < 2:
            continue
        found = best_axis_order(leaf, test.inputs[path], train.kinds[path], targets)
        if found is None or found.as_is < limit or found.best > found.as_is / BETTER:
            continue
        text = (
            f"{path}: The test split looks like the training split {found.words} (mean squared difference of their "
            f"statistics in standard errors {found.best:.3g}, as they are {found.as_is:.3g}; 1 is chance)."
        )
        measure = Measure(
            name=f"{path}: moments of the splits apart",
            value=found.as_is,
            high=limit,
            severity=Severity.FAIL if found.simple else Severity.WARN,
            thresholds={"high": "moments_apart"},
        )
        best = Measure(name=f"{path}: moments apart in the best order", value=found.best)
        make = failure if found.simple else warning
        yield make("data/split-axes-swapped", text, measures=(measure, best))


def _targets_as_numbers(pairs: Pairs, train: Sample, test: Sample) -> Targets:
    """The targets of whole examples as numbers: values, or one column for each of the first labels."""
    for ours, theirs in pairs:
        if len(ours.values) == len(train.indices) and len(theirs.values) == len(test.indices):
            if not ours.classes:
                return ours.values, theirs.values
            levels = np.unique(ours.values)[:MOST_LABELS]
            return (ours.values[:, None] == levels) * 1.0, (theirs.values[:, None] == levels) * 1.0
    return None


def _telling_apart(apart: float, error: float, limit: float) -> Measure:
    """The probability of telling the splits apart; with a code where it is no chance that it is so high."""
    return Measure(
        name="probability of telling the splits apart",
        value=apart,
        high=limit,
        severity=Severity.WARN,
        error=error,
        thresholds={"high": "distinguishable"},
        code="data/split-inputs-differ" if apart - SURE * error > limit - SLACK else "",
    )


def _telling_apart_findings(measure: Measure) -> Iterator[Finding]:
    """Splits whose inputs are not alike."""
    if measure.code and measure.verdict is not None:
        text = (
            f"A simple predictor tells training from test inputs with probability {measure.value:.2f} (0.5 is chance)."
        )
        yield warning(measure.code, text, measures=(measure,))
