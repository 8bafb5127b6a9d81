"""Reference step: the training step does what a plain optax step does, and carries everything from step to step."""

from dataclasses import replace

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.reference_step.carried import model_state_findings, reported_loss_findings
from jaxrecipe.checks.skeleton.reference_step.explanations import explain
from jaxrecipe.checks.skeleton.reference_step.plain_steps import by_leaf, compare
from jaxrecipe.checks.skeleton.reference_step.rules import Context, wrong_rule
from jaxrecipe.checks.skeleton.reference_step.trace import Trace, declared_and_frozen, record
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.first_steps import first_steps, vector
from jaxrecipe.probes.output_precision import computes_in_half
from jaxrecipe.report.result import Curve, Result, Table, skipped
from jaxrecipe.setup import Setup

MOST_ROWS = 20
"""Parameters that the table shows."""


def reference_step(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 5,
    tolerance: float = 0.02,
    tolerance_half: float = 0.15,
    patience: int = 32,
) -> Result:
    """The training step is a plain optax step: the gradient of the mean loss through the declared optimizer.

    What it does: takes a few steps on different batches with the loop's own training step. Beside each it computes,
    from the parameters that the state really holds, the gradient of the mean loss in training mode, and passes these
    through the declared optimizer with an optimizer state of its own. Both must move the parameters alike, and a model
    state must be what the forward pass left. Where they differ, it tries what usually goes wrong and names what
    explains the steps: gradients that accumulate, optimizer state that is not carried, a schedule that stands still, a
    sum for a mean, an extra factor, decay or clip, a batch that never changes, evaluation mode. A random model is
    compared in distribution when the key that the step makes for it cannot be found out. Numbers that rounding decides
    (a gradient near zero under Adam) are left out.

    Why it matters: a loop that forgets to carry momentum or to clear gradients still trains, only worse, and no
    exception says so.

    What to do: compare the step with `jax.value_and_grad`, `optimizer.update`, `optax.apply_updates`, line by line, and
    put every new state into the state that the step returns. A rule of your own (averaged weights, accumulation over
    steps, sharpness-aware steps) that is no optax transformation passes where it is recognized and is a WARN where not:
    declare it as part of the optimizer, or say `expect`.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: steps compared; four different batches are needed to tell the causes apart.
        tolerance: the largest difference, of the size of the steps, that counts as equal. Rounding gives 1e-4, TF32
            1e-2.
        tolerance_half: the same in half precision, where a gradient has 8 or 11 bits.
        patience: steps to wait for the first movement, before updates count as thrown away and not as accumulated.

    Source: the standard loop of the optax documentation.
    """
    half = computes_in_half(setup)
    limit, threshold = (tolerance_half, "tolerance_half") if half else (tolerance, "tolerance")
    trace = _without_skipped(setup, record(setup, key, first_steps(setup, key, steps)))
    if not trace.steps:
        return skipped(
            f"The loss scale skipped each of the {steps} steps, so there is nothing to compare: start with a smaller "
            "loss scale, or give more steps."
        )
    if not all(np.isfinite(vector(grads)).all() for grads in trace.gradients[0]):
        return skipped(
            "The gradient of the first batches is not finite, so there is nothing to compare: find out first where NaN "
            "or infinity comes from (overfit_one_batch, updates)."
        )
    comparison = compare(setup, trace, half=half, left_out=declared_and_frozen(setup, trace))
    context = Context(setup, key, comparison, half, limit, patience)
    summary, findings = _conclusion(context)
    difference = _difference(context, threshold)
    return Result(
        summary=summary,
        findings=tuple(replace(finding, measures=finding.measures or (difference,)) for finding in findings),
        measures=(difference, *_measures(context)),
        evidence=_evidence(context),
    )


def _without_skipped(setup: Setup, trace: Trace) -> Trace:
    """Under a loss scale a step may be skipped on purpose: nothing moves, and the optimizer does not see it."""
    if setup.task.loss_scale.kind == "none":
        return trace
    return trace.without([place for place, step in enumerate(trace.steps) if step.moved == 0])


def _conclusion(context: Context) -> tuple[str, list[Finding]]:
    """Plain steps, unless there is a better explanation for them; then what else the step should carry."""
    comparison, steps = context.comparison, len(context.comparison.trace.steps)
    match = comparison.match
    if not match.within(context.limit):
        summary, finding = explain(context)
        return summary, [] if finding is None else [finding]
    better = wrong_rule(context) if match.less_random_than_the_model(context.limit) else None
    if better is not None:
        return better.message, [better]
    if comparison.moves_nothing:
        text = f"Neither the step nor the declared optimizer moves a parameter in the first {steps} steps."
        return text, [warning("optimizer/warm-up-too-long", text)]
    how = " within what its randomness explains" if len(comparison.trace.gradients) > 1 else ""
    summary = f"{steps} steps on different batches equal plain optax steps{how}: relative difference {match.error:.2g}."
    return summary, [*model_state_findings(context), *reported_loss_findings(context)]


def _difference(context: Context, threshold: str) -> Measure:
    """How far the steps are from plain ones, beyond what the model's own randomness explains."""
    match = context.comparison.match
    return Measure(
        name="difference from a plain step",
        value=max(match.error - match.high, 0.0),
        high=context.limit,
        unit="of the steps' size",
        thresholds={"high": threshold},
    )


def _measures(context: Context) -> tuple[Measure, ...]:
    return (
        Measure(name="difference that randomness explains", value=context.comparison.match.high),
        Measure(name="steps compared", value=len(context.comparison.trace.steps), unit="steps"),
    )


def _evidence(context: Context) -> tuple[Curve, Table]:
    comparison = context.comparison
    curve = Curve(
        title="Size of each step",
        x=np.arange(1, len(comparison.moves) + 1),
        series={
            "taken": np.array([float(np.linalg.norm(move)) for move in comparison.moves]),
            "plain": np.array([float(np.linalg.norm(move)) for move in comparison.plain]),
        },
    )
    rows = sorted(by_leaf(comparison), key=lambda row: -row[3])[:MOST_ROWS]
    columns = ("parameter", "step taken", "plain step", "difference")
    return curve, Table(title="Parameters, the most different first", columns=columns, rows=rows)
