"""Use backprop to chart dependencies: the loss of example i must not see example j."""

from dataclasses import replace

import jax
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.chart_dependencies.mixing_chart import MixingChart, chart_evaluation, chart_training
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.mixing_causes import loss_mixes_examples, loss_mixing_causes, model_mixing_causes
from jaxrecipe.report.result import Matrix, Result, skipped
from jaxrecipe.setup import Setup

SHOWN = 16
"""Examples of the batch that the chart in the evidence shows."""


def chart_dependencies(setup: Setup, *, key: PRNGKeyArray, examples: int = 6, tolerance: float = 1e-6) -> Result:
    """The loss of an example depends on its own input and targets, and on no other's.

    What it does: for a few examples of a batch, charts which inputs and targets their losses depend on, in two ways
    that miss different things: the norm of the gradient of loss i with respect to every input, and poisoning (NaN is
    put into floating input j, other values into integer input j, and the losses that change are marked; what only NaN
    shows is tried with finite values too). It looks in evaluation mode and, by poisoning, in training mode, and then
    finds out whether the model or the loss mixes the examples, and how: numbers that are handed from one example to
    another, a softmax or mean over the batch, or broadcasting. Parameters that start at zero are drawn at random first,
    so that a zero in the last layer hides nothing.

    Why it matters: a reshape where a transpose was meant, a softmax or mean over the batch axis, or (N, 1) against (N,)
    mixes examples. The network still trains, because it learns to ignore its neighbors, and is quietly worse.

    What to do: look for a reshape or view that moves the batch axis, reductions without an axis or over axis 0, and
    broadcasting between outputs and targets. BatchNorm mixes examples in training only, which is recognized. If the
    loss is meant to compare examples (contrastive loss, mixup), declare `mixes_examples=True` in the task.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode; every example sees the same draw in all comparisons.
        examples: how many examples of the batch are charted, each against the whole batch.
        tolerance: gradients below this fraction of the largest one count as rounding; the rounding of the coarsest
            format that the model computes in, if that is more.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "use backprop to chart dependencies".
    """
    if setup.task.mixes_examples:
        return skipped("The task declares that its loss mixes examples (mixes_examples).")
    size = trees.leading_size(setup.batch[0])
    if size < 2:
        return skipped("The batch holds one example, so there is nothing to mix. Give Task(batch_size=...) above 1.")
    count = min(examples, size)
    evaluation = chart_evaluation(setup, key, count, tolerance)
    training = chart_training(setup, key, count)
    measures = _measures(evaluation, training, explained=bool(jax.tree.leaves(setup.model_state)))
    findings = tuple(_finding(setup, key, measure) for measure in measures if measure.verdict is not None)
    summary = "Each loss depends on its own example and on no other."
    if training.pairs and not findings:
        summary = "Examples mix in training mode only, as BatchNorm does; in evaluation mode each stands alone."
    evidence = [_matrix("evaluation", evaluation)] + ([_matrix("training", training)] if training.pairs else [])
    return Result(summary=summary, findings=findings, measures=measures, evidence=tuple(evidence))


MIXED, MIXED_IN_TRAINING = "mixed pairs in evaluation", "mixed pairs in training"
BLIND, BY_NAN = "losses blind to their input", "pairs that only NaN connects"


def _measures(evaluation: MixingChart, training: MixingChart, *, explained: bool) -> tuple[Measure, ...]:
    """What was counted. Mixing in training is right where batch statistics explain it, or evaluation mixes as well."""
    charted = len(evaluation.blind)
    alone = not explained and not evaluation.pairs
    doubtful = max(chart.pairs_by_nan for chart in ((evaluation,) if explained else (evaluation, training)))
    return (
        Measure(name=MIXED, value=evaluation.pairs, low=0.0, high=0.0, unit="pairs"),
        Measure(
            name=MIXED_IN_TRAINING,
            value=training.pairs,
            low=0.0 if alone else None,
            high=0.0 if alone else None,
            severity=Severity.WARN,
            unit="pairs",
            code="model/mixes-examples",
        ),
        Measure(
            name=BLIND,
            value=int(evaluation.blind.sum()),
            low=0.0,
            high=0.0,
            fail_high=charted - 1.0,
            severity=Severity.WARN,
            unit="examples",
        ),
        Measure(
            name=BY_NAN,
            value=doubtful,
            low=0.0,
            high=None if evaluation.pairs or (alone and training.pairs) else 0.0,
            severity=Severity.WARN,
            unit="pairs",
            code="model/spreads-nan",
        ),
    )


def _finding(setup: Setup, key: PRNGKeyArray, measure: Measure) -> Finding:
    """What a measure outside of its bounds amounts to, with its causes."""
    amount = int(measure.value)
    if setup.task.objective is not None:
        return _finding_of_objective(measure, amount)
    if measure.name == MIXED:
        in_loss = loss_mixes_examples(setup, key)
        found = (loss_mixing_causes if in_loss else model_mixing_causes)(setup, key)
        where = "in the loss" if in_loss else "in the model"
        text = (
            f"Examples of a batch mix {where}: {amount} pairs of different examples are connected, in evaluation "
            "mode too."
        )
        if found[0].code == "loss/weighted-by-batch":  # nothing shows that this mean is not meant
            measure = replace(measure, severity=Severity.WARN, code=found[0].code)
            return warning(found[0].code, text, measures=(measure,), causes=found)
        return failure(found[0].code, text, measures=(measure,), causes=found)
    if measure.name == MIXED_IN_TRAINING:
        text = (
            f"{amount} pairs of examples mix in training mode, and the model keeps no batch statistics that would "
            "explain it."
        )
        found = causes("model/normalizes-over-batch", "model/mixes-examples", "model/reshape-for-transpose")
        return warning("model/mixes-examples", text, measures=(measure,), causes=found)
    if measure.name == BY_NAN:
        text = "A NaN in one example reaches the losses of others, though finite values do not."
        return warning("model/spreads-nan", text, measures=(measure,))
    if measure.verdict is Severity.FAIL:
        text = f"The loss of none of {amount} examples depends on its own input at all."
        found = causes("model/input-ignored", "model/constant-outputs", "loss/flat")
        return failure("model/input-ignored", text, measures=(measure,), causes=found)
    text = f"The loss of {amount} examples that were charted does not depend on its input."
    return warning("loss/flat", text, measures=(measure,), causes=causes("loss/flat", "model/constant-outputs"))


def _finding_of_objective(measure: Measure, amount: int) -> Finding:
    """The same where model and loss cannot be told apart; an objective may draw its inputs itself."""
    if measure.name in (MIXED, MIXED_IN_TRAINING):
        text = f"Examples of a batch mix in the objective: {amount} pairs of different examples are connected."
        found = causes("loss/mixes-examples", "model/mixes-examples", "model/normalizes-over-batch", "loss/broadcast")
        make = failure if measure.name == MIXED else warning
        return make("loss/mixes-examples", text, measures=(measure,), causes=found)
    if measure.name == BY_NAN:
        text = "A NaN in one example reaches the losses of others, though finite values do not."
        return warning("model/spreads-nan", text, measures=(measure,))
    text = f"The loss of {amount} examples that were charted does not depend on its input."
    return warning("model/input-ignored", text, measures=(measure,), causes=causes("model/input-ignored", "loss/flat"))


def _matrix(mode: str, chart: MixingChart) -> Matrix:
    shown = chart.strength[:, :SHOWN]
    return Matrix(
        title=f"Whose input the loss of an example depends on, in {mode} mode",
        values=shown,
        row_label="loss of example",
        column_label="input of example",
        row_names=[str(i) for i in range(shown.shape[0])],
        column_names=[str(j) for j in range(shown.shape[1])],
        log=True,
    )
