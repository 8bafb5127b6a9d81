"""Real targets that are far from what a simple predictor learns from the other examples."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from jaxrecipe.checks.data.label_noise.evidence import farthest_targets, residual_histogram
from jaxrecipe.checks.data.label_noise.judged import LEARNABLE, LEAST_SKILL, WIDTHS, Judged, Limits, sentence, titled
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.questions import Question
from jaxrecipe.probes.samples import Sample
from jaxrecipe.probes.simple_predictor import Features, Fit, explained, features_of, fit, held_out_skill

NO_SKILL = 0.05
"""Share of the variance that a predictor of nothing does not reach when each example is left out."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution by its median absolute deviation."""
CUT = 6.0
"""Targets are cut at so many typical deviations from the median, so that a few do not rule the fit."""
FAR_WHEN_BENT = 6.0
"""Typical residuals beyond which a target is outlying after an inverse hyperbolic sine."""
FEWEST_OUTLIERS = 5
"""Fewer outlying targets than this are the check outliers' business."""


def judge_values(train: Question, test: Question | None, drawn: Sample, limits: Limits) -> Judged:
    """Residuals far outside the others, and test targets that are predicted better."""
    features = features_of(train.inputs, train.kinds)
    targets = cut(train.values, train.values)
    fitted = fit(features.of(train.inputs), targets, widths=WIDTHS)
    residuals = np.abs((train.values - fitted.held_out) / (train.values.std(axis=0) + 1e-30)).max(axis=1)
    typical = NORMAL * max(float(np.median(residuals)), 1e-12)
    far = residuals > max(limits.tails * typical, 1.0)
    ability = explained(targets, fitted.held_out)
    outlying = Measure(
        name=titled(train, "share of outlying residuals"),
        value=float(far.mean()),
        high=limits.outlying,
        severity=Severity.WARN,
        thresholds={"high": "outlying"},
    )
    measures = [Measure(name=titled(train, "variance explained by a simple predictor"), value=ability), outlying]
    findings: list[Finding] = []
    if (
        outlying.verdict is not None
        and far.sum() >= FEWEST_OUTLIERS
        and ability > LEAST_SKILL
        and _far_when_bent(train, far)
    ):
        text = sentence(
            train,
            f"{far.sum()} of {len(far)} training targets are more than {limits.tails:g} standard deviations from what "
            "a simple predictor learns from the other examples.",
        )
        findings.append(warning("data/target-outliers", text, measures=(outlying,)))
    if test is not None and not findings:
        compared = _against_test(train, test, targets, features, fitted, ability, limits)
        findings, measures = compared.findings, [*measures, *compared.measures]
    farthest = np.argsort(-residuals, kind="stable")
    evidence = [
        residual_histogram(residuals / typical),
        farthest_targets(train, drawn, farthest, fitted.held_out, residuals / typical),
    ]
    return Judged(findings, measures, evidence)


def _against_test(
    train: Question,
    test: Question,
    targets: np.ndarray,
    features: Features,
    fitted: Fit,
    ability: float,
    limits: Limits,
) -> Judged:
    """Training targets that are noisier than the test targets, or that cannot be predicted at all."""
    predicted, wanted = fitted.predict(features.of(test.inputs)), cut(test.values, train.values)
    spread = targets.std(axis=0) + 1e-30
    on_test = np.square((wanted - predicted) / spread).mean(axis=1)
    held_out = np.square((targets - fitted.held_out) / spread).mean(axis=1)
    gap = Measure(
        name=titled(train, "unexplained variance on training minus on test targets"),
        value=float(held_out.mean() - on_test.mean()),
        high=limits.wrong,
        severity=Severity.WARN,
        error=float(np.sqrt(held_out.var() / len(held_out) + on_test.var() / len(on_test))),
        thresholds={"high": "wrong"},
    )
    findings: list[Finding] = []
    certain = gap.value > limits.standard_errors * (gap.error or 0.0)
    if certain and gap.verdict is not None and ability > LEAST_SKILL:
        text = sentence(
            train,
            f"A simple predictor leaves {held_out.mean():.2f} of the variance of held-out training targets unexplained "
            f"and {on_test.mean():.2f} of that of test targets.",
        )
        behind = causes("data/label-noise", "data/target-outliers", "data/split-shift")
        findings.append(warning("data/label-noise", text, measures=(gap,), causes=behind))
    findings += _shuffled_findings(train, test, ability)
    explained_on_test = Measure(
        name=titled(train, "variance explained on test targets"), value=explained(wanted, predicted)
    )
    return Judged(findings, [explained_on_test, gap], [])


def _shuffled_findings(train: Question, test: Question, ability: float) -> Iterator[Finding]:
    """Training targets that cannot be predicted at all, where test targets can be from other test examples."""
    if ability >= NO_SKILL:
        return
    within = held_out_skill(features_of(test.inputs, test.kinds).of(test.inputs), test.values, classes=False)
    if within <= LEARNABLE:
        return
    measures = (
        Measure(name=titled(train, "variance explained within the training split"), value=ability, low=NO_SKILL),
        Measure(name=titled(train, "variance explained within the test split"), value=within),
    )
    text = sentence(
        train,
        f"Training targets cannot be predicted from the other training examples ({ability:.2f} of the variance), test "
        f"targets can be from the other test examples ({within:.2f}).",
    )
    yield failure("data/labels-shuffled", text, measures=measures)


def _far_when_bent(train: Question, far: Bool[np.ndarray, "n"]) -> bool:
    """Whether most of these targets stay outlying after an inverse hyperbolic sine: noise does not grow with them."""
    median = np.median(train.values, axis=0)
    spread = np.median(np.abs(train.values - median), axis=0)
    bent = np.arcsinh((train.values - median) / np.where(spread > 0, spread, 1.0))
    residuals = np.abs(bent - fit(features_of(train.inputs, train.kinds).of(train.inputs), bent).held_out).max(axis=1)
    return bool(np.median(residuals[far]) > FAR_WHEN_BENT * NORMAL * np.median(residuals))


def cut(values: Float[np.ndarray, "n k"], by: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "n k"]:
    """Values without their tails, by the median absolute deviation of `by`."""
    median = np.median(by, axis=0)
    spread = NORMAL * np.median(np.abs(by - median), axis=0)
    spread = np.where(spread > 0, spread, by.std(axis=0))
    return np.clip(values, median - CUT * spread, median + CUT * spread)
