"""What is wrong with a loss scale, from what was measured."""

import math

import jax
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.precision.loss_scale.measured import Case
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes import half_precision as half
from jaxrecipe.setup import Setup

STUCK = 8
"""Steps skipped in a row at the end, after which a scale is not on its way down any more but stuck: 2**8 is a wide
range."""
MOST_SKIPPED = 10
"""Skipped steps that a dynamic scale may need to come down; more, and more than half of all, is a start that is too
high."""
NO_ROOM = 2.0
"""A static scale this many times above the advised one and its headroom leaves no room for gradients to grow."""


def judge(setup: Setup, case: Case, key: PRNGKeyArray, lost: Measure) -> tuple[Finding, ...]:
    """Findings about a loss scale; what spoils the first step hides everything behind it, so the most certain stands
    alone.
    """
    if not case.goes_through and case.scale.kind != "unknown":
        return (_overflows(setup, case, key),)
    if case.run.broken:
        return (_breaks(setup, case),)
    if case.run.stuck >= STUCK:
        return (_is_stuck(case),)
    if lost.verdict is not None and case.goes_through:
        return _underflows(setup, case, lost)
    room = NO_ROOM * case.advice.scale * 2**case.advice.headroom
    if case.scale.kind == "static" and case.dtype == "float16" and case.at > room:
        return (_misplaced(case, f"The static scale of {case.at:g} leaves no room for gradients to grow."),)
    if case.run.skipped and case.run.skipped > max(MOST_SKIPPED, case.run.steps // 2):
        message = (
            f"{case.run.skipped} of the first {case.run.steps} steps were skipped before the scale came down to "
            f"{case.run.scales[-1]:g}."
        )
        return (_misplaced(case, message),)
    return ()


def scale_in_float32(scale: half.Scale) -> Finding:
    """A loss scale where everything is computed in float32."""
    message = f"There is a {scale.kind} loss scale of {scale.value:g}, but everything is computed in float32."
    return warning("precision/scale-not-needed", message)


def _misplaced(case: Case, message: str) -> Finding:
    return warning("precision/scale-misplaced", message, causes=(cause("precision/scale-misplaced", _advised(case)),))


def _advised(case: Case) -> str:
    return f"Advised is {in_python(case.advice.scale)}; gradients may then still grow 2**{case.advice.headroom} times."


def _overflows(setup: Setup, case: Case, key: PRNGKeyArray) -> Finding:
    """The gradients of the first step are not finite."""
    broken = half.first_broken(setup, key)
    if broken is not None:
        message = f"{case.dtype} overflows in the forward pass: {broken.where} is not finite, at any loss scale."
        return failure("precision/activations-overflow", message)
    message = f"{case.dtype} overflows: at loss scale {case.scale.value:g} the first step's gradients are not finite"
    if case.scale.kind == "dynamic":
        bounded = cause("precision/scale-bounded-too-tightly", f"Lower min_scale. {_advised(case)}")
        message += f", and not at the floor of {max(case.scale.floor, case.at):g} either."
        return failure(bounded.code, message, causes=(bounded, cause("precision/divides-by-zero")))
    return failure(
        "precision/gradients-overflow", f"{message}.", causes=(cause("precision/gradients-overflow", _advised(case)),)
    )


def _breaks(setup: Setup, case: Case) -> Finding:
    """A parameter is not finite after some steps."""
    message = f"After {case.run.steps} steps {case.run.broken} is not finite."
    kept = [leaf.dtype.name for leaf in jax.tree.leaves(setup.params) if trees.is_floating(leaf)]
    if "float16" in kept and case.scale.kind != "unknown" and case.goes_through:
        here = "The first gradients fit into float16, so no loss scale helps: parameters are kept in float16."
        likely: Cause = cause("precision/epsilon-vanishes", here)
    elif case.dtype == "float16":
        here = "A gradient overflows float16 later on and is applied all the same; a dynamic scale skips such steps."
        likely = cause("precision/gradients-overflow", here)
    else:
        likely = cause("optimizer/diverged", "bfloat16 has the range of float32.")
    return failure(likely.code, message, causes=(likely,))


def _is_stuck(case: Case) -> Finding:
    """All the last steps were skipped."""
    message = (
        f"The last {case.run.stuck} of {case.run.steps} steps were all skipped; the scale is {case.run.scales[-1]:g}."
    )
    if case.scale.kind == "dynamic" and case.run.scales[-1] > max(case.scale.floor, 1.0):
        return _misplaced(case, message)
    here = f"A static scale, or one at its floor, cannot give way. {_advised(case)}"
    causes = (cause("precision/gradients-overflow", here), cause("precision/scale-bounded-too-tightly"))
    return failure("precision/gradients-overflow", message, causes=causes)


def _underflows(setup: Setup, case: Case, lost: Measure) -> tuple[Finding, ...]:
    """Gradients became zero."""
    where = "without a loss scale" if case.unscaled else f"at loss scale {case.at:g}"
    message = f"{case.dtype} underflows: {lost.value:.0%} of the gradient of {case.lost.layer} becomes zero {where}."
    ceiling, low = float(setup.task.loss_scale.max_scale), case.at < case.advice.scale
    severity = lost.verdict or Severity.WARN
    if case.scale.kind == "dynamic" and low and ceiling < case.advice.scale:
        here = f"Its max_scale of {ceiling:g} is below the advised {case.advice.scale:g}."
        likely = cause("precision/scale-bounded-too-tightly", here)
    elif case.scale.kind == "dynamic" and low:  # it will grow to where the gradients fit
        return (_misplaced(case, message),)
    elif case.scale.kind == "unknown" and case.own_step_moves:  # the step scales the loss itself
        return ()
    elif case.scale.kind == "unknown" and case.own_step_moves is None:
        here = f"If your own step scales the loss, declare it: Task(loss_scale=...). If not: {_advised(case)}"
        return (
            warning(
                "precision/gradients-underflow",
                message,
                measures=(lost,),
                causes=(cause("precision/gradients-underflow", here),),
            ),
        )
    else:
        likely = cause("precision/gradients-underflow", _advised(case))
    return (Finding(code=likely.code, severity=severity, message=message, measures=(lost,), causes=(likely,)),)


def in_python(scale: float) -> str:
    """A power of two as one writes it."""
    return f"{scale:g}" if 1 <= scale < 2**17 else f"2.0**{int(math.log2(scale))}"
