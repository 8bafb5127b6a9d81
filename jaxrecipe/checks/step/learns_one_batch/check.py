"""The step learns one batch, and not better with much larger, much smaller or reversed updates."""

import math
from dataclasses import replace
from functools import cache, partial

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.step.learns_one_batch.judged import (
    LARGER,
    SMALLER,
    UPHILL,
    Limits,
    Verdict,
    too_large,
    too_small,
    uphill,
)
from jaxrecipe.checks.step.learns_one_batch.loss_named import loss_named
from jaxrecipe.checks.step.learns_one_batch.scaled_runs import Run, scaled_run
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.result import Curve, Result, skipped
from jaxrecipe.setup import Setup

PATIENCE = 5
"""Times the steps that a run which fails is given before it counts as one."""
WELL = 0.5
"""Share of the first loss that a run on all batches falls by when nothing can be wrong with its rate."""
ALSO = {
    "optimizer/learning-rate-too-high": ("optimizer/diverged",),
    "optimizer/learning-rate-too-low": ("optimizer/clipping-too-tight", "optimizer/warm-up-too-long"),
    "optimizer/warm-up-too-long": ("optimizer/learning-rate-too-low",),
    "step/goes-uphill": ("loss/sign-flipped",),
}
"""What else each may come from."""


def learns_one_batch(
    setup: Setup, *, key: PRNGKeyArray, steps: int = 40, stalls: float = 0.05, clearly: float = 0.2
) -> Result:
    """The loss of one batch falls when the step is repeated on it, and the size and sign of its updates are right.

    What it does: repeats the loop's own step on the first batch. Then it does the same on copies of the state with the
    updates of the parameters times -1, 0.1 and 10 (and further scales where those could explain a failure): with the
    same batch and keys, so that the losses are pairs. Where the loss of all batches in turn falls by less than half,
    smaller updates are tried on those too. A learning rate is too high when smaller updates end clearly
    lower, and too low when the run as it is stalls, for five times as long, where larger updates learn. A run that
    rises, where a reversed one falls, goes uphill.

    Why it matters: a learning rate that is off by orders of magnitude and a flipped sign raise no error.

    What to do: plot the curves in the evidence, and choose the scale that falls fastest and smoothly.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: length of a run.
        stalls: a run stalls when its loss falls by less than this share of what another one's falls by, and of what it
            began with.
        clearly: the other one must end lower by this share of the first loss at least.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "overfit one batch"; Smith, Cyclical Learning Rates
        (2017), the range test.
    """
    named = loss_named(setup, key)
    if not named.reported:
        return skipped("The step reports no loss. Name it with from_step(..., loss=...), a metric or a function.")
    own = scaled_run(setup, key, 1.0, steps)
    if not math.isfinite(own.start):
        return skipped("The loss is not finite before the first step; stays_finite says why. Repair that first.")
    others = _others(setup, key, own, steps, stalls, clearly)
    longer = cache(partial(scaled_run, setup, key, 1.0, PATIENCE * steps))
    limits = Limits(stalls, clearly)
    verdict = uphill(own, others) or too_large(own, others, longer, limits) or too_small(own, others, longer, limits)
    if verdict is None or verdict.severity is Severity.WARN:
        verdict = _too_large_for_all(setup, key, steps, limits) or verdict
    curves = {f"updates times {run.scale:g}": _shown(run) for run in (own, *others)}
    scaled = [Measure(name=f"the same with updates times {run.scale:g}", value=_share(run)) for run in others]
    return Result(
        summary=f"On one batch the loss goes from {own.start:.4g} to {own.end:.4g} in {steps} steps.",
        findings=() if verdict is None else (_finding(verdict, steps, named.doubt),),
        measures=(_fall(own), *scaled),
        evidence=(Curve(title="Loss on one batch", x=np.arange(steps), series=curves, y_label="loss"),),
    )


def _others(setup: Setup, key: PRNGKeyArray, own: Run, steps: int, stalls: float, clearly: float) -> list[Run]:
    """Runs with other updates: one of each kind, and more of a kind that could explain why the own one fails."""
    if setup.loop.with_params is None:
        return []
    run = partial(scaled_run, setup, key, steps=steps)
    found = [run(scale=scale) for scale in (UPHILL[0], SMALLER[0], LARGER[0])]
    if own.rises or own.fall < found[1].fall:
        found += [run(scale=scale) for scale in (*SMALLER[1:], *(UPHILL[1:] if own.rises else ()))]
    for scale in LARGER[1:]:
        learned = any(one.falls and one.fall > clearly * abs(own.start) for one in found if one.scale in LARGER)
        if own.rises or learned or own.fall >= stalls * abs(own.start):
            break
        found.append(run(scale=scale))
    return found


def _too_large_for_all(setup: Setup, key: PRNGKeyArray, steps: int, limits: Limits) -> Verdict | None:
    """The same comparison with smaller updates on all batches in turn: one alone is learned by any updates."""
    run = partial(scaled_run, setup, key, all_batches=True)
    own = run(1.0, steps)
    if setup.loop.with_params is None or own.fall > WELL * abs(own.start):
        return None
    return too_large(own, [run(scale, steps) for scale in SMALLER], lambda: run(1.0, PATIENCE * steps), limits)


def _share(run: Run) -> float:
    """Share of the first loss by which it falls."""
    return run.fall / max(abs(run.start), 1e-12) if math.isfinite(run.end) else -math.inf


def _fall(own: Run) -> Measure:
    return Measure(name="share by which the loss of one batch falls", value=_share(own))


def _shown(run: Run) -> np.ndarray:
    """Losses that can be drawn: at most ten times the first away."""
    far = 10 * max(abs(run.start), 1e-12)
    return np.nan_to_num(np.clip(run.losses, run.start - far, run.start + far), nan=run.start + far)


def _finding(verdict: Verdict, steps: int, doubt: str) -> Finding:
    """The better run beside the own one; at most a warning where the loss may not be what the step is to lower."""
    own, other = verdict.own, verdict.other
    there = f"to {own.end:.4g}" if math.isfinite(own.end) else "to NaN or infinity"
    text = (
        f"In {steps} steps the loss goes from {own.start:.4g} {there}, and to {other.end:.4g} when every update is "
        f"multiplied by {other.scale:g}."
    )
    likely = causes(verdict.code, *ALSO[verdict.code])
    finding = Finding(code=verdict.code, severity=verdict.severity, message=text, measures=(_fall(own),), causes=likely)
    if not doubt:
        return finding
    doubted = (cause(verdict.code, doubt), *likely[1:])
    return replace(finding, severity=Severity.WARN, message=f"{text} {doubt}", causes=doubted)
