"""What the first steps say about the learning rate."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.lines import losses_farther, lowest_at, shorter_step_helps
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.rates import HIGHER, LONGER, LOWER, Rate, better_rate
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.run import Run
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.constant_predictor import constant_at_init
from jaxrecipe.probes.other_rates import step_at_rate
from jaxrecipe.probes.small_steps import reasons_for_small_steps
from jaxrecipe.setup import Setup

FAR = 10.0
"""A loss that grows this many times within the steps, where shorter steps would have lowered it, is no accident."""
NOTHING_GAINED = 0.1
"""A run that lowers the loss by less than this share of it has gained nothing."""
MOST_RAISE = 0.9
"""When more than this share of the steps raise the loss of their own batch, they go uphill."""
MANY_RAISE = 0.3
"""When more than this share of them do, they are too long if shorter ones would not."""
AGAINST, WAY_LOST, RESTLESS = -0.4, 0.9, 0.2
"""Predictions go to and fro when steps point against each other by this cosine, more than this share of their way led
nowhere, and each step still moves them by this share of their spread."""
WORTH = 0.05
"""Less than this share of the loss is not worth going farther for."""
FAIL_GAINED, WARN_GAINED = 0.04, 0.1
"""Steps that gained less than these shares of what can be gained on their line were too short; those of a rate that is
far too low have gained less than the first of what a higher rate gains, after a few times as many steps."""
HALF = 0.5
"""Steps that are too long have gained less than this share of what shorter ones gain in as many."""
SMALLEST = 1e-12
"""Keeps a division by zero from being one."""


class Bounds(NamedTuple):
    """Thresholds of the check that bear on the learning rate."""

    farther_fail: float
    farther_warn: float
    jump: float


class Line(NamedTuple):
    """The training loss along the line that the steps took: at the start, and at multiples of the way."""

    losses: Float[np.ndarray, "points"]

    @property
    def known(self) -> bool:
        """Whether it was looked at."""
        return len(self.losses) > 0

    @property
    def lowest(self) -> float:
        """How many times as far as the steps went the loss is lowest."""
        return lowest_at(self.losses)

    @property
    def to_gain(self) -> float:
        """How much lower than at the start the loss gets."""
        return float(np.nanmax(self.losses[0] - self.losses))

    @property
    def gained(self) -> float:
        """Fraction of that which the steps gained."""
        return float((self.losses[0] - self.losses[1]) / self.to_gain) if self.to_gain > 0 else 1.0


def learning_rate_findings(setup: Setup, key: PRNGKeyArray, run: Run, bounds: Bounds) -> tuple[list[Finding], Line]:
    """What is wrong with the steps, the plainest first; a later sign is a consequence of an earlier one."""
    line = Line(losses_farther(setup, key, run))
    if not run.finite:
        text = f"The loss or the predictions are no longer finite after {run.steps} steps."
        return [failure("optimizer/diverged", text)], line
    if not run.moved.any():
        return [failure("step/updates-thrown-away", f"No parameter moves in {run.steps} steps.")], line
    found = (
        _wrong_direction_or_too_long(setup, key, run, bounds)
        or _to_and_fro(run)
        or _too_short(setup, key, run, line, bounds)
    )
    return [] if found is None else [found], line


def course(run: Run) -> str:
    """The run in half a sentence."""
    return f"The loss on a fixed batch goes from {run.fixed[0]:.4g} to {run.last:.4g} in {run.steps} steps"


def largest(run: Run, jump: float) -> Measure:
    """How far the loss on the fixed batch went up, of what it was."""
    start, peak = float(run.fixed[0]), float(run.fixed.max())
    return Measure(
        name="largest loss on the fixed batch, of the start",
        value=1 + (peak - start) / max(abs(start), SMALLEST),
        high=jump,
        severity=Severity.WARN,
        thresholds={"high": "jump"},
        code="optimizer/learning-rate-too-high",
    )


def _wrong_direction_or_too_long(setup: Setup, key: PRNGKeyArray, run: Run, bounds: Bounds) -> Finding | None:
    """Steps that raise the loss: however short they are, or because they are too long."""
    growth, gained = largest(run, bounds.jump), float(run.fixed[0]) - run.last
    uphill = run.raised > MOST_RAISE and gained < 0
    wanders = _nothing_gained(run) and run.jitter > WAY_LOST
    if not (uphill or wanders) and growth.verdict is None and run.raised <= MANY_RAISE:
        return None
    raising = Measure(
        name="steps that raise the loss of their own batch",
        value=run.raised,
        high=MANY_RAISE,
        severity=Severity.WARN,
        code=growth.code,
    )
    raises = f"{run.raised:.0%} of the steps raise the loss of their own batch"
    if shorter_step_helps(setup, run):
        return _too_long(setup, key, run, (growth, raising), raises)
    if uphill:
        likely = causes("step/goes-uphill", "loss/sign-flipped")
        return failure(
            "step/goes-uphill",
            f"{course(run)}, and {raises}, however short.",
            measures=(replace(raising, code="step/goes-uphill"),),
            causes=likely,
        )
    return None


def _too_long(
    setup: Setup, key: PRNGKeyArray, run: Run, measures: tuple[Measure, Measure], raises: str
) -> Finding | None:
    """Steps of which a part would lower the loss: a failure where a lower rate does better in as many."""
    lost = _nothing_gained(run) or measures[0].value > FAR
    lower = better_rate(setup, key, LONGER * run.steps, LOWER, HALF) if lost else None
    shown = lower is not None and lower.everywhere
    if lost and lower is None and step_at_rate(setup, LOWER[0]) is not None:
        return None  # the loss goes up, and is as low in the end as with shorter steps
    text = f"{course(run)}, by way of {run.fixed.max():.4g}; {raises}. A part of the first step lowers it."
    return Finding(
        code="optimizer/learning-rate-too-high",
        severity=Severity.FAIL if shown else Severity.WARN,
        message=f"{text} {_at_the_rate(lower)}" if shown and lower else text,
        measures=(_share(lower, HALF), *measures) if shown and lower else measures,
    )


def _nothing_gained(run: Run) -> bool:
    """Whether the loss on the fixed batch is about as high in the end as at the start, or higher."""
    return float(run.fixed[0]) - run.last < NOTHING_GAINED * max(abs(float(run.fixed[0])), SMALLEST)


def _share(rate: Rate, least: float) -> Measure:
    """What the own rate gains of what another gains."""
    return Measure(name=f"gain, of that at {rate.factor:g} times the rate", value=rate.share, low=least)


def _at_the_rate(rate: Rate) -> str:
    """What another rate does, in a sentence."""
    return (
        f"At {rate.factor:g} times the rate {rate.steps} steps gain more, from two starts: this one gains "
        f"{rate.share:.1%} of it at most."
    )


def _to_and_fro(run: Run) -> Finding | None:
    """Steps that take back what the last one did."""
    if run.turning >= AGAINST or run.jitter <= WAY_LOST or run.restlessness <= RESTLESS:
        return None
    text = (
        f"The predictions go to and fro: {run.jitter:.0%} of their way led nowhere, and steps point against the last "
        "one."
    )
    measure = Measure(name="turning back", value=run.turning, low=AGAINST, severity=Severity.WARN)
    likely = causes("optimizer/learning-rate-too-high", "optimizer/batch-too-small")
    return warning("optimizer/learning-rate-too-high", text, measures=(measure,), causes=likely)


def _too_short(setup: Setup, key: PRNGKeyArray, run: Run, line: Line, bounds: Bounds) -> Finding | None:
    """Steps that were far too short, by the loss along the line that they took."""
    if run.warming_up or not line.known or line.to_gain < WORTH * max(abs(line.losses[0]), SMALLEST):
        return None
    if constant_at_init(setup).unbounded:  # a loss without a floor is lower the farther one goes
        return None
    measure = Measure(
        name="lowest loss along the line",
        value=line.lowest,
        high=bounds.farther_warn,
        unit="times as far",
        severity=Severity.WARN,
        thresholds={"high": "farther_warn", "fail_high": "farther_fail"},
    )
    if measure.verdict is None or line.gained >= WARN_GAINED:
        return None
    likely = causes(*reasons_for_small_steps(setup, key, run.steps // 2))
    measure = replace(measure, code=likely[0].code)
    text = (
        f"{course(run)}, {line.gained:.1%} of what can be gained: {line.lowest:g} times as far in the same direction "
        f"the training loss would be {np.nanmin(line.losses):.4g}, not {line.losses[1]:.4g}."
    )
    far = line.lowest > bounds.farther_fail and line.gained < FAIL_GAINED
    higher = better_rate(setup, key, LONGER * run.steps, HIGHER, FAIL_GAINED) if far else None
    if higher is None or not higher.everywhere:
        return warning(likely[0].code, text, measures=(measure,), causes=likely)
    measures = (replace(measure, fail_high=bounds.farther_fail), _share(higher, FAIL_GAINED))
    return failure(likely[0].code, f"{text} {_at_the_rate(higher)}", measures=measures, causes=likely)
