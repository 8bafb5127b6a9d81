"""The learning rate over the steps of a run, and what is wrong with its length."""

import numpy as np
from jaxtyping import Float, Int

from jaxrecipe.data.batches import steps_per_epoch
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.schedules import has_schedule, update_probe
from jaxrecipe.report.result import Curve
from jaxrecipe.setup import Setup

RATE = "learning rate"
FINE_EPOCHS, FINE_POINTS = 2, 33
"""The first epochs are looked at on a fine grid, since a schedule counted in epochs ends there."""
LONG_EPOCHS, LONG_STEPS, LONG_POINTS = 200, 20_000, 65
"""As far as a long run goes, on a coarse grid."""
LAST_COUNT = 2**30
"""Counters are int32."""
CONSTANT = 1e-5
"""Updates that differ by less than this share of the largest are rounding, and no schedule."""
NOTHING = 0.01
"""A rate below this share of its peak teaches nothing more."""
NOT_BEGUN = 1e-3
"""A rate below this share of its peak for a whole epoch has not begun."""
LATE_EPOCHS, LATE_STEPS = 20, 2
"""A warm-up may take so many epochs, or so many times `early_steps`, whichever is longer."""
REACHED = 0.9
"""A warm-up that has not come so far by the end of training is longer than training."""
FAR_BEFORE = 0.5
"""A schedule that has run down within this share of training leaves the rest without a rate."""
FAR_AFTER, LEFT = 1.5, 0.25
"""A schedule that runs down after so many times the length of training, and is above this share of its peak at its end,
was made for a longer run."""
BEYOND = 64
"""Times the length of training as far as a schedule is followed."""
STILL_RISING = 0.5
"""A rate that is below this share of its peak then is still far from it."""


def schedule_curve(setup: Setup, gradients: object) -> Curve | None:
    """The learning rate relative to its peak, by the size of an update at other counts; None where it is constant."""
    optimizer, params = setup.task.optimizer, setup.params
    if not has_schedule(optimizer, params):
        return None
    epoch = steps_per_epoch(setup.train.size, setup.batch_size)
    length = setup.task.steps or epoch
    fine = np.linspace(1, FINE_EPOCHS * epoch, FINE_POINTS)
    coarse = np.geomspace(1, max(LONG_EPOCHS * epoch, LONG_STEPS), LONG_POINTS)
    declared = np.concatenate([np.linspace(1, length, FINE_POINTS), np.geomspace(1, BEYOND * length, FINE_POINTS)])
    grid = np.unique(
        np.concatenate([fine, coarse, *([declared] if setup.task.steps else [])]).astype(np.int64).clip(1, LAST_COUNT)
    )
    probe = setup.memo(update_probe, lambda: update_probe(optimizer))
    sizes = np.array([float(probe(params, gradients, int(count), first=1.0).norm) for count in grid])
    if not np.isfinite(sizes).all() or np.ptp(sizes) <= CONSTANT * sizes.max():
        return None
    return Curve(title="Learning rate, of its peak", x=grid, series={RATE: sizes / sizes.max()})


def schedule_findings(setup: Setup, curve: Curve | None, epochs: float, steps: int) -> list[Finding]:
    """A schedule that has ended, or not begun, by the end of the first epochs, or whose warm-up does not end."""
    if curve is None:
        return []
    if setup.task.steps is not None:
        return _against_length(curve, setup.task.steps)
    epoch = steps_per_epoch(setup.train.size, setup.batch_size)
    rate, grid = curve.series[RATE], curve.x
    ended = _last_useful_step(rate, grid)
    limit = min(epochs * epoch, steps)
    if ended is not None and ended < limit:
        length = Measure(
            name="steps until the schedule has run down", value=ended, low=limit, unit="steps", severity=Severity.WARN
        )
        text = (
            f"The learning rate is below {NOTHING:.0%} of its peak from step {ended + 1} or soon after, and an epoch "
            f"has {epoch} steps."
        )
        return [warning("optimizer/schedule-run-down", text, measures=(length,))]
    if epoch > 1 and rate[grid < epoch].max() < NOT_BEGUN:
        text = f"The learning rate is below {NOT_BEGUN:.1%} of its peak for the whole first epoch of {epoch} steps."
        start = _share_of_peak("learning rate in the first epoch, of its peak", rate[grid < epoch].max(), NOT_BEGUN)
        return [warning("optimizer/warm-up-too-long", text, measures=(start,))]
    late = max(LATE_EPOCHS * epoch, LATE_STEPS * steps)
    if grid[np.argmax(rate)] > late and rate[grid <= late].max() < STILL_RISING:
        text = f"The learning rate is still rising after {late} steps, {late // epoch} epochs."
        reached = _share_of_peak(
            f"learning rate after {late} steps, of its peak", rate[grid <= late].max(), STILL_RISING
        )
        return [
            warning(
                "optimizer/warm-up-too-long", text, measures=(reached,), causes=causes("optimizer/warm-up-too-long")
            )
        ]
    return []


def _against_length(curve: Curve, steps: int) -> list[Finding]:
    """A schedule that is made for another number of steps than training takes."""
    rate, grid = curve.series[RATE], curve.x
    during, ended = rate[grid <= steps], _last_useful_step(rate, grid)
    reached = _share_of_peak(f"learning rate within {steps} steps, of its peak", during.max(), REACHED)
    if reached.verdict is not None:
        text = f"Training takes {steps} steps, in which the learning rate reaches {during.max():.0%} of its peak."
        return [warning("optimizer/warm-up-too-long", text, measures=(reached,))]
    length = Measure(
        name="steps until the schedule has run down",
        value=ended or float("inf"),
        low=FAR_BEFORE * steps,
        unit="steps",
        severity=Severity.WARN,
    )
    if length.verdict is not None:
        text = f"The learning rate is below {NOTHING:.0%} of its peak from about step {ended} of {steps}."
        return [warning("optimizer/schedule-run-down", text, measures=(length,))]
    left = Measure(
        name=f"learning rate after {steps} steps, of its peak",
        value=float(during[-1]),
        high=LEFT,
        severity=Severity.WARN,
    )
    if ended is not None and ended > FAR_AFTER * steps and left.verdict is not None:
        text = (
            f"Training ends after {steps} steps at {during[-1]:.0%} of the peak learning rate; the schedule would come "
            f"down to {NOTHING:.0%} at about step {ended}."
        )
        return [warning("optimizer/schedule-outlasts-training", text, measures=(left,))]
    return []


def _last_useful_step(rate: Float[np.ndarray, "points"], grid: Int[np.ndarray, "points"]) -> int | None:
    """The last step on the grid at which the rate is worth anything; None when it is so to the end."""
    last = int(np.flatnonzero(rate > NOTHING)[-1])
    return None if last == len(grid) - 1 else int(grid[last])


def _share_of_peak(name: str, share: float, low: float) -> Measure:
    return Measure(name=name, value=float(share), low=low, severity=Severity.WARN)
