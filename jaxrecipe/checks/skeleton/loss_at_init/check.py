"""Verify loss at init: the untrained model scores what the constant predictor scores."""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.loss_at_init.explain import causes_of_low_loss, causes_of_no_floor, causes_of_not_finite
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.better_starts import better_start
from jaxrecipe.probes.constant_predictor import ConstantFit, constant_at_init, uninformed_loss
from jaxrecipe.probes.far_start import LEAST_ENTROPY, causes_of_high_loss, cross_entropy_scale, losses_clipped
from jaxrecipe.probes.output_domain import logits_as_probabilities_at_init, outputs_confined, squashed_twice
from jaxrecipe.probes.unread_targets import no_baseline
from jaxrecipe.report.result import Histogram, Result, skipped
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads, label_entropies

NEARLY_NOTHING = 0.05
"""A constant output costs nothing below this share of the labels' entropy and of the untrained loss."""
STANDARD_ERRORS = 3.0
"""The untrained loss must be below the constant predictor's by so many standard errors to count as below."""
OTHER_STARTS = 5
"""Other initializations that must be below too: a model of few parameters may be right by luck once, not six times."""


def loss_at_init(
    setup: Setup, *, key: PRNGKeyArray, low: float = 0.8, high_warn: float = 2.0, high_fail: float = 4.0
) -> Result:
    """The loss before training is that of the constant predictor, neither more nor less.

    What it does: computes the loss of the untrained model in training mode over several batches and compares it, from
    both sides, with your own loss at the best *constant* output on your own targets: log(n) for balanced classes, the
    variance for the squared error, the right number for any other loss. For labels the loss at equal logits is allowed
    too. It also asks whether a constant output alone can drive the loss to nothing, which a sound loss forbids, and
    whether the loss takes probabilities for logits or squashes them twice, which shows in what certain answers cost.

    Why it matters: a loss far above means that the first thing training does is to unlearn a bad initialization; a loss
    below means that the model knows the answer before it has seen one: a leak, or a loss that does not measure.

    What to do: far above: look at the scale of the inputs, the initialization of the last layer, the scale of
    regression targets, and whether the loss wants logits or probabilities. Below: look for the label among the inputs,
    masks that drop every example, weights of zero. A pretrained model starts below: say so with expect.

    Args:
        setup: the set-up.
        key: unused; the model's randomness comes from the set-up.
        low: FAIL under this fraction of the constant predictor's loss (and beyond three standard errors), from other
            initializations too: a model of three parameters may be right by luck once. Not asked of a loss that
            compares examples, where even random features tell two examples apart.
        high_warn: WARN above this multiple of the constant predictor's loss.
        high_fail: FAIL above this multiple of it, where a training that starts better, at the constant predictor or
            with weights, inputs or targets of the usual size, is measurably ahead; many losses start this high and
            train well.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "verify loss @ init".
    """
    del key
    outputs, targets, given = setup.at_init
    losses = np.asarray(given, np.float64)
    if not np.isfinite(losses).all():
        return _not_finite(setup, losses)
    fit = constant_at_init(setup)
    loss = Measure(name="loss", value=losses.mean(), error=losses.std() / np.sqrt(len(losses)))
    constant = Measure(name="constant predictor's loss", value=fit.loss)
    wrong_domain = _wrong_domain(setup)
    if wrong_domain is not None:
        return Result(summary="", findings=(wrong_domain,), measures=(loss, constant))
    if reason := no_baseline(setup):
        return skipped(reason)
    if fit.unbounded:
        finding = _no_floor(setup)
        if not finding.causes[0].here and outputs_confined(setup):
            return skipped("Constant outputs could drive this loss down without end, but the model confines its own.")
        return Result(summary="", findings=(finding,), measures=(loss, constant))
    if not fit.exists:
        return skipped("The loss is not finite at any constant output, so there is nothing to compare with.")
    uninformed = uninformed_loss(setup, fit, outputs, targets)
    scale = max(abs(uninformed), fit.scale)
    excess = Measure(
        name="times the constant predictor's loss",
        value=1.0 + (loss.value - uninformed) / scale,
        high=high_warn,
        fail_high=high_fail,
        severity=Severity.WARN,
        error=loss.error / scale if loss.error is not None else None,
        code="model/starts-far-off",
        thresholds={"high": "high_warn", "fail_high": "high_fail"},
    )
    found = [
        _applied_twice(setup),
        _constant_wins(setup, loss, constant),
        _too_low(setup, losses, fit, (1.0 - low) * scale),
        _too_high(setup, loss, excess, uninformed),
        _not_a_cross_entropy(setup),
    ]
    return Result(
        summary=f"The untrained loss is {loss.value:.4g}; the constant predictor scores {uninformed:.4g}.",
        findings=_distinct(found),
        measures=(loss, constant, Measure(name="uninformed loss", value=uninformed), excess),
        evidence=(_histogram(losses, fit),),
    )


def _distinct(found: list[Finding | None]) -> tuple[Finding, ...]:
    """What was found; that the scale is not that of a cross entropy follows from anything else that is wrong."""
    findings = [finding for finding in found if finding is not None]
    only = [finding for finding in findings if finding.code != "loss/not-a-cross-entropy"]
    return tuple(only or findings)


def _not_finite(setup: Setup, losses: np.ndarray) -> Result:
    bad = Measure(
        name="examples whose loss is not finite", value=int((~np.isfinite(losses)).sum()), high=0.0, unit="examples"
    )
    message = f"The untrained loss is not finite on {bad.value:.0f} of {len(losses)} examples."
    finding = failure("loss/not-finite", message, measures=(bad,), causes=causes_of_not_finite(setup))
    return Result(summary=message, findings=(finding,))


def _wrong_domain(setup: Setup) -> Finding | None:
    """The loss wants probabilities at some head, and the model gives logits."""
    outputs, targets, _ = setup.at_init
    wrong = logits_as_probabilities_at_init(setup)
    for head in heads(setup.task.target, outputs, targets):
        if head.path in wrong:
            values = np.asarray(head.outputs, np.float64)
            outside = Measure(name="outputs outside of [0, 1]", value=((values < 0) | (values > 1)).mean(), high=0.0)
            message = (
                f"The loss{_at(head.path)} is made for probabilities, but {outside.value:.0%} of the model's outputs "
                "are outside of [0, 1]."
            )
            return failure("loss/logits-as-probabilities", message, measures=(outside,))
    return None


def _no_floor(setup: Setup) -> Finding:
    found = causes_of_no_floor(setup)
    message = "A constant output can drive this loss down without end: it rewards being wrong."
    return failure(
        "loss/sign-flipped" if found[0].code == "loss/sign-flipped" else "loss/unbounded", message, causes=found
    )


def _applied_twice(setup: Setup) -> Finding | None:
    """A right and certain answer costs exactly what two softmaxes or sigmoids make of it."""
    outputs, targets, _ = setup.at_init
    for path, where in squashed_twice(setup, outputs, targets).items():
        message = f"A certain and right answer{_at(path)} costs exactly what it costs behind two softmaxes or sigmoids."
        here = {
            "model": "The model's outputs are probabilities already, and the loss takes them for logits.",
            "loss": "The loss squashes its outputs once more than its cross entropy does.",
        }[where]
        return failure("loss/softmax-twice", message, causes=(cause("loss/softmax-twice", here=here),))
    return None


def _constant_wins(setup: Setup, loss: Measure, constant: Measure) -> Finding | None:
    """A constant output costs nothing, though the labels are not constant."""
    entropy = sum(label_entropies(setup.task.target, setup.at_init.targets).values())
    if entropy <= LEAST_ENTROPY or constant.value >= NEARLY_NOTHING * min(entropy, loss.value):
        return None
    return failure(
        "loss/constant-output-wins",
        f"An output that ignores the input scores {constant.value:.3g}, though the labels carry {entropy:.3g} nats.",
        measures=(constant,),
        causes=causes("loss/constant-output-wins", "loss/logits-as-probabilities", "loss/single-output-softmax"),
    )


def _too_low(setup: Setup, losses: np.ndarray, fit: ConstantFit, slack: float) -> Finding | None:
    """The untrained model beats every constant, whatever the initialization."""
    if setup.task.mixes_examples or losses.mean() >= fit.loss:
        return None
    outputs, _, _ = setup.at_init
    positions = any(leaf.ndim > 2 for leaf in jax.tree.leaves(outputs))  # a constant may tell them apart
    best = min(fit, constant_at_init(setup, shared=False), key=lambda one: one.loss) if positions else fit
    paired = losses - best.losses if losses.shape == best.losses.shape else losses
    limit = best.loss - slack - STANDARD_ERRORS * float(paired.std() / np.sqrt(len(paired)))
    if losses.mean() >= limit:
        return None
    highest = Measure(
        name="highest loss over initializations",
        value=max(float(losses.mean()), _highest_of_other_starts(setup)),
        low=limit,
        code="model/knows-too-much",
    )
    if highest.verdict is None:
        return None
    found = causes_of_low_loss(setup)
    return failure(
        found[0].code,
        f"The untrained loss {losses.mean():.4g} is below {best.loss:.4g}, the constant predictor's, in {OTHER_STARTS} "
        "other initializations too.",
        measures=(highest,),
        causes=found,
    )


def _highest_of_other_starts(setup: Setup) -> float:
    """The highest loss of the first batch over other initializations: a leak shows in all, a lucky draw does not."""
    inputs, targets = setup.batch
    found = []
    for draw in range(OTHER_STARTS):
        key = jax.random.fold_in(setup.key, draw)
        params, model_state = setup.loop.variables(setup.loop.init(key))
        found.append(setup.mean_loss(params, model_state, inputs, targets, train=True, key=key))
    return max(found)


def _too_high(setup: Setup, loss: Measure, excess: Measure, uninformed: float) -> Finding | None:
    if excess.verdict is None:
        return None
    found = causes_of_high_loss(setup)
    if loss.value > (1.0 + excess.value) / 2 * uninformed > 0:  # so that the ratio is one of the two
        ahead = f"{excess.value:.3g} times what the constant predictor scores ({uninformed:.4g})"
    else:
        ahead = (
            f"above what the constant predictor scores ({uninformed:.4g}), by {excess.value - 1:.3g} times what "
            "examples differ by there"
        )
    message = f"The untrained loss {loss.value:.4g} is {ahead}."
    severity = Severity.WARN
    if excess.verdict is Severity.FAIL:
        witness = better_start(setup, found)
        broadcasts = found[0].code == "loss/broadcast"  # an equality, which is a witness too
        severity = Severity.FAIL if broadcasts or (witness is not None and witness.better) else Severity.WARN
        message += f" {witness.sentence}." if witness is not None else ""
    return Finding(code="model/starts-far-off", severity=severity, message=message, measures=(excess,), causes=found)


def _not_a_cross_entropy(setup: Setup) -> Finding | None:
    """One declared set of classes whose constant predictor does not score their entropy."""
    scale = cross_entropy_scale(setup)
    if scale is None or scale.verdict is None:
        return None
    message = (
        f"The constant predictor scores {scale.value:.3g} in this loss, where a cross entropy of these classes scores "
    )
    clipped = ["loss/clipped"] if losses_clipped(setup) else []
    found = causes(*clipped, "loss/squared-error-for-classes", "loss/not-a-cross-entropy")
    return warning("loss/not-a-cross-entropy", f"{message}{scale.wanted}.", measures=(scale,), causes=found)


def _at(path: str) -> str:
    """At which head, where there are several."""
    return f" at head {path}" if path else ""


def _histogram(losses: np.ndarray, fit: ConstantFit) -> Histogram:
    edges = np.histogram_bin_edges(np.concatenate([losses, fit.losses]), bins=30)
    counts = {
        "untrained model": np.histogram(losses, edges)[0],
        "constant predictor": np.histogram(fit.losses, edges)[0],
    }
    return Histogram(title="Loss of each example before training", edges=edges, counts=counts, x_label="loss")
