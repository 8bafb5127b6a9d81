"""Label noise: labels agree with what the other examples say of theirs."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.label_noise.judged import FEWEST, LEAST_SKILL, Limits
from jaxrecipe.checks.data.label_noise.noisy_labels import judge_labels
from jaxrecipe.checks.data.label_noise.noisy_values import judge_values
from jaxrecipe.probes.multiple_tests import errors_of_each
from jaxrecipe.probes.questions import Question, questions
from jaxrecipe.probes.samples import Sample, sample
from jaxrecipe.report.result import Result, Status, skipped
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens

EXAMPLES_A_LABEL = 10
"""Fewer examples of a label than this, in the mean, say nothing of it."""


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

    What it does: predicts each training label from the other examples (ridge regression on the inputs and on Gaussian
    bumps, leaving one out), and estimates the share of wrong labels by confident learning. A hard task looks like noise
    to a simple predictor, so it takes one of two signs for a warning. Either clean test labels are predicted clearly
    better than held-out training labels. Or the predictor is wrong nearly as often where it is surest as elsewhere:
    difficulty spares the easy examples, wrong labels do not. Both signs together are a failure, and so are labels of
    the training split that have nothing to do with their inputs, while those of the test split have. For real targets
    it looks for residuals far outside the others.

    Why it matters: wrong labels set a floor to the loss that no model gets under, and a ceiling to what a test can
    show; a large model memorizes them.

    What to do: look at the suspects, surest first. If they are wrong, correct or drop them, and ask where they come
    from.

    Args:
        setup: the set-up.
        key: unused; the sample follows the set-up's seed.
        wrong: WARN when about this share of the labels is wrong, FAIL when beyond doubt (by `standard_errors`) that
            many more are wrong than in the test split and the errors do not spare the easy examples (by `evenly`);
            without clean test labels the task may be as uncertain as that. Published test sets have 3 %.
        skilled: how far ahead of the commonest label (1 is perfect) the predictor must be before its surest errors are
            believed.
        evenly: the surest third must be wrong at least this many times as often as all; it is 1 for labels drawn at
            random and near 0 for a task that is merely hard in parts.
        standard_errors: how sure a difference must be; where there are several heads, so sure for all of them together
            (Bonferroni).
        tails: residuals beyond this many standard deviations (by the median absolute deviation), and beyond one
            standard deviation of the targets, are outlying. A normal distribution has none, a log-normal one 0.4 %.
        outlying: WARN when more than this share of them is.
        most: examples that are looked at.

    Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (2021); Northcutt,
        Athalye and Mueller, Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks (2021).
    """
    del key
    train = sample(setup, "train", most)
    test = None if setup.test is None else sample(setup, "test", most)
    pairs = _judged_heads(setup, train, test)
    if not pairs:
        return skipped(
            f"No target can be judged by a simple predictor: that takes labels or a few values (no tokens, which may "
            f"follow any text), {FEWEST} examples or more and {EXAMPLES_A_LABEL} of each label. Declare what is "
            "predicted, as target=jr.Classes(10)."
        )
    limits = Limits(wrong, skilled, evenly, errors_of_each(standard_errors, len(pairs)), tails, outlying)
    judged = [(judge_labels if ours.classes else judge_values)(ours, theirs, train, limits) for ours, theirs in pairs]
    first = max((one.measures[0] for one in judged), key=lambda measure: measure.value)
    findings = tuple(finding for one in judged for finding in one.findings)
    summary = (
        f"Labels agree with the other examples as far as a simple predictor can say; its skill is {first.value:.2f}."
    )
    blind = first.value < LEAST_SKILL and not findings
    if blind:
        summary = (
            f"A simple predictor cannot predict these labels from the other examples (skill {first.value:.2f}), so it "
            "cannot say which are wrong."
        )
    return Result(
        summary=summary,
        findings=findings,
        measures=tuple(measure for one in judged for measure in one.measures),
        evidence=tuple(evidence for one in judged for evidence in one.evidence),
        ended=Status.SKIP if blind else None,
    )


def _judged_heads(setup: Setup, train: Sample, test: Sample | None) -> list[tuple[Question, Question | None]]:
    """The heads that can be judged, each with the same of the test split."""
    ours = questions(setup, train)
    theirs: list[Question | None] = [None] * len(ours)
    if test is not None and len(found := questions(setup, test)) == len(ours):
        theirs = [head if len(head.values) >= FEWEST else None for head in found]
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if _can_be_judged(a)]


def _can_be_judged(head: Question) -> bool:
    """Whether there are examples enough, of labels that differ."""
    most_labels = len(head.values) / EXAMPLES_A_LABEL if head.classes else np.inf
    enough = len(head.values) >= FEWEST and 1 < len(np.unique(head.values)) <= most_labels
    return enough and not isinstance(head.target, Tokens)
