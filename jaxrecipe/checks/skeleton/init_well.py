"""Init well: the final bias already says what the data say."""

from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.better_starts import better_start
from jaxrecipe.probes.constant_predictor import ConstantFit, constant_at_init, losses_at_constant, mean_output
from jaxrecipe.probes.far_start import causes_of_high_loss, cross_entropy_scale
from jaxrecipe.probes.output_domain import logits_as_probabilities_at_init
from jaxrecipe.probes.starting_point import final_biases, starting_point
from jaxrecipe.probes.unread_targets import no_baseline
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads, label_entropies

MOST_ROWS = 200
"""Outputs in the table of evidence."""
MOST_NUMBERS = 10
"""Numbers of a bias that are written into a sentence."""
PLAIN = 0.05
"""A constant predictor this close to the entropy of the labels, as a share of it, is one of a plain cross entropy."""


def init_well(
    setup: Setup, *, key: PRNGKeyArray, warn: float = 1.0, warn_labels: float = 0.35, fail: float = 10.0
) -> Result:
    """The untrained model already predicts the average of the targets.

    What it does: takes the constant part of the untrained model's outputs (their mean over examples) and compares its
    loss with that of the best constant output. The difference is what training must first spend on learning a bias, as
    a share of the best constant's own loss. The bias that would save it is in the evidence.

    Why it matters: targets with a mean of 50, or one positive in a thousand, make the first hundreds of steps learn
    nothing but that average: a loss curve like a hockey stick, and gradients of the wrong size while it lasts.

    What to do: add the shift in the evidence to the final layer's bias at initialization (log frequencies for classes,
    the mean for values), give the final layer a bias if it has none, or standardize the targets.

    Args:
        setup: the set-up.
        key: unused; the model's randomness comes from the set-up.
        warn: WARN when learning the bias is worth more than this many times the best constant's loss.
        warn_labels: the same for a plain cross entropy of classes or of yes or no, whose prior the bias should hold: an
            answer that is right one time in ten costs 0.93 at a final bias of zero, one in five 0.39. Mean outputs that
            differ by half a unit between initializations cost 0.02 to 0.1, wide layers behind a normalization up to
            0.3. Tokens start at equal logits everywhere, and count as values.
        fail: FAIL when it is worth more than this many times, setting the bias makes the untrained loss lower, and a
            training that starts there is measurably ahead after a third of the steps.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "init well".
    """
    del key
    outputs, targets, _ = setup.at_init
    if reason := no_baseline(setup):
        return skipped(reason)
    fit = constant_at_init(setup)
    if not fit.exists:
        return skipped("This loss has no best constant output to start at; see loss_at_init.")
    now = mean_output(outputs)
    if not trees.all_finite(now):
        return skipped("The untrained model's outputs are not finite, so they have no mean; see loss_at_init.")
    present = float(losses_at_constant(setup, now, outputs, targets).mean())
    labels = _plain_cross_entropy(setup, fit) and warn_labels <= warn
    cost = Measure(
        name="cost of the final bias",
        value=(present - fit.loss) / fit.scale,
        high=warn_labels if labels else warn,
        fail_high=fail,
        severity=Severity.WARN,
        unit="times the constant predictor's loss",
        code="model/final-bias-ignores-prior",
        thresholds={"high": "warn_labels" if labels else "warn", "fail_high": "fail"},
    )
    measures = (
        Measure(name="loss at the mean output", value=present),
        Measure(name="constant predictor's loss", value=fit.loss),
        cost,
    )
    findings = () if cost.verdict is None else (_finding(setup, fit, now, cost),)
    return Result(
        summary="The model starts near the average of the targets: learning the bias is worth "
        f"{100 * cost.value:.2g} % of the constant predictor's loss.",
        findings=findings,
        measures=measures,
        evidence=(_bias_table(setup, now, fit.output),),
    )


def _plain_cross_entropy(setup: Setup, fit: ConstantFit) -> bool:
    """Whether the constant predictor scores the entropy of the labels, where every head has one label an example."""
    rows = [head.behavior for head in heads(setup.task.target)]
    if not all(row.labeled and not row.several and not row.by_position for row in rows):
        return False
    entropy = sum(label_entropies(setup.task.target, setup.at_init.targets).values())
    return abs(fit.loss - entropy) < PLAIN * entropy


def _finding(setup: Setup, fit: ConstantFit, now: Any, cost: Measure) -> Finding:
    """What is off, with what it would be worth to set the bias: without a gain, at once and after some steps, it is no
    more than a warning.
    """
    start, found = starting_point(setup), _causes(setup, fit, now)
    failed = cost.verdict is Severity.FAIL and not start.centered >= start.loss
    witness = better_start(setup, found) if failed else None
    centered = Measure(name="untrained loss with the final bias set", value=start.centered, high=start.loss)
    return Finding(
        code="model/final-bias-ignores-prior",
        severity=Severity.FAIL if witness is not None and witness.better else Severity.WARN,
        message="The untrained model is off the average of the targets: learning a bias alone is worth "
        f"{cost.value:.3g} times the constant predictor's loss, and setting it takes the untrained loss from "
        f"{start.loss:.4g} to {start.centered:.4g}.{'' if witness is None else f' {witness.sentence}.'}",
        measures=(cost, centered),
        causes=found,
    )


def _causes(setup: Setup, fit: ConstantFit, now: Any) -> tuple[Cause, ...]:
    """What makes a bias worth so much: wrong labels, a wrong loss, a wide spread, targets; then the bias."""
    labels = label_entropies(setup.task.target, setup.at_init.targets)
    scale, bias = cross_entropy_scale(setup), _bias_causes(setup, fit, now)
    first = []
    if labels and not any(labels.values()):
        first.append(cause("data/constant-labels"))
    if logits_as_probabilities_at_init(setup):
        first.append(cause("loss/logits-as-probabilities"))
    elif scale is not None and scale.verdict is not None:
        first.append(cause("loss/squared-error-for-classes"))
    start = starting_point(setup)
    if start.loss - start.uninformed > fit.scale:  # more than a bias is off
        first += causes_of_high_loss(setup)
    return tuple({one.code: one for one in (*first, *bias)}.values())


def _bias_causes(setup: Setup, fit: ConstantFit, now: Any) -> tuple[Cause, ...]:
    """The bias that is missing or not set, or targets that no model should have to start at."""
    start, biases = starting_point(setup), final_biases(setup)
    missing = [path for path, name in biases.items() if name is None]
    if missing:
        where = f" at {', '.join(filter(None, missing))}" if any(missing) else ""
        first = cause("model/no-final-bias", here=f"No parameter shifts the outputs{where} alike.")
    else:
        first = cause("model/final-bias-ignores-prior", here=_about_shift(biases, fit, now))
    if not (start.targets_far_from_zero or start.targets_far_from_unit_scale):
        return (first,)
    scaling = cause("data/targets-not-scaled", here=start.about_targets)
    return (first, scaling) if missing and not start.targets_far_from_unit_scale else (scaling, first)


def _about_shift(biases: dict[str, str | None], fit: ConstantFit, now: Any) -> str:
    """By how much to shift which parameter, where these are few numbers."""
    best, mean = trees.named_leaves(fit.output), trees.named_leaves(now)
    shifts = {path: np.asarray(best[path], np.float64).ravel() - np.asarray(mean[path]).ravel() for path in biases}
    listed = [
        f"{name} by [{', '.join(f'{value:.3g}' for value in shifts[path])}]"
        if shifts[path].size <= MOST_NUMBERS
        else f"{name} by the shift in the evidence"
        for path, name in biases.items()
    ]
    return f"Shift {', '.join(listed)}."


def _bias_table(setup: Setup, now: Any, best: Any) -> Table:
    """One row an output: what the model predicts on average, the best constant, and the shift between them."""
    rows, forms = [], {head.path: head.behavior.form for head in heads(setup.task.target)}
    for path, mean in trees.named_leaves(now).items():
        a = np.asarray(mean, np.float64).reshape(-1, np.shape(mean)[-1])[0]
        b = np.asarray(trees.named_leaves(best)[path], np.float64).reshape(-1, np.shape(mean)[-1])[0]
        if forms.get(path) == "exclusive" and len(a) > 1:  # a softmax does not see a common shift
            a, b = a - a.mean(), b - b.mean()
        rows += [
            (f"{path}[{i}]" if path else f"{i}", float(x), float(y), float(y - x))
            for i, (x, y) in enumerate(zip(a, b, strict=True))
        ]
    return Table(
        title="Final bias", columns=("output", "mean now", "best constant", "shift to add"), rows=rows[:MOST_ROWS]
    )
