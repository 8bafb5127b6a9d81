"""Visualize prediction dynamics: the predictions on one fixed batch, at every step of the first training steps."""

from dataclasses import replace

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.findings import (
    Bounds,
    Line,
    course,
    largest,
    learning_rate_findings,
)
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.lines import FARTHER, gradient_noise
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.run import Run, follow
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.result import Curve, Result
from jaxrecipe.setup import Setup

SMALL_BATCH = 2
"""With more examples in a batch than this, noise in a gradient is what a batch is for."""
FEWEST_BATCHES = 8
"""Examples enough for so many batches of two and a few more, or batches have too much in common to compare them."""
MOST_LINES = 6
"""Examples whose predictions are drawn."""


def visualize_prediction_dynamics(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 40,
    farther_fail: float = 30.0,
    farther_warn: float = 10.0,
    jump: float = 3.0,
    noise: float = 0.5,
) -> Result:
    """The predictions on a fixed batch move steadily: neither to and fro nor hardly at all.

    What it does: takes the first steps with the loop's own training step on successive batches and follows the
    predictions on one fixed batch at every step: how much of their way is to and fro (jitter), and whether one step
    takes back what the last one did. It notes the loss of each step's own batch before and after the step, then looks
    at the loss along the lines that were taken: at parts of the first step, which tells a step that is too long from
    one in a wrong direction, and at 3 to 1000 times the whole way, which tells a learning rate that is far too low from
    a problem that is hard. A schedule that is still warming up is recognized by updates that keep growing. A rate is
    called far too high or too low only where four times as many steps at a lower or higher rate (each step's change of
    the parameters times a factor, on the same batches) gain measurably more, from two sets of initial parameters. For
    very small batches it measures how much of a step's gradient is noise.

    Why it matters: too high a learning rate shows as predictions that jump to and fro long before the averaged loss
    does; too low a one as predictions that barely move, with a loss that goes down so nicely that nobody asks how far
    it could have gone.

    What to do: draw the curves in the evidence. Change the learning rate by factors of three to ten in the direction
    that the hint names.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: training steps that are followed.
        farther_fail: FAIL when the loss is lowest more than this many times as far along the line that the steps took,
            they gained less than a twenty-fifth of what can be gained there, and so they do beside a higher rate. A
            usual learning rate is within a factor of ten of that point.
        farther_warn: WARN beyond this many times, when less than a tenth was gained.
        jump: WARN when the loss on the fixed batch grows to more than this many times what it was, while a shorter
            first step would have lowered it; FAIL beyond ten times, or when nothing is gained in the end, where a lower
            rate does better.
        noise: WARN when more than this share of a step's gradient is noise and a batch holds one or two examples.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "visualize prediction dynamics".
    """
    run = follow(setup, key, steps)
    bounds = Bounds(farther_fail=farther_fail, farther_warn=farther_warn, jump=jump)
    findings, line = learning_rate_findings(setup, key, run, bounds)
    noisy, share = _noise(setup, key, run, noise)
    findings += [] if noisy is None else [noisy]
    known = {measure.name for finding in findings for measure in finding.measures}
    grown = largest(run, jump)
    grown = grown if grown.verdict is None else replace(grown, code="")
    measures = [measure for measure in (*_measures(run, line), grown, *share) if measure.name not in known]
    warm = "; the updates still grow, as in a warm-up" if run.warming_up else ""
    return Result(
        summary=f"{course(run)}, with {run.jitter:.0%} of jitter{warm}.",
        findings=tuple(findings),
        measures=tuple(measures),
        evidence=_evidence(run, line),
    )


def _measures(run: Run, line: Line) -> list[Measure]:
    numbers = {
        "loss on the fixed batch, start": float(run.fixed[0]),
        "loss on the fixed batch, end": run.last,
        "largest loss on the fixed batch": float(run.fixed.max()),
        "jitter": run.jitter,
        "turning back": run.turning,
        "steps that raise the loss of their own batch": run.raised,
    }
    if line.known:
        numbers |= {"lowest loss along the line": line.lowest, "fraction of the gain along the line": line.gained}
    return [Measure(name=name, value=value) for name, value in numbers.items()]


def _noise(setup: Setup, key: PRNGKeyArray, run: Run, most: float) -> tuple[Finding | None, tuple[Measure, ...]]:
    """How much of a step's gradient is noise, where batches are very small and every one is a step."""
    enough = setup.train.size > FEWEST_BATCHES * SMALL_BATCH
    if setup.batch_size > SMALL_BATCH or not enough or not (run.moved > 0).all() or not run.finite:
        return None, ()
    share = Measure(
        name="share of noise in a step's gradient",
        value=gradient_noise(setup, key),
        high=most,
        severity=Severity.WARN,
        thresholds={"high": "noise"},
        code="optimizer/batch-too-small",
    )
    if share.verdict is None:
        return None, (share,)
    text = f"{share.value:.0%} of a step's gradient is noise, at a batch size of {setup.batch_size}."
    return warning(share.code, text, measures=(share,)), (share,)


def _evidence(run: Run, line: Line) -> tuple[Curve, ...]:
    """The predictions, the losses, and the loss along the line."""
    steps = np.arange(len(run.predictions))
    followed = np.nan_to_num(np.ptp(run.predictions, axis=0)).argmax(axis=1)
    examples = range(min(MOST_LINES, run.predictions.shape[1]))
    lines = {f"example {example}": run.predictions[:, example, followed[example]] for example in examples}
    losses = {"fixed batch": run.fixed[1:], "own batch, before": run.own[:, 0], "own batch, after": run.own[:, 1]}
    predictions = Curve(
        title="Predictions on a fixed batch, step by step", x=steps, series=lines, y_label="output that moves most"
    )
    curves = (predictions, Curve(title="Loss of the first steps", x=steps[1:], series=losses, y_label="loss"))
    if not line.known:
        return curves
    farther = Curve(
        title="Training loss farther along the line that the steps took",
        x=np.log10(np.array(FARTHER)),
        series={"loss": line.losses[1:]},
        x_label="log10 of times as far",
        y_label="loss",
        levels={"start": float(line.losses[0])},
        log_y=True,
    )
    return (*curves, farther)
