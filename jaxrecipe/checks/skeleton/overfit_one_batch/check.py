"""Overfit one batch: a couple of examples, to the minimum achievable loss."""

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.overfit_one_batch.by_cost import overfit_by_cost
from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence as RunEvidence
from jaxrecipe.checks.skeleton.overfit_one_batch.explain import Explanation, explain
from jaxrecipe.checks.skeleton.overfit_one_batch.few_examples import few_examples
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run, memorize
from jaxrecipe.checks.skeleton.overfit_one_batch.proven import loss_squashes, outputs_against_all_targets
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.result import Curve, Result, Table
from jaxrecipe.setup import Setup

NEARLY_RIGHT = 0.9
"""Share of the best accuracy at which a run that has closed the gap and then stalls counts as memorized."""
RANDOM = 0.01
"""Outputs in training mode that differ from draw to draw by more than this, over how they differ between examples."""
LEAST = 0.2
"""A run that has closed less of the gap has not learned anything to speak of."""
MOSTLY_WRONG = 0.5
"""An accuracy below this at a closed gap says that loss and metric want different things."""
ABOUT_THE_LOSS = ("loss/other-targets-than-metric", "loss/sign-flipped", "loss/squared-error-for-classes")
"""What a low loss with wrong predictions may come from."""
SHOWN = 8


def overfit_one_batch(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    examples: int = 8,
    closed: float = 0.95,
    nearly: float = 0.9,
    steps: int = 1500,
    patience: int = 200,
) -> Result:
    """A couple of examples can be memorized, with your own optimizer and your own training step.

    What it does: trains on a few examples (repeated to a full batch, without augmentation) with the training step that
    will really run, until the loss has closed the gap between the constant predictor's loss and the minimum achievable
    one, and predictions and labels align. It stops as soon as that has happened, or when the loss has stalled. The
    minimum comes from your own loss at the best outputs, so label smoothing and noisy targets do not confuse it. A
    run that does not get there is taken apart: parameters that do not move, steps that go uphill, outputs that are
    dead or confined by an activation. It is tried again from other initial parameters, at other learning rates, with
    larger kernels, and with plain Adam. It fails only with a witness: an equality that must hold and does not, or one
    of these experiments, measurably better from two starts. Otherwise whether the model could do better is not known
    (outputs that are bounded or drawn at random, a likelihood without a floor), and that is a warning at most.
    Of an objective no minimum is known: its cost must fall, or plain Adam must not lower it either.

    Why it matters: a set-up that cannot memorize eight examples has a bug, and everything else would be built on top of
    it.

    What to do: follow the first cause; it says what of the failing run points to it. Plot the curve in the evidence.

    Args:
        setup: the set-up.
        key: seeds the steps.
        examples: how many different examples are memorized; fewer, two at least, where their targets would be more
            numbers than half of the parameters.
        closed: the fraction of the gap that must be closed.
        nearly: a run that stalls with this fraction closed is only a WARN, unless an equality shows what is wrong.
        steps: at most this many steps.
        patience: steps without progress after which the run counts as stalled.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "overfit one batch".
    """
    if setup.task.objective is not None:
        return overfit_by_cost(setup, key, few_examples(setup, examples, augmented=False)[2])
    run = memorize(setup, key, examples=examples, closed=closed, steps=steps, patience=patience)
    measures = _measures(run, closed)
    seen = RunEvidence(setup, run, key, patience)
    finding = _finding(seen, closed, nearly, measures)
    curve = Curve(
        title="Loss on the few examples",
        x=np.asarray(run.steps),
        series={"training mode": np.asarray(run.training), "evaluation mode": np.asarray(run.evaluation)},
        y_label="loss",
        levels={_uninformed(run): run.uninformed, _minimum(run): run.minimum},
    )
    told = finding is not None or run.closed >= closed
    measures = _as_in(finding, measures) if told else (replace(measures[0], low=None), *measures[1:])
    return Result(
        summary=_summary(run) if told else _undetermined(seen),
        findings=() if finding is None else (finding,),
        measures=measures,
        evidence=(curve,) if finding is None else (curve, _outputs_table(run)),
    )


def _measures(run: Run, closed: float) -> tuple[Measure, ...]:
    """What was measured; the fraction of the gap and, where there are labels, the accuracy decide."""
    measures = [
        Measure(name="fraction of the gap closed", value=run.closed, low=closed, thresholds={"low": "closed"}),
        Measure(name="loss", value=run.best),
        Measure(name=_minimum(run), value=run.minimum),
        Measure(name=_uninformed(run), value=run.uninformed),
        Measure(name="steps", value=float(run.steps[-1]), unit="steps"),
    ]
    for head, accuracy in run.accuracy.items():
        name = f"accuracy on the few examples{f', {head}' if head else ''}"
        measures.insert(1, Measure(name=name, value=accuracy, low=NEARLY_RIGHT * run.best_accuracy[head]))
    return tuple(measures)


def _as_in(finding: Finding | None, measures: tuple[Measure, ...]) -> tuple[Measure, ...]:
    """The measures as the finding has them; a run that memorized its examples is judged as one without a witness."""
    if finding is None:
        return replace(measures[0], severity=Severity.WARN, code="model/does-not-memorize"), *measures[1:]
    known = {measure.name: measure for measure in finding.measures}
    return tuple(known.get(measure.name, measure) for measure in measures)


def _minimum(run: Run) -> str:
    """What the lower end of the gap is."""
    return "loss that plain Adam reaches" if run.undetermined else "minimum achievable loss"


def _uninformed(run: Run) -> str:
    """What its upper end is."""
    return "untrained loss" if run.undetermined else "constant predictor's loss"


def _undetermined(seen: RunEvidence) -> str:
    """What a run says that went as far as can be told."""
    run, (closed, _) = seen.run, seen.trials.plain_adam
    return (
        f"After {run.steps[-1]} steps the loss is {run.best:.4g}, {run.reached:.0%} of the way from "
        f"{run.uninformed:.4g} to {run.minimum:.4g}; plain Adam goes {closed:.0%}. Whether it could be lower is "
        f"undetermined: {_reason(seen)}."
    )


def _reason(seen: RunEvidence) -> str:
    """Why the minimum achievable loss is not known; empty where nothing speaks against it."""
    if seen.run.undetermined:
        return seen.run.undetermined
    return "the outputs are drawn at random in training" if seen.noise > RANDOM else ""


def _summary(run: Run) -> str:
    """What a run that memorized its examples says."""
    accuracy = f", accuracy {min(run.accuracy.values()):.0%}" if run.accuracy and not run.memorized else ""
    lowest = f"undetermined: {run.undetermined}" if run.undetermined else f"{run.minimum:.3g}"
    return (
        f"Memorized in {run.steps[-1]} steps: loss {run.best:.3g}{accuracy}; the minimum achievable loss is {lowest}."
    )


def _finding(seen: RunEvidence, closed: float, nearly: float, measures: tuple[Measure, ...]) -> Finding | None:
    """What is wrong with a run; None where it memorized its examples, or went as far as can be told."""
    run, decisive = seen.run, measures[: 1 + len(seen.run.accuracy)]
    if loss_squashes(seen.setup, run):
        message = (
            f"No output at all scores less than {run.minimum:.4g} in this loss; a constant scores {run.uninformed:.4g}."
        )
        here = "That floor is log(1 + (n - 1)/e): the loss squashes its outputs before it squashes them again."
        return failure(
            "loss/softmax-twice", message, measures=decisive, causes=(cause("loss/softmax-twice", here=here),)
        )
    if (broadcast := outputs_against_all_targets(seen)) is not None:
        message = f"Each output is compared with every target: {run.uninformed:.4g} is what a constant scores too."
        return failure(broadcast.code, message, measures=decisive, causes=(broadcast,))
    if run.memorized:
        return None
    if not np.isfinite(run.training[-1]):
        return _not_finite(run, decisive)
    low = bool(run.accuracy) and run.closed >= closed
    if low and run.stalled and run.right(NEARLY_RIGHT, least=MOSTLY_WRONG):
        return None
    explained = explain(seen)
    if not explained.proven and _as_far_as_can_be_told(seen):
        return None
    reached = (
        f"After {run.steps[-1]} steps on the same few examples the loss is {run.training[-1]:.4g}; the "
        f"{_uninformed(run)} is {run.uninformed:.4g}, the {_minimum(run)} {run.minimum:.4g}"
    )
    elsewhere = explained.certain and explained.causes[0].code not in ABOUT_THE_LOSS
    if low and not elsewhere and not run.right(0.0, least=MOSTLY_WRONG):
        message = f"{reached}, yet only {min(run.accuracy.values()):.0%} of the predictions are right."
        return _low_but_wrong(message, explained, decisive)
    how = "it stalled" if run.stalled else "it is too slow"
    failed = explained.certain or (explained.proven and (run.closed < nearly or not run.stalled))
    unknown = "" if explained.proven else f" Whether it could close it is undetermined{_because(seen)}."
    code = explained.causes[0].code if explained.proven else "model/does-not-memorize"
    return Finding(
        code=code,
        severity=Severity.FAIL if failed else Severity.WARN,
        message=f"{reached}: {how} with {run.closed:.0%} of the gap closed.{unknown}",
        measures=(_judged(decisive[0], code, explained, nearly if run.stalled else None), *decisive[1:]),
        causes=explained.causes,
    )


def _judged(gap: Measure, code: str, explained: Explanation, nearly: float | None) -> Measure:
    """The fraction of the gap with the bounds that made it a failure or a warning; a run that was slow has no
    `nearly`.
    """
    if gap.verdict is None:
        return gap
    if not explained.proven:
        return replace(gap, code=code, severity=Severity.WARN)
    if explained.certain or nearly is None:
        return replace(gap, code=code)
    bounds = {"low": "closed", "fail_low": "nearly"}
    return replace(gap, code=code, severity=Severity.WARN, fail_low=nearly, thresholds=bounds)


def _as_far_as_can_be_told(seen: RunEvidence) -> bool:
    """Whether there is a reason not to know the minimum, and plain Adam gets no farther than this run."""
    run = seen.run
    return bool(run.gap > 0 and run.reached > LEAST and _reason(seen) and seen.trials.as_good_as_adam) and run.right(
        NEARLY_RIGHT
    )


def _because(seen: RunEvidence) -> str:
    """The reason not to know it, as the end of a sentence."""
    if seen.trials.adam_learns and seen.trials.memorizes_elsewhere:
        return ": from other initial parameters it does"
    return f": {_reason(seen)}" if _reason(seen) else ": no witness was found"


def _not_finite(run: Run, measures: tuple[Measure, ...]) -> Finding:
    """The loss is NaN or infinite, from the start or by training."""
    message = f"The loss is no longer finite after {run.steps[-1]} steps on the same few examples."
    if not np.isfinite(run.training[0]):
        return failure("loss/not-finite", "The loss is not finite before the first step.", measures=measures)
    ranked = causes("optimizer/learning-rate-too-high", "optimizer/diverged", "precision/gradients-overflow")
    return failure("optimizer/diverged", message, measures=measures, causes=ranked)


def _low_but_wrong(message: str, explained: Explanation, measures: tuple[Measure, ...]) -> Finding:
    """The gap is closed and the predictions are wrong: what the run says, then what may be wrong with the loss."""
    seen = [why for why in explained.causes if why.code in ABOUT_THE_LOSS]
    others = [one for one in causes(*ABOUT_THE_LOSS[:2]) if one.code not in {why.code for why in seen}]
    return failure((seen + others)[0].code, message, measures=measures, causes=(*seen, *others))


def _outputs_table(run: Run) -> Table:
    """What the model says about each of the few examples at the end."""
    leaf = np.asarray(jax.tree.leaves(run.outputs)[0], np.float64)
    targets = np.asarray(jax.tree.leaves(run.targets)[0])
    rows = [
        (
            i,
            np.array2string(np.ravel(targets[i])[:SHOWN], precision=3),
            np.array2string(np.ravel(leaf[i])[:10], precision=3, max_line_width=200),
        )
        for i in range(min(SHOWN, len(leaf)))
    ]
    return Table(title="Targets and outputs at the end", columns=("example", "target", "output"), rows=rows)
