"""Overfit one batch: a couple of examples, to the lowest loss that can be reached."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.overfit_one_batch.explain import (
    DIVERGED,
    LOW_BUT_WRONG,
    QUANTITY,
    TWICE_IN_LOSS,
    cause,
    confined_loss,
)
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run, learn
from jaxrecipe.report.result import Curve, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="overfit_one_batch", stage="skeleton")


def overfit_one_batch(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    examples: int = 8,
    closed: float = 0.95,
    nearly: float = 0.9,
    steps: int = 1500,
    patience: int = 200,
    seconds: float = 20.0,
) -> Result:
    """A couple of examples can be learnt by heart, with your own optimizer and your own training step.

    What it does: trains on a few examples (repeated to a full batch, without augmentation) with the training step that will really
    run, until the loss has closed the gap between knowing nothing and the lowest loss there is, and predictions and labels align. It
    stops as soon as that has happened, or when the loss has stalled. The lowest loss comes from your own loss at the best
    outputs, so label smoothing and noisy targets do not confuse it. A failure is taken apart: parameters that do not move, steps
    that go uphill, updates that are too small or too large, outputs that are dead or confined by an activation.

    Why it matters: a set-up that cannot learn eight examples by heart has a bug, and everything else would be built on top of it.

    What to do: follow the hint; it names what the failing run looks like. Plot the curve in the evidence.

    Args:
        setup: the set-up.
        key: seeds the steps.
        examples: how many different examples are learnt; fewer, two at least, where that would be more numbers than half of the parameters.
        closed: the share of the gap that must be closed.
        nearly: a run that stalls with this share closed, and of no known cause, is only a WARN: outputs that are bounded by design (normalised embeddings and a
            temperature) cannot reach the lowest loss of free outputs.
        steps: at most this many steps.
        patience: steps without progress after which the run counts as stalled.
        seconds: at most this much time, compiling and the work of others on the machine not counted; a run that is still falling then is a WARN.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "overfit one batch".
    """
    run = learn(setup, key, examples=examples, closed=closed, steps=steps, patience=patience, seconds=seconds)
    measured: dict[str, Any] = {
        "loss": run.best,
        "lowest loss there is": run.floor,
        "gap closed": run.closed,
        "steps": run.steps[-1],
    }
    expected: dict[str, Any] = {
        "gap closed": f"{closed:g} or more",
        "loss": f"{run.start - closed * (run.start - run.floor):.4g} or less",
    }
    if run.aligned is not None:
        measured["predictions right"], expected["predictions right"] = run.aligned, run.best_share
    status, finding, hint = _judge(setup, run, key, closed, nearly)
    curve = Curve(
        title="Loss on the few examples",
        x=np.asarray(run.steps),
        series={"training mode": np.asarray(run.training), "evaluation mode": np.asarray(run.evaluation)},
        y_label="loss",
        levels={"knowing nothing": run.start, "lowest there is": run.floor},
    )
    evidence = (curve,) if status is Status.PASS else (curve, _outputs_table(run))
    return _result(status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=evidence)


def _judge(setup: Setup, run: Run, key: PRNGKeyArray, closed: float, nearly: float) -> tuple[Status, str, str]:
    """Status, finding and hint of a run."""
    if confined_loss(setup, run):
        finding = (
            f"No output at all scores less than {run.floor:.4g} in this loss; knowing nothing scores {run.start:.4g}."
        )
        return Status.FAIL, finding, TWICE_IN_LOSS
    if run.succeeded:
        return (
            Status.PASS,
            f"Learnt by heart in {run.steps[-1]} steps: loss {run.best:.3g}, the lowest there is {run.floor:.3g}.",
            "",
        )
    reached = f"After {run.steps[-1]} steps the loss is {run.training[-1]:.4g}; knowing nothing scores {run.start:.4g}, the lowest is {run.floor:.4g}"
    if not np.isfinite(run.training[-1]):
        return (
            Status.FAIL,
            f"The loss is no longer finite after {run.steps[-1]} steps on the same few examples.",
            DIVERGED,
        )
    aligned = run.aligned if run.closed >= closed else None
    if run.stalled and aligned is not None and aligned >= max(0.9 * run.best_share, 0.5):
        return (
            Status.PASS,
            f"{reached}: as good as learnt by heart, {100 * aligned:.0f} % of the predictions are right.",
            "",
        )
    hint, known = cause(setup, run, key)
    if aligned is not None and aligned < 0.5:
        finding = f"{reached}, yet only {100 * aligned:.0f} % of the predictions are right."
        return Status.FAIL, finding, hint if hint == QUANTITY else LOW_BUT_WRONG
    if run.stalled and run.closed >= nearly and not known:
        return Status.WARN, f"{reached}: it stalled with {100 * run.closed:.0f} % of the gap closed.", hint
    if run.stalled or not run.out_of_time:
        return Status.FAIL, f"{reached}: it {'stalled' if run.stalled else 'is too slow'}.", hint
    return Status.WARN, f"{reached}: {100 * run.closed:.0f} % of the gap is closed and it was still falling.", hint


def _outputs_table(run: Run) -> Table:
    """What the model says about each of the few examples at the end."""
    leaf = np.asarray(jax.tree.leaves(run.outputs)[0], np.float64)
    targets = np.asarray(jax.tree.leaves(run.targets)[0])
    rows = [
        (
            i,
            np.array2string(np.ravel(targets[i])[:8], precision=3),
            np.array2string(np.ravel(leaf[i])[:10], precision=3, max_line_width=200),
        )
        for i in range(min(8, len(leaf)))
    ]
    return Table(title="Targets and outputs at the end", columns=("example", "target", "output"), rows=rows)
