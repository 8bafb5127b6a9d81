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
STILL_RISING = 0.5
"""A rate that is below this share of its peak then is still far from it."""


def schedule_curve(setup: Setup, gradients: object) -> Curve | None:
    """The learning rate relative to its peak, by the size of an update at other counts; None where it is constant."""
    optimizer, params = setup.task.optimizer, setup.params
    if not has_schedule(optimizer, params):
        return None
    epoch = steps_per_epoch(setup.train.size, setup.batch_size)
    fine = np.linspace(1, FINE_EPOCHS * epoch, FINE_POINTS)
    coarse = np.geomspace(1, max(LONG_EPOCHS * epoch, LONG_STEPS), LONG_POINTS)
    grid = np.unique(np.concatenate([fine, coarse]).astype(np.int64).clip(1, LAST_COUNT))
    probe = setup.memo(update_probe, lambda: update_probe(optimizer))
    sizes = np.array([float(probe(params, gradients, int(count), first=1.0).norm) for count in grid])
    if not np.isfinite(sizes).all() or np.ptp(sizes) <= CONSTANT * sizes.max():
        return None
    return Curve(title="Learning rate, of its peak", x=grid, series={RATE: sizes / sizes.max()})


def schedule_findings(setup: Setup, curve: Curve | None, epochs: float, steps: int) -> list[Finding]:
    """A schedule that has ended, or not begun, by the end of the first epochs, or whose warm-up does not end."""
    if curve is None:
        return []
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


def _last_useful_step(rate: Float[np.ndarray, "points"], grid: Int[np.ndarray, "points"]) -> int | None:
    """The last step on the grid at which the rate is worth anything; None when it is so to the end."""
    last = int(np.flatnonzero(rate > NOTHING)[-1])
    return None if last == len(grid) - 1 else int(grid[last])


def _share_of_peak(name: str, share: float, low: float) -> Measure:
    return Measure(name=name, value=float(share), low=low, severity=Severity.WARN)
