"""What runs with scaled updates say of the step as it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxrecipe.checks.step.learns_one_batch.scaled_runs import Run
from jaxrecipe.diagnosis.measure import Severity

UPHILL = (-1.0, -0.1)
"""Scales that turn the updates around; the smaller one where the step is too large as well."""
SMALLER = (0.1, 0.01)
"""Scales as for a learning rate that is too high."""
LARGER = (10.0, 100.0, 1e4, 1e6)
"""Scales as for one that is too low."""
TURNED = 0.02
"""Share of the first loss by which a reversed run must fall: the sign is all that is asked."""
TWICE = 2.0
"""Times the loss at which a smaller run ends that the own one must end at, or have fallen half as far."""
GROWING = 2.0
"""Times that updates grow over a run for a warm-up to be going on."""


@dataclass(frozen=True)
class Verdict:
    """A run that is better than the step as it is, and what that means."""

    code: str
    own: Run
    other: Run
    severity: Severity


@dataclass(frozen=True)
class Limits:
    """The thresholds in force."""

    stalls: float
    clearly: float


def stalls(own: Run, other: Run, share: float) -> bool:
    """Whether a run's loss falls by little of what another one's does, and little of where it began: a loss without a
    lower end falls by any amount when the updates are large.
    """
    return own.fall < share * min(other.fall, abs(own.start))


def too_large(own: Run, others: Sequence[Run], longer: Callable[[], Run], limits: Limits) -> Verdict | None:
    """A run with smaller updates that ends clearly lower, although a short run favors large ones."""
    better = [run for run in others if run.scale in SMALLER and _clearly_lower(own, run, limits)]
    if not better:
        return None
    best = max(better, key=lambda run: run.fall)
    far = not math.isfinite(own.end) or own.fall < best.fall / TWICE or own.end > TWICE * best.end > 0
    sure = far and _clearly_lower(longer(), best, limits)
    return Verdict("optimizer/learning-rate-too-high", own, best, Severity.FAIL if sure else Severity.WARN)


def _clearly_lower(own: Run, other: Run, limits: Limits) -> bool:
    lower = not math.isfinite(own.end) or own.end - other.end > limits.clearly * abs(own.start)
    return other.falls and other.below(own) and lower


def uphill(own: Run, others: Sequence[Run]) -> Verdict | None:
    """A reversed run that falls, where the step and smaller ones like it rise."""
    rising = own.rises and not any(run.falls for run in others if run.scale in SMALLER)
    turned = [run for run in others if run.scale in UPHILL and run.falls and run.fall > TURNED * abs(own.start)]
    if not rising or not turned:
        return None
    return Verdict("step/goes-uphill", own, max(turned, key=lambda run: run.fall), Severity.FAIL)


def too_small(own: Run, others: Sequence[Run], longer: Callable[[], Run], limits: Limits) -> Verdict | None:
    """A run with larger updates that falls clearly, where the step as it is stalls, for long."""
    better = [run for run in others if run.scale in LARGER and _learns(own, run, limits)]
    if not better or not own.sizes.any():
        return None
    best = max(better, key=lambda run: run.fall)
    growing = own.sizes[-1] > GROWING * own.sizes[: max(1, len(own.sizes) // 10)].mean()
    sure = not growing and stalls(longer(), best, limits.stalls)
    code = "optimizer/warm-up-too-long" if growing else "optimizer/learning-rate-too-low"
    return Verdict(code, own, best, Severity.FAIL if sure else Severity.WARN)


def _learns(own: Run, other: Run, limits: Limits) -> bool:
    falls = other.falls and other.fall > limits.clearly * abs(own.start)
    return falls and stalls(own, other, limits.stalls) and other.below(own)
