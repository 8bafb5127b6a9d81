"""Hypotheses that blame the optimizer: sizes of steps, schedules, clipping, decay, batches of one."""

import numpy as np

from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence
from jaxrecipe.checks.skeleton.overfit_one_batch.trials import Trial
from jaxrecipe.diagnosis.causes.table import Cause, cause

LARGE_STEP = 0.1
"""A step that moves the parameters by a tenth of their size forgets the last ten steps; 1e-3 is usual (Karpathy)."""
SMALL_STEP = 2e-4
"""Steps of a fifth of what is usual need five times as many; below that the rate is the cause by itself."""
SLOW_STEP = 1e-2
"""Up to ten times the usual size, a loss that is still falling at the end says that the steps were too small."""
FAINT = 1e-3
"""Steps of less than this share of the largest are those of a schedule that has run down, if a gradient is left."""
GRADIENT_LEFT = 0.1
"""Share of the first gradient's norm that must be left for small steps to be the schedule's doing."""
RISING = 4.0
"""Steps that keep growing to at least this many times the mean of the first ten are those of a warm-up."""
PARALLEL = 0.99
"""Cosine from which an update points down the gradient: plain SGD, clipped or not; Adam's first update is near 0.7."""
UNMOVED = 1.05
"""An update grows by less than this for ten times the gradient where its norm is clipped."""
SHRUNK = 0.9
"""Parameters that lost a tenth of their size while the loss pulls them outwards are being decayed."""
OUTWARD = 0.2
"""Cosine between the parameters and the way down the gradient: at random it is near 0."""
APART = 0.2
"""Share of the gap between the losses of the two modes that only regularization in one of them explains."""
STILL_FALLING = 0.98
"""The last tenth of the curve, over its minimum, must be lower than the tenth before by this factor."""


def one_at_a_time(evidence: Evidence) -> Cause | None:
    """A batch is one example, and plain Adam learns them together."""
    if evidence.setup.batch_size > 1 or not evidence.trials.adam_learns:
        return None
    closed, steps = evidence.trials.plain_adam
    here = f"Taken together as one batch, plain Adam closes {closed:.0%} of the gap in {steps} steps."
    return cause("optimizer/batch-too-small", here=here)


def steps_too_large(evidence: Evidence) -> Cause | None:
    """Steps move the parameters by a large share of their size, and shorter ones do better."""
    largest = max([evidence.moved, *evidence.run.moved])
    if largest <= LARGE_STEP or (trial := evidence.trials.lower_rate) is None:
        return None
    here = f"Steps move the parameters by up to {largest:.1e} of their size; about 1e-3 is usual. {_at_the_rate(trial)}"
    return cause("optimizer/learning-rate-too-high", here=here)


def schedule_run_down(evidence: Evidence) -> Cause | None:
    """Steps have become faint while there is a gradient."""
    run = evidence.run
    most = max(run.moved, default=0.0)
    if not run.moved or run.moved[-1] >= FAINT * most:
        return None
    if np.linalg.norm(evidence.gradient_at_end) <= GRADIENT_LEFT * evidence.gradient_norm_at_start:
        return None
    last_strong = np.flatnonzero(np.asarray(run.moved) >= FAINT * most)[-1]
    here = (
        f"Steps shrink from {most:.1e} to {run.moved[-1]:.1e} of the parameters' size by step "
        f"{run.steps[last_strong + 2]}, and the gradient is still there."
    )
    return cause("optimizer/schedule-run-down", here=here)


def units_killed(evidence: Evidence) -> Cause | None:
    """All examples have one output now, and had not at the start."""
    if not evidence.same_outputs or evidence.same_outputs_at_start or (trial := evidence.trials.lower_rate) is None:
        return None
    here = (
        "The untrained model tells the examples apart; after the first steps they all have the same output. "
        f"{_at_the_rate(trial)}"
    )
    return cause("optimizer/learning-rate-too-high", here=here)


def warm_up_too_long(evidence: Evidence) -> Cause | None:
    """Steps are too small and keep growing until the end."""
    moved = evidence.run.moved
    if not _too_small(evidence) or len(moved) < 2 or moved[-1] < RISING * evidence.moved:
        return None
    rising = np.diff([np.mean(part) for part in np.array_split(moved, min(len(moved), 4))])
    if not (rising > 0).all():
        return None
    here = (
        f"Steps grow from {moved[0]:.1e} to {moved[-1]:.1e} of the parameters' size by step {evidence.run.steps[-1]}."
    )
    return cause("optimizer/warm-up-too-long", here=here)


def clipped_steps(evidence: Evidence) -> Cause | None:
    """Steps are too small, and no larger for ten times the gradient, though they point down it."""
    if not _too_small(evidence):
        return None
    update = evidence.declared_update
    if not (update.size > 0 and update.cosine > PARALLEL and update.tenfold < UNMOVED):
        return None
    here = (
        f"A gradient of norm {evidence.gradient_norm_at_start:.2g} and one ten times as large give the same step, "
        f"{evidence.moved:.1e} of the parameters' size."
    )
    return cause("optimizer/clipping-too-tight", here=here)


def steps_too_small(evidence: Evidence) -> Cause | None:
    """The parameters move too little at each step."""
    if not _too_small(evidence) or (trial := evidence.trials.higher_rate) is None:
        return None
    here = (
        f"The first steps move the parameters by {evidence.moved:.1e} of their size; about 1e-3 is usual. "
        f"{_at_the_rate(trial)}"
    )
    return cause("optimizer/learning-rate-too-low", here=here)


def decay_swamps(evidence: Evidence) -> Cause | None:
    """The parameters have shrunk, and the loss pulls them outwards where the run stalls."""
    if evidence.size_kept >= SHRUNK or evidence.outward_pull <= OUTWARD:
        return None
    here = (
        f"The parameters have shrunk to {evidence.size_kept:.0%} of their size, and where the run ends the loss pulls "
        f"them outwards (cosine {evidence.outward_pull:.2f})."
    )
    return cause("optimizer/weight-decay-too-strong", here=here)


def optimizer_at_fault(evidence: Evidence) -> Cause | None:
    """Plain Adam learns the same examples with the same model and loss."""
    if not evidence.trials.adam_learns:
        return None
    closed, steps = evidence.trials.plain_adam
    return cause("optimizer/cause-in-optimizer", here=f"Plain Adam closes {closed:.0%} of the gap in {steps} steps.")


def regularized(evidence: Evidence) -> Cause | None:
    """The losses of the two modes are far apart."""
    run = evidence.run
    if evidence.trials.adam_learns or not abs(run.training[-1] - run.evaluation[-1]) > APART * abs(run.gap):
        return None
    here = f"The loss is {run.training[-1]:.3g} in training mode and {run.evaluation[-1]:.3g} in evaluation mode."
    return cause("optimizer/regularization-too-strong", here=here)


def _at_the_rate(trial: Trial) -> str:
    """What the same steps reached at another rate."""
    return f"At {trial.factor:g} times the rate they close {trial.closed:.0%} of the gap in {trial.steps} steps."


def _too_small(evidence: Evidence) -> bool:
    """Whether steps are small by themselves, or not large and the loss still falls at the end."""
    moved = evidence.moved
    return 0 < moved < SMALL_STEP or (0 < moved < SLOW_STEP and _still_falling(evidence))


def _still_falling(evidence: Evidence) -> bool:
    """Whether the loss above its minimum was still on its way down: the last tenth clearly below the tenth before."""
    above = np.asarray(evidence.run.training) - evidence.run.minimum
    tenth = len(above) // 10
    if tenth < 2:
        return False
    return bool(np.median(above[-tenth:]) < STILL_FALLING * np.median(above[-2 * tenth : -tenth]))
