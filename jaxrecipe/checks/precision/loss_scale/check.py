"""Loss scale: do the gradients fit into the format at the scale in force, now and over some tens of steps?"""

import math

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.precision.loss_scale.judge import judge, scale_in_float32
from jaxrecipe.checks.precision.loss_scale.measured import Case, Run, most_lost, own_step_moves_them, take_steps
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.precision.numerics import Survey, advise, joined, shares, survey, worst_rows
from jaxrecipe.probes import half_precision as half
from jaxrecipe.probes.exponent_map import exponent_map
from jaxrecipe.report.result import Curve, Evidence, Result, skipped
from jaxrecipe.setup import Setup


def loss_scale(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 40,
    underflow: float = 0.25,
    little_underflow: float = 0.05,
    headroom: int = 4,
) -> Result:
    """The gradients fit into the half-precision format at the loss scale in force.

    What it does: computes the gradients of the first batch in your precision at the scale in force and in strict
    float32, and counts what became infinite or zero, layer by layer. Draws the exponents of all gradients, those of
    activations included, under the range of the format at that scale, and reads the best power-of-two scale off them.
    Then takes some tens of steps with your own training step and counts the skipped ones.

    Why it matters: float16 gradients below 6e-8 are zero and the layers that have them stop learning; above 65,504 they
    are infinite and the step is spoilt or skipped. Neither raises an error.

    What to do: for float16 use `loss_scale=jr.dynamic_loss_scale()`, or `jr.static_loss_scale` with the advised number.
    bfloat16 has float32's range and needs none. If the scale stands at its floor, lower the floor or keep the layer in
    float32.

    Args:
        setup: the set-up.
        key: seeds dropout and the steps.
        steps: training steps to take; a dynamic scale that starts at 2**24 needs 24 of them to come down to 1.
        underflow: FAIL when more than this share of a layer's gradient becomes zero. Only numbers of at least a
            hundredth of the layer's root mean square count, since smaller ones matter to no optimizer.
        little_underflow: WARN above this share: the layer still learns, and gradients shrink as training goes on.
        headroom: powers of two that the advised scale leaves for gradients to grow.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2.
    """
    found, scale = half.half_format(setup), half.scale_in_force(setup)
    if found is None and scale.kind in ("none", "unknown"):
        return skipped("Everything is computed in float32, which needs no loss scale.")
    if found is None:
        return Result(
            summary="Everything is computed in float32.",
            findings=(scale_in_float32(scale),),
            measures=(Measure(name="loss scale", value=scale.value),),
        )
    if found.where == "step":
        return skipped(
            f"Your own step computes in {found.dtype}, but the task's policy is float32, so the check cannot see how: "
            f'declare Task(policy="{found.dtype}").'
        )
    gradients = half.gradients(setup, key)
    full = gradients.full(setup.params, None)
    if not bool(trees.all_finite(full)) or not any(np.any(leaf) for leaf in half.as_numpy(full).values()):
        return skipped("The gradients are zero or not finite in float32 already.")
    at, low = half.settled(gradients, setup.params, scale)
    survey_now = _survey(setup, key)
    case = Case(
        dtype=found.dtype,
        scale=scale,
        at=at,
        goes_through=bool(trees.all_finite(low)),
        lost=most_lost(low, full, half.undetermined(gradients, setup.params, full, key)),
        advice=advise(survey_now, found.dtype, headroom=headroom),
        run=take_steps(setup, key, steps),
        own_step_moves=own_step_moves_them(setup, key, full, low) if scale.kind == "unknown" else None,
    )
    lost = Measure(
        name="largest share of a layer's gradient that becomes zero",
        value=case.lost.share,
        high=little_underflow,
        fail_high=underflow,
        severity=Severity.WARN,
        thresholds={"high": "little_underflow", "fail_high": "underflow"},
    )
    return Result(
        summary=_in_words(case),
        findings=judge(setup, case, key, lost),
        measures=(lost, *_other_measures(case, survey_now)),
        evidence=_evidence(survey_now, found.dtype, at, case.run),
    )


def _other_measures(case: Case, found: Survey) -> tuple[Measure, ...]:
    """Numbers that inform and do not decide by themselves."""
    beyond, run = shares(joined(found), case.dtype, scale=_power_of_two(case.at)), case.run
    skipped_steps = () if run.skipped is None else (Measure(name="steps skipped", value=run.skipped, unit="steps"),)
    return (
        Measure(name="loss scale", value=case.scale.value),
        Measure(name="scale that the first step goes through at", value=case.at if case.goes_through else math.nan),
        Measure(name="advised scale", value=case.advice.scale),
        Measure(name="headroom at the advised scale", value=case.advice.headroom, unit="powers of two"),
        Measure(name="share of gradients below the range, worst array", value=float(beyond.underflow.max())),
        Measure(name="share of gradients above the range, worst array", value=float(beyond.overflow.max())),
        Measure(name="steps taken", value=run.steps, unit="steps"),
        *skipped_steps,
        Measure(name="scale after the steps", value=float(run.scales[-1]) if run.scales.size else case.scale.value),
    )


def _in_words(case: Case) -> str:
    """What was measured and is right."""
    if case.dtype == "bfloat16" and case.unscaled:
        return "All gradients fit into bfloat16, which has the range of float32 and needs no loss scale."
    scale = "without a loss scale" if case.unscaled else f"at loss scale {case.at:g}"
    steps = "" if case.run.skipped is None else f"; {case.run.skipped} of {case.run.steps} steps were skipped"
    own = ", but your own step moves those parameters: it scales the loss itself" if case.own_step_moves else ""
    return (
        f"{case.lost.share:.1%} of the worst layer's gradient becomes zero in {case.dtype} {scale}{own} (advised "
        "scale: "
        f"{case.advice.scale:g}){steps}."
    )


def _survey(setup: Setup, key: PRNGKeyArray) -> Survey:
    params, *rest = half.arguments(setup, key)
    return survey(half.float32_loss(setup), trees.widen(params), *rest)


def _power_of_two(scale: float) -> float:
    return 2.0 ** math.floor(math.log2(scale))


def _evidence(found: Survey, dtype: str, scale: float, run: Run) -> tuple[Evidence, ...]:
    rows = worst_rows(joined(found), dtype, scale=_power_of_two(scale))
    title = f"Exponents of the gradients: what {dtype} holds at loss scale {scale:g} is in the first row"
    evidence: list[Evidence] = [exponent_map(rows, dtype, scale=_power_of_two(scale), title=title)]
    if np.unique(run.scales).size > 1:
        evidence.append(
            Curve(
                title="Loss scale over the steps",
                x=np.arange(1, len(run.scales) + 1, dtype=np.float64),
                series={"scale": run.scales},
                y_label="loss scale",
                log_y=True,
            )
        )
    return tuple(evidence)
