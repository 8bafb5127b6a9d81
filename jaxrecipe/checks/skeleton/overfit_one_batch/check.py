"""Overfit one batch: a couple of examples, to the minimum achievable loss."""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence as RunEvidence
from jaxrecipe.checks.skeleton.overfit_one_batch.explain import Explanation, explain
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run, memorize
from jaxrecipe.checks.skeleton.overfit_one_batch.proven import loss_squashes
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.result import Curve, Result, Table
from jaxrecipe.setup import Setup

NEARLY_RIGHT = 0.9
"""Share of the best accuracy at which a run that has closed the gap and then stalls counts as memorized."""
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
    failure is taken apart: parameters that do not move, steps that go uphill, updates that are too small or too large,
    outputs that are dead or confined by an activation; and plain Adam is tried on the same examples, which tells the
    optimizer from the model.

    Why it matters: a set-up that cannot memorize eight examples has a bug, and everything else would be built on top of
    it.

    What to do: follow the first cause; it says what of the failing run points to it. Plot the curve in the evidence.

    Args:
        setup: the set-up.
        key: seeds the steps.
        examples: how many different examples are memorized; fewer, two at least, where their targets would be more
            numbers than half of the parameters.
        closed: the fraction of the gap that must be closed.
        nearly: a run that stalls with this fraction closed, and of no known cause, is only a WARN: outputs that are
            bounded by design (normalized embeddings and a temperature) cannot reach the minimum of free outputs.
        steps: at most this many steps.
        patience: steps without progress after which the run counts as stalled.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "overfit one batch".
    """
    run = memorize(setup, key, examples=examples, closed=closed, steps=steps, patience=patience)
    measures = _measures(run, closed)
    finding = _finding(setup, run, key, closed, nearly, measures)
    curve = Curve(
        title="Loss on the few examples",
        x=np.asarray(run.steps),
        series={"training mode": np.asarray(run.training), "evaluation mode": np.asarray(run.evaluation)},
        y_label="loss",
        levels={"constant predictor": run.uninformed, "minimum achievable": run.minimum},
    )
    return Result(
        summary=_summary(run),
        findings=() if finding is None else (finding,),
        measures=measures,
        evidence=(curve,) if finding is None else (curve, _outputs_table(run)),
    )


def _measures(run: Run, closed: float) -> tuple[Measure, ...]:
    """What was measured; the fraction of the gap and, where there are labels, the accuracy decide."""
    measures = [
        Measure(name="fraction of the gap closed", value=run.closed, low=closed, thresholds={"low": "closed"}),
        Measure(name="loss", value=run.best),
        Measure(name="minimum achievable loss", value=run.minimum),
        Measure(name="constant predictor's loss", value=run.uninformed),
        Measure(name="steps", value=float(run.steps[-1]), unit="steps"),
    ]
    for head, accuracy in run.accuracy.items():
        name = f"accuracy on the few examples{f', {head}' if head else ''}"
        measures.insert(1, Measure(name=name, value=accuracy, low=NEARLY_RIGHT * run.best_accuracy[head]))
    return tuple(measures)


def _summary(run: Run) -> str:
    """What a run that memorized its examples says."""
    accuracy = f", accuracy {min(run.accuracy.values()):.0%}" if run.accuracy and not run.memorized else ""
    return (
        f"Memorized in {run.steps[-1]} steps: loss {run.best:.3g}{accuracy}; "
        f"the minimum achievable loss is {run.minimum:.3g}."
    )


def _finding(
    setup: Setup, run: Run, key: PRNGKeyArray, closed: float, nearly: float, measures: tuple[Measure, ...]
) -> Finding | None:
    """What is wrong with a run; None where it memorized its examples."""
    decisive = measures[: 1 + len(run.accuracy)]
    if loss_squashes(setup, run):
        message = (
            f"No output at all scores less than {run.minimum:.4g} in this loss; a constant scores {run.uninformed:.4g}."
        )
        here = "That floor is log(1 + (n - 1)/e): the loss squashes its outputs before it squashes them again."
        return failure(
            "loss/softmax-twice", message, measures=decisive, causes=(cause("loss/softmax-twice", here=here),)
        )
    if run.memorized:
        return None
    if not np.isfinite(run.training[-1]):
        return _not_finite(run, decisive)
    low = bool(run.accuracy) and run.closed >= closed
    if low and run.stalled and run.right(NEARLY_RIGHT, least=MOSTLY_WRONG):
        return None
    explained = explain(RunEvidence(setup, run, key))
    reached = (
        f"After {run.steps[-1]} steps on the same few examples the loss is {run.training[-1]:.4g}; the constant "
        f"predictor scores {run.uninformed:.4g}, the minimum achievable loss is {run.minimum:.4g}"
    )
    if low and not run.right(0.0, least=MOSTLY_WRONG):
        message = f"{reached}, yet only {min(run.accuracy.values()):.0%} of the predictions are right."
        return _low_but_wrong(message, explained, decisive)
    how = "it stalled" if run.stalled else "it is too slow"
    excusable = run.stalled and run.closed >= nearly and not explained.conclusive
    return Finding(
        code=explained.causes[0].code if explained.conclusive else "model/does-not-memorize",
        severity=Severity.WARN if excusable else Severity.FAIL,
        message=f"{reached}: {how} with {run.closed:.0%} of the gap closed.",
        measures=decisive,
        causes=explained.causes,
    )


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
