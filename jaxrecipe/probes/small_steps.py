"""Why steps of an optimizer are small: a clip that cuts every gradient, a schedule far from its peak, or neither."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.probes.first_steps import usual_gradient
from jaxrecipe.probes.schedules import has_schedule, update_probe
from jaxrecipe.setup import Setup

CUT = 0.01
"""A clip that treats a hundredth of the usual gradient like the whole decides the size of every step."""
FAR_BELOW = 1e-8, 1e-7
"""Shares of the usual gradient that no clip cuts; an optimizer that treats these alike takes signs."""
SAME = 1e-3
"""Updates that differ by less than this share are the same."""
FROM_PEAK = 30.0
"""A schedule whose peak is so many times its rate of now decides the size of the steps."""
COUNTS = np.unique(np.geomspace(1, 20_000, 33).astype(np.int64))
"""Steps at which a schedule is looked at."""


def reasons_for_small_steps(setup: Setup, key: PRNGKeyArray, step: int) -> tuple[str, ...]:
    """Codes of the causes of small steps around a step, the likeliest first; the last is the learning rate itself."""
    reasons = []
    if clips_every_gradient(setup, key):
        reasons.append("optimizer/clipping-too-tight")
    peak = peak_of_schedule(setup, key, step)
    if peak is not None and peak[1] > FROM_PEAK:
        reasons.append("optimizer/warm-up-too-long" if peak[0] > step else "optimizer/schedule-run-down")
    others = ("optimizer/learning-rate-too-low", "optimizer/clipping-too-tight", "optimizer/warm-up-too-long")
    return (*reasons, *(code for code in others if code not in reasons))


def clips_every_gradient(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the optimizer treats the usual gradient and a hundredth of it alike, though not all sizes."""
    probe, gradients = setup.memo(update_probe, lambda: update_probe(setup.task.optimizer)), usual_gradient(setup, key)

    def alike(first: float, second: float) -> bool:
        sizes = [float(probe(setup.params, gradients, 1, first=first, second=by).norm) for by in (first, second)]
        return bool(sizes[0] > 0 and abs(sizes[1] / sizes[0] - 1) < SAME)

    return alike(CUT, 1.0) and not alike(*FAR_BELOW)


def peak_of_schedule(setup: Setup, key: PRNGKeyArray, step: int) -> tuple[int, float] | None:
    """At which step the learning rate is highest, and how many times that of a given step; None without schedule."""
    if not has_schedule(setup.task.optimizer, setup.params):
        return None
    probe, gradients = setup.memo(update_probe, lambda: update_probe(setup.task.optimizer)), usual_gradient(setup, key)
    now, *sizes = [
        float(probe(setup.params, gradients, int(count), first=1.0).norm) for count in (max(step, 1), *COUNTS)
    ]
    return int(COUNTS[int(np.argmax(sizes))]), float(max(sizes) / now) if now else np.inf
