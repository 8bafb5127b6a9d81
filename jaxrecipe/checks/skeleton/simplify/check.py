"""Simplify: what is still switched on, and that nothing that belongs to training acts at evaluation."""

from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.simplify.at_evaluation import acting_at_evaluation
from jaxrecipe.checks.skeleton.simplify.schedule import schedule_curve, schedule_findings
from jaxrecipe.checks.skeleton.simplify.switched_on import SwitchedOn, switched_on
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.first_steps import usual_gradient
from jaxrecipe.report.result import Result, Table
from jaxrecipe.setup import Setup


def simplify(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    most: int = 4,
    early_epochs: float = 2.0,
    early_steps: int = 1000,
    tolerance: float = 1e-3,
    most_noise: float = 0.9,
    most_decay: float = 2.0,
) -> Result:
    """Say what is still switched on; augmentation and dropout act in training only.

    What it does: measures rather than reads what the set-up does beyond the plain model and loss: whether augmentation
    changes a batch, whether the model in training depends on its key, whether the optimizer moves parameters that have
    no gradient (weight decay), whether an update changes with the step count alone (schedule), whether a gradient a
    thousand times larger is cut (clipping), whether the state holds a lagging copy of the parameters, and the
    precision. Then it asks whether any of it acts at evaluation: copies of one example must come out of `prepare` and
    of the model in evaluation mode alike, and the loop's `predict` and `evaluate` must give what the model gives on the
    examples as they are.

    Why it matters: each of these is one more explanation when a result surprises, so in the beginning all of them are
    off and then come one at a time. Augmentation or dropout at evaluation costs accuracy and makes the number noisy.

    What to do: turn off what is listed until the plain model overfits, then bring it back one by one. Apply
    augmentation to training batches only (`Task(augment=...)`), and never in `prepare`, `predict` or `evaluate`.

    Args:
        setup: the set-up.
        key: seeds draws and a few training steps.
        most: WARN when more than so many are on: then no surprise has one explanation any more.
        early_epochs: WARN when the schedule has come down to nothing within so many epochs and `early_steps` steps:
            then it is counted in epochs.
        early_steps: see `early_epochs`; a longer run may well see its data only once.
        tolerance: how far evaluations may differ, relative to the size of the outputs.
        most_noise: WARN when more than this share of the power of the outputs is noise; a dropout of one half after
            each of three layers makes 0.87.
        most_decay: WARN when a step's weight decay is more than so many times as long as the rest of the step; at a
            minimum, where a pretrained model may start, the two balance.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "simplify".
    """
    gradients = usual_gradient(setup, key)
    curve = schedule_curve(setup, gradients)
    found = switched_on(setup, key, gradients, curve, most_noise=most_noise, most_decay=most_decay)
    names = ", ".join(one.name for one in found)
    count = Measure(
        name="switched on", value=len(found), high=most, severity=Severity.WARN, thresholds={"high": "most"}
    )
    findings = [
        *acting_at_evaluation(setup, key, tolerance),
        *schedule_findings(setup, curve, early_epochs, early_steps),
        *(finding for one in found if (finding := _too_strong(one)) is not None),
    ]
    if count.verdict is not None:
        text = f"{len(found)} things are switched on at once: {names}."
        findings.append(warning("step/too-much-switched-on", text, measures=(count,)))
    rows = [(one.name, one.description) for one in found]
    evidence = (Table(title="Switched on", columns=("what", "measured"), rows=rows), *([curve] if curve else []))
    summary = (
        f"Still switched on: {names}; none of it acts at evaluation." if found else "Nothing fancy is switched on."
    )
    measures = (count, *(measure for one in found for measure in one.measures))
    return Result(summary=summary, findings=tuple(findings), measures=measures, evidence=evidence)


def _too_strong(one: SwitchedOn) -> Finding | None:
    """What is on so strongly that nothing else counts."""
    for measure in one.measures:
        if measure.verdict is not None:
            return Finding(code=measure.code, severity=measure.verdict, message=one.too_strong, measures=(measure,))
    return None
