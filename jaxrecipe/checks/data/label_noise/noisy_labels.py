"""Labels that contradict what a simple predictor learns from the other examples, and how noise differs from
difficulty.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from jaxrecipe.checks.data.label_noise.confident_labels import confident_learning
from jaxrecipe.checks.data.label_noise.evidence import confident_matrix, suspects
from jaxrecipe.checks.data.label_noise.judged import (
    FEWEST,
    LEARNABLE,
    LEAST_SKILL,
    WIDTHS,
    Judged,
    Limits,
    sentence,
    titled,
)
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.questions import Question
from jaxrecipe.probes.samples import Sample
from jaxrecipe.probes.simple_predictor import features_of, fit, held_out_skill, one_hot, probabilities, skill

SUREST = 3
"""The predictor is surest in one of so many examples: enough of them to count errors in, and few enough to be easy."""


@dataclass(frozen=True)
class Errors:
    """Where a simple predictor errs.

    Attributes:
        held_out: for each training example, whether the predictor that was fitted without it errs.
        surest: the same for those of which it is surest.
        test: for each test example; None without test labels.
        skill: how far ahead of naming the commonest training label it is.
    """

    held_out: Bool[np.ndarray, "n"]
    surest: Bool[np.ndarray, "s"]
    test: Bool[np.ndarray, "m"] | None
    skill: float


def judge_labels(train: Question, test: Question | None, drawn: Sample, limits: Limits) -> Judged:
    """Confident learning, and the two signs by which noise differs from difficulty."""
    levels, given = np.unique(train.values, return_inverse=True)
    given = given.reshape(-1)
    features = features_of(train.inputs, train.kinds)
    fitted = fit(features.of(train.inputs), one_hot(train.values, levels), widths=WIDTHS)
    probability = probabilities(fitted.held_out, given)
    learned = confident_learning(given, probability)
    predicted = fitted.held_out.argmax(axis=1)
    surest = np.argsort(-probability.max(axis=1), kind="stable")[: max(FEWEST, len(given) // SUREST)]
    on_test = None
    if test is not None:
        on_test = np.asarray(levels[fitted.predict(features.of(test.inputs)).argmax(axis=1)] != test.values)
    missed = predicted != given
    errors = Errors(missed, missed[surest], on_test, skill(given, predicted))
    measures = noise_measures(train, errors, learned.share, limits)
    findings = [*noise_findings(train, errors, measures, limits)]
    if not findings and test is not None:
        findings += _shuffled_findings(train, test, given, errors, limits)
    return Judged(
        findings,
        [*measures.values()],
        [*suspects(train, drawn, levels, learned, probability, given), *confident_matrix(levels, learned)],
    )


def noise_measures(head: Question, errors: Errors, share: float, limits: Limits) -> dict[str, Measure]:
    """The numbers by what they are of: skill, errors everywhere, where it is surest and on the test labels, wrong
    labels.
    """
    everywhere, surest = errors.held_out.mean(), errors.surest.mean()
    found = {
        "skill": Measure(name=titled(head, "skill of a simple predictor"), value=errors.skill),
        "everywhere": Measure(name=titled(head, "error on held-out training labels"), value=float(everywhere)),
        "surest": Measure(
            name=titled(head, "error where it is surest"),
            value=float(surest),
            high=max(limits.wrong, float(limits.evenly * everywhere)),
            severity=Severity.WARN,
            error=_standard_error(errors.surest),
        ),
        "wrong": Measure(name=titled(head, "wrong labels by confident learning"), value=share),
    }
    if errors.test is not None:
        found["test"] = Measure(name=titled(head, "error on test labels"), value=float(errors.test.mean()))
        found["gap"] = Measure(
            name=titled(head, "error on training minus error on test labels"),
            value=float(everywhere - errors.test.mean()),
            high=limits.wrong,
            severity=Severity.WARN,
            error=float(np.hypot(_standard_error(errors.held_out), _standard_error(errors.test))),
            thresholds={"high": "wrong"},
        )
    return found


def _standard_error(wrong: np.ndarray) -> float:
    return float(np.sqrt(wrong.var() / len(wrong)))


def noise_findings(head: Question, errors: Errors, measures: dict[str, Measure], limits: Limits) -> Iterator[Finding]:
    """Clean test labels that are predicted better, or errors that do not spare the easy examples; FAIL where both
    are.
    """
    everywhere, surest = measures["everywhere"].value, measures["surest"].value
    sure = limits.standard_errors
    uniform = surest > limits.evenly * everywhere
    gap = measures.get("gap")
    if gap is not None and errors.test is not None and errors.skill > LEAST_SKILL:
        lowest = gap.value - sure * (gap.error or 0.0)
        if lowest > 0 and gap.value > limits.wrong:
            text = sentence(
                head,
                f"About {gap.value:.1%} of the training labels are wrong: a simple predictor errs on {everywhere:.1%} "
                f"of the held-out training examples, on {surest:.1%} where it is surest, and on "
                f"{errors.test.mean():.1%} of the test examples.",
            )
            severity = Severity.FAIL if lowest > limits.wrong and uniform else Severity.WARN
            behind = causes("data/label-noise") if uniform else causes("data/label-noise", "data/split-shift")
            numbers = (gap, measures["surest"])
            yield Finding(code="data/label-noise", severity=severity, message=text, measures=numbers, causes=behind)
            return
    lowest = surest - sure * (measures["surest"].error or 0.0)
    if errors.skill > limits.skilled and lowest > limits.wrong and uniform:
        text = sentence(
            head,
            f"About {surest:.1%} of the training labels are wrong ({measures['wrong'].value:.1%} by confident "
            f"learning): so often a simple predictor errs where it is surest; everywhere it is {everywhere:.1%}.",
        )
        yield warning("data/label-noise", text, measures=(measures["surest"], measures["wrong"]))


def _shuffled_findings(
    train: Question, test: Question, given: np.ndarray, errors: Errors, limits: Limits
) -> Iterator[Finding]:
    """Training labels that cannot be predicted at all, where test labels can be from other test examples."""
    if errors.skill >= LEAST_SKILL or not within_chance(errors.held_out, given, limits.standard_errors):
        return
    within = held_out_skill(features_of(test.inputs, test.kinds).of(test.inputs), test.values, classes=True)
    if within <= LEARNABLE:
        return
    measures = (
        Measure(name=titled(train, "skill within the training split"), value=errors.skill, low=LEAST_SKILL),
        Measure(name=titled(train, "skill within the test split"), value=within),
    )
    text = sentence(
        train,
        f"Training labels cannot be predicted from the other training examples (skill {errors.skill:.2f}), test labels "
        f"can be from the other test examples ({within:.2f}).",
    )
    yield failure("data/labels-shuffled", text, measures=measures)


def within_chance(missed: Bool[np.ndarray, "n"], given: Int[np.ndarray, "n"], standard_errors: float) -> bool:
    """Whether the labels are hit no more often than by naming the commonest one."""
    commonest = np.bincount(given).max() / len(given)
    hits = 1 - missed.mean()
    return bool(hits - commonest < standard_errors * np.sqrt(commonest * (1 - commonest) / len(given)))
