"""Updates: every parameter that should learn gets a gradient and moves, by a sensible amount, and no other does."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.updates.declared_update import declared_update_findings
from jaxrecipe.checks.skeleton.updates.parameters import Parameter, cancelling_biases, watch_parameters
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.first_steps import usual_gradient
from jaxrecipe.probes.output_domain import is_flat
from jaxrecipe.probes.parameter_copies import moving_copy
from jaxrecipe.probes.schedules import has_schedule, steps_an_update, update_probe
from jaxrecipe.probes.small_steps import reasons_for_small_steps
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup

WARM_UP = "optimizer/warm-up-too-long"
WHOLE_UPDATES = 3
"""Updates that are watched at least where several steps make one: the first may have a rate of 0, as in a warm-up."""
LATER = (100, 1000, 10_000)
"""Steps at which a schedule that is 0 at the start should have begun."""
MOST_NAMES = 4
"""Parameters that a message names."""


def updates(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 10,
    small: float = 1e-5,
    large_warn: float = 0.15,
    dead_share: float = 0.5,
    dead_fail: float = 0.8,
    counted: float = 0.9,
) -> Result:
    """Each parameter has a gradient, moves, and is frozen exactly as declared.

    What it does: takes a few steps with the loop's own training step on real batches, and notes for every parameter the
    gradient, the size of a step relative to the parameter, and how many of its output units never get a gradient. Of
    the first gradient it looks at what the declared optimizer makes of it: parameters that it moves by their raw
    gradient, and clipping that counts the gradients of what is frozen.

    Why it matters: a frozen layer left over from fine-tuning, a branch cut off by stop_gradient, dead or identical
    units and updates that are thrown away all leave a network that trains, with less in it than you think.

    What to do: declare what is frozen on purpose (`Task(frozen=("backbone/*",))`). For a parameter without gradient
    follow it to the loss; for one with gradient but no movement look at masks and labels of the optimizer; for steps
    that are too small look at the learning rate, its schedule and clipping.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: training steps taken.
        small: WARN when the largest relative change of a step (over all parameters) is below this; about 1e-3 is usual.
        large_warn: WARN when the median parameter's relative change of a step is above this. Ten steps straight from
            zero change a parameter by a tenth of its final size each; more than that goes to and fro. Parameters that
            start at zero do not count.
        dead_share: WARN when more than this share of a layer's units never gets a gradient in any of the steps.
        dead_fail: FAIL above this share: less than a fifth of the layer that was asked for is there, which no
            initialization leaves by chance.
        counted: FAIL when the gradients of frozen parameters shrink the step of the others below this share of what it
            is without them.

    Source: Karpathy, CS231n notes, ratio of updates to weights.
    """
    each = _steps_an_update(setup)
    steps = max(steps, WHOLE_UPDATES * each) if each > 1 else steps
    parameters = watch_parameters(setup, key, steps)
    if not parameters:
        return skipped("The model has no parameters of floating numbers, so there is nothing to update.")
    free, frozen = ([one for one in parameters if one.frozen is declared] for declared in (False, True))
    largest, median = _changes(free, small, large_warn)
    dead = _dead(free, dead_share, dead_fail)
    findings = [
        *declared_update_findings(setup, key, counted),
        *_frozen_that_move(frozen),
        *_copies_of_one_unit(free),
        *_without_gradient(setup, key, free),
        *_without_movement(setup, key, free, largest, steps),
        *_dead_units(free, dead),
    ]
    told = any(finding.severity is Severity.FAIL or finding.code == WARM_UP for finding in findings)
    if not told:
        findings += _wrong_size(setup, key, free, largest, median)
    summary = f"All {len(free)} parameters get a gradient and move, by {median.value:.1e} of their size in a step."
    if frozen:
        summary += f" {len(frozen)} are frozen as declared."
    return Result(
        summary=summary,
        findings=tuple(findings),
        measures=(*_counts(free, frozen), largest, median, dead),
        evidence=(_table(parameters),),
    )


def _changes(free: Sequence[Parameter], small: float, large: float) -> tuple[Measure, Measure]:
    """Largest and median relative change of a step."""
    ratios = [one.ratio for one in free if one.initial > 0] or [one.ratio for one in free]
    return Measure(
        name="largest relative change of a step",
        value=max(ratios, default=0.0),
        low=small,
        severity=Severity.WARN,
        thresholds={"low": "small"},
    ), Measure(
        name="median relative change of a step",
        value=float(np.median(ratios)) if ratios else 0.0,
        high=large,
        severity=Severity.WARN,
        thresholds={"high": "large_warn"},
    )


def _dead(free: Sequence[Parameter], share: float, fail: float) -> Measure:
    """The largest share of dead units of a layer that is not dead as a whole, which is another finding."""
    return Measure(
        name="largest share of dead units",
        value=max((one.dead for one in free if one.dead < 1), default=0.0),
        high=share,
        fail_high=fail,
        severity=Severity.WARN,
        thresholds={"high": "dead_share", "fail_high": "dead_fail"},
        code="model/dead-units",
    )


def _counts(free: Sequence[Parameter], frozen: Sequence[Parameter]) -> tuple[Measure, ...]:
    """How many parameters have no gradient, do not move, or move although they are frozen."""
    counts = {
        "parameters without gradient": sum(one.gradient == 0 for one in free),
        "parameters that do not move": sum(one.moved == 0 for one in free),
        "frozen parameters that move": sum(one.moved > 0 for one in frozen),
    }
    return tuple(Measure(name=name, value=count, high=0, unit="parameters") for name, count in counts.items())


def _frozen_that_move(frozen: Sequence[Parameter]) -> list[Finding]:
    moving = [one for one in frozen if one.moved > 0]
    text = f"{len(moving)} parameters that are declared frozen move: {_names(moving)}."
    return [failure("optimizer/declared-frozen-moves", text)] if moving else []


def _copies_of_one_unit(free: Sequence[Parameter]) -> list[Finding]:
    twins = [one for one in free if one.twins]
    text = f"The units of {len(twins)} layers are copies of one another: {_names(twins)}."
    return [failure("model/identical-units", text)] if twins else []


def _without_gradient(setup: Setup, key: PRNGKeyArray, free: Sequence[Parameter]) -> list[Finding]:
    """Parameters without gradient, and why, where their pattern says so."""
    blocked = [one for one in free if one.gradient == 0]
    cancelled = cancelling_biases(setup, key, free) if 0 < len(blocked) < len(free) else frozenset()
    blocked = [one for one in blocked if one.path not in cancelled]
    if not blocked:
        return []
    if len(blocked) == len(free) and _is_flat_at_the_start(setup, key):
        text = "No parameter gets a gradient: that of the loss with respect to the outputs is zero already."
        return [failure("loss/flat", text)]
    text = f"{len(blocked)} of {len(free)} parameters get no gradient: {_names(blocked)}."
    zero = [one for one in free if one.matrix and one.initial == 0]
    if len(zero) > 1:  # one alone, the last, learns at once and lets the others learn
        return [failure("model/zero-initialization", f"{text} {len(zero)} matrices start at zero.")]
    learning_layers = {one.layer for one in free if one.gradient > 0}
    if any(one.matrix and one.layer in learning_layers for one in blocked):
        here = "A layer learns its bias and not its matrix: everything that enters it is zero."
        upstream = any(one.layer not in learning_layers for one in blocked)  # nothing comes before the inputs
        codes = ("model/dead-units", "model/input-ignored") if upstream else ("model/input-ignored", "model/dead-units")
        likely = (cause(codes[0], here), *causes(codes[1], "model/unused-parameters"))
        return [failure("model/unused-parameters", text, causes=likely)]
    code = "model/no-gradient" if len(blocked) == len(free) else "model/unused-parameters"
    return [failure(code, text, causes=causes(code, "model/dead-units"))]


def _without_movement(
    setup: Setup, key: PRNGKeyArray, free: Sequence[Parameter], largest: Measure, steps: int
) -> list[Finding]:
    """Parameters that get a gradient and do not move."""
    stuck = [one for one in free if one.gradient > 0 and one.moved == 0]
    if not stuck:
        return []
    if all(one.moved == 0 for one in free):
        if (place := moving_copy(setup, key)) is not None:
            text = (
                "The parameters that variables gives never move; those at "
                f"{place.path} of the state do: an average whose update is never called, or a copy made at the start."
            )
            return [failure("evaluation/stale-parameters", text)]
        if _rate_is_zero(setup, key, steps):
            text = f"No parameter moves: the declared learning rate is 0 in all of the first {steps} steps."
            return [warning(WARM_UP, text)]
        text = "No parameter moves, although they get gradients."
        return [failure("step/updates-thrown-away", text)]
    text = f"{len(stuck)} of {len(free)} parameters get a gradient but do not move: {_names(stuck)}."
    if largest.verdict is None:
        return [failure("optimizer/unintended-freeze", text)]
    text += f" The others hardly do: at most {largest.value:.1e} of their size in a step."
    likely = causes(*reasons_for_small_steps(setup, key, 1), "optimizer/unintended-freeze")
    return [failure(likely[0].code, text, measures=(largest,), causes=likely)]


def _steps_an_update(setup: Setup) -> int:
    """How many steps make an update, by the declared optimizer."""
    return steps_an_update(setup.task.optimizer, setup.params) if setup.task.has_optimizer else 1


def _rate_is_zero(setup: Setup, key: PRNGKeyArray, steps: int) -> bool:
    """Whether the declared optimizer makes nothing of a gradient in these steps, though it does later."""
    if not setup.task.has_optimizer or not has_schedule(setup.task.optimizer, setup.params):
        return False
    probe, gradients = setup.memo(update_probe, lambda: update_probe(setup.task.optimizer)), usual_gradient(setup, key)
    sizes = [float(probe(setup.params, gradients, step, first=1.0).norm) for step in (0, steps - 1, *LATER)]
    return sizes[0] == sizes[1] == 0 and max(sizes) > 0


def _is_flat_at_the_start(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the loss has no gradient with respect to the untrained model's outputs either."""
    if not setup.task.has_loss:
        return False  # an objective may have no outputs
    inputs, targets = setup.batch
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=True, key=key)
    return is_flat(setup, outputs, targets)


def _dead_units(free: Sequence[Parameter], measure: Measure) -> list[Finding]:
    if measure.verdict is None:
        return []
    bound = measure.fail_high if measure.verdict is Severity.FAIL else measure.high
    dead = [one for one in free if (bound or 0.0) < one.dead < 1]
    text = f"In {len(dead)} layers more than {bound:.0%} of the units never get a gradient: {_names(dead)}."
    return [Finding(code="model/dead-units", severity=measure.verdict, message=text, measures=(measure,))]


def _wrong_size(
    setup: Setup, key: PRNGKeyArray, free: Sequence[Parameter], largest: Measure, median: Measure
) -> list[Finding]:
    """Steps that are too small or too large, where nothing is broken."""
    if not all(math.isfinite(one.moved) for one in free):
        likely = causes("optimizer/learning-rate-too-high", "optimizer/diverged")
        return [warning("optimizer/diverged", "Parameters are no longer finite after a few steps.", causes=likely)]
    if free and largest.verdict is not None:
        text = f"The parameters hardly move: at most {largest.value:.1e} of their size in a step, not {largest.wanted}."
        likely = causes(*reasons_for_small_steps(setup, key, 1))
        return [warning(likely[0].code, text, measures=(largest,), causes=likely)]
    if median.verdict is not None:
        text = f"A step changes the median parameter by {median.value:.0%} of its size."
        return [warning("optimizer/learning-rate-too-high", text, measures=(median,))]
    return []


def _table(parameters: Sequence[Parameter]) -> Table:
    columns = ("parameter", "gradient norm", "norm", "change of a step", "relative", "units without gradient", "frozen")
    rows = [
        (one.path, one.gradient, one.size, one.moved, one.ratio, f"{one.dead:.0%}", one.frozen) for one in parameters
    ]
    return Table(title="Parameters", columns=columns, rows=rows)


def _names(parameters: Sequence[Parameter]) -> str:
    paths, more = sorted(one.path for one in parameters), len(parameters) - MOST_NAMES
    return ", ".join(paths[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
