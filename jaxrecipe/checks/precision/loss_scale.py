"""Loss scale: do the gradients fit into the format at the scale in force, now and over some tens of steps?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.precision.numerics import Advice, Survey, advise, joined, shares, survey, worst_rows
from jaxrecipe.probes import half_precision as half
from jaxrecipe.probes.exponent_map import exponent_map
from jaxrecipe.report.result import Curve, Evidence, Result, Status, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="loss_scale", stage="precision")
Verdict = tuple[Status, str, str]


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

    What it does: computes the gradients of the first batch in your precision at the scale in force and in strict float32, and counts
    what became infinite or zero, layer by layer. Draws the exponents of all gradients, those of activations included, under the range
    of the format at that scale, and reads the best power-of-two scale off them. Then takes some tens of steps with your own training
    step and counts the skipped ones.

    Why it matters: float16 gradients below 6e-8 are zero and the layers that have them stop learning; above 65,504 they are infinite
    and the step is spoilt or skipped. Neither raises an error.

    What to do: for float16 use `loss_scale=jr.dynamic_loss_scale()`, or `jr.static_loss_scale` with the advised number. bfloat16 has
    float32's range and needs none. If the scale stands at its floor, lower the floor or keep the layer in float32.

    Args:
        setup: the set-up.
        key: seeds dropout and the steps.
        steps: training steps to take; a dynamic scale that starts at 2**24 needs 24 of them to come down to 1.
        underflow: FAIL when more than this share of a layer's gradient becomes zero. Only numbers of at least a hundredth of the
            layer's root mean square count, since smaller ones matter to no optimizer.
        little_underflow: WARN above this share: the layer still learns, and gradients shrink as training goes on.
        headroom: powers of two that the advised scale leaves for gradients to grow.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2.
    """
    found, scale = half.half_format(setup), half.scale_in_force(setup)
    if found is None:
        return _float32(scale)
    if found.where == "step":
        return _result(
            status=Status.SKIP,
            finding=f"Your own step computes in {found.dtype}, but the task's policy is float32, so the check cannot see how: declare "
            f'Task(policy="{found.dtype}").',
        )
    gradients = half.gradients(setup, key)
    full = gradients.full(setup.params, None)
    if not bool(trees.all_finite(full)) or not any(np.any(leaf) for leaf in half.as_numpy(full).values()):
        return _result(status=Status.SKIP, finding="The gradients are zero or not finite in float32 already.")
    at, low = half.settled(gradients, setup.params, scale)
    survey_now = _survey(setup, key)
    advice = advise(survey_now, found.dtype, headroom=headroom)
    lost = _lost(low, full, half.undetermined(gradients, setup.params, full, key))
    run = _run(setup, key, steps)
    case = _Case(found.dtype, scale, at, bool(trees.all_finite(low)), lost, advice, run)
    verdict = _verdict(setup, case, key, full, low, underflow, little_underflow)
    lost_now = shares(joined(survey_now), found.dtype, scale=_power_of_two(at))
    measured: dict[str, Any] = {
        "loss scale": scale.value,
        "scale that the first step goes through at": at if case.goes_through else "none",
        "advised scale": advice.scale,
        "headroom at the advised scale, powers of two": advice.headroom,
        "largest share of a layer's gradient that becomes zero": lost.share,
        "the layer that loses most": lost.layer,
        "share of all gradients below the range, worst array": float(lost_now.underflow.max()),
        "share of all gradients above the range, worst array": float(lost_now.overflow.max()),
        "steps taken": run.steps,
        "steps skipped": run.skipped if run.skipped is not None else "cannot be seen",
        "scale after them": float(run.scales[-1]) if run.scales.size else scale.value,
    }
    expected = {
        "largest share of a layer's gradient that becomes zero": f"up to {little_underflow:g}",
        "steps skipped": "few, and none at the end",
    }
    status, finding, hint = verdict
    return _result(
        status=status,
        finding=finding,
        hint=hint,
        measured=measured,
        expected=expected,
        evidence=_evidence(survey_now, found.dtype, at, run),
    )


@dataclass(frozen=True)
class Lost:
    """The layer of which the largest share of the gradient became zero."""

    layer: str
    share: float


@dataclass(frozen=True)
class Run:
    """Some steps of the loop itself.

    Attributes:
        steps: taken until the end or until something broke.
        skipped: steps that were skipped, or None where a loop of the user's own does not show it.
        stuck: steps in a row that were skipped at the end.
        scales: the scale after each step, as far as it is shown.
        broken: the first parameter or model state that was not finite any more, "" when all are.
        losses: as the step reported them; NaN where it did not.
    """

    steps: int
    skipped: int | None
    stuck: int
    scales: Float[np.ndarray, "shown"]
    broken: str
    losses: Float[np.ndarray, "steps"]


@dataclass(frozen=True)
class _Case:
    """Everything that was measured."""

    dtype: str
    scale: half.Scale
    at: float
    goes_through: bool
    lost: Lost
    advice: Advice
    run: Run


def _float32(scale: half.Scale) -> Result:
    if scale.kind in ("none", "unknown"):
        return _result(status=Status.SKIP, finding="Everything is computed in float32, which needs no loss scale.")
    return _result(
        status=Status.WARN,
        finding=f"There is a {scale.kind} loss scale of {scale.value:g}, but everything is computed in float32.",
        hint="A loss scale does nothing for float32 but hide what is not finite behind skipped steps. Leave it out, or declare the "
        'half-precision policy that it is meant for: Task(policy="float16").',
        measured={"loss scale": scale.value},
        expected={"loss scale": "none"},
    )


def _survey(setup: Setup, key: PRNGKeyArray) -> Survey:
    params, *rest = half.arguments(setup, key)
    return survey(half.float32_loss(setup), trees.widen(params), *rest)


def _lost(low: Any, full: Any, noise: set[str]) -> Lost:
    """Among the numbers that matter to a layer, how many became zero: of the worst layer."""
    ours, theirs = half.as_numpy(low), half.as_numpy(full)
    share = {name: _share_lost(ours[name], theirs[name]) for name in theirs if name not in noise}
    worst = max(share, key=lambda name: share[name], default="")
    return Lost(worst, share[worst]) if worst else Lost("none", 0.0)


def _share_lost(low: Float[np.ndarray, "..."], full: Float[np.ndarray, "..."]) -> float:
    matters = half.matters(full)
    return float((low[matters] == 0).mean()) if matters.any() else 0.0


def _run(setup: Setup, key: PRNGKeyArray, steps: int) -> Run:
    """Training by the loop's own step from a fresh state."""
    state, scales, skips, losses = setup.fresh_state(), [], [], []
    shown = half.shown_scale(state)
    broken = ""
    for step in range(steps):
        state, metrics = setup.step(state, *setup.training_batch(step), jax.random.fold_in(key, step))
        losses.append(float(metrics.get("loss", math.nan)))
        before, shown = shown, half.shown_scale(state)
        if shown is not None:
            scales.append(shown)
        skips.append(_was_skipped(metrics, len(skips), sum(map(bool, skips)), before, shown))
        broken = _first_broken(setup, state)
        if broken:
            break
    known = [skip for skip in skips if skip is not None]
    stuck = next((index for index, skip in enumerate(reversed(known)) if not skip), len(known))
    return Run(
        steps=len(losses),
        skipped=sum(known) if known else None,
        stuck=stuck,
        scales=np.asarray(scales, np.float64),
        broken=broken,
        losses=np.asarray(losses, np.float64),
    )


def _was_skipped(
    metrics: Mapping[str, Any], _taken: int, already: int, before: float | None, after: float | None
) -> bool | None:
    """Whether a step was skipped: by the library's count, or because a dynamic scale went down; None when nothing shows it."""
    if "skipped" in metrics:
        return int(metrics["skipped"]) > already
    return None if before is None or after is None else after < before


def _first_broken(setup: Setup, state: Any) -> str:
    params, model_state = setup.loop.variables(state)
    watched = {"parameters": params, "model state": model_state}
    index = int(trees.first_nonfinite(watched))
    return trees.paths(watched)[index] if index >= 0 else ""


def _verdict(
    setup: Setup, case: _Case, key: PRNGKeyArray, full: Any, low: Any, underflow: float, little: float
) -> Verdict:
    """What is wrong, most certain first."""
    if not case.goes_through and case.scale.kind != "unknown":
        return _overflows(setup, case, key)
    if case.run.broken:
        return _broke(setup, case)
    if case.run.stuck >= 8:
        return _stuck(case)
    if case.lost.share > little and case.goes_through:
        return _underflows(setup, case, key, full, low, underflow)
    if (
        case.scale.kind == "static"
        and case.dtype == "float16"
        and case.at > 2 * case.advice.scale * 2**case.advice.headroom
    ):
        return Status.WARN, f"The static scale of {case.at:g} leaves no room.", _advised(case)
    if case.run.skipped and case.run.skipped > max(10, case.run.steps // 2):
        told = f"{case.run.skipped} of the first {case.run.steps} steps were skipped before the scale came down to {case.run.scales[-1]:g}."
        return Status.WARN, told, f"Start lower: jr.dynamic_loss_scale(init_scale={_power(case.advice.scale)})."
    return Status.PASS, _fine(case), ""


def _fine(case: _Case) -> str:
    if case.dtype == "bfloat16" and case.scale.kind in ("none", "unknown"):
        return "All gradients fit into bfloat16, which has the range of float32 and needs no loss scale."
    scale = "without a loss scale" if case.scale.kind in ("none", "unknown") else f"at loss scale {case.at:g}"
    skipped = "" if case.run.skipped is None else f"; {case.run.skipped} of {case.run.steps} steps were skipped"
    return f"{case.lost.share:.1%} of the worst layer's gradient becomes zero in {case.dtype} {scale} (advised: {case.advice.scale:g}){skipped}."


def _advised(case: _Case) -> str:
    room = f"gradients may then still grow 2**{case.advice.headroom} times"
    return (
        f"Use jr.dynamic_loss_scale(), or jr.static_loss_scale({_power(case.advice.scale)}): {room}. Or use bfloat16, which has the range of "
        "float32 and needs no scale."
    )


def _overflows(setup: Setup, case: _Case, key: PRNGKeyArray) -> Verdict:
    broken = half.first_broken(setup, key)
    if broken is not None:
        finding = f"{case.dtype} overflow in the forward pass: {broken.where} is not finite, at any loss scale."
        hint = (
            f"No loss scale helps here. Keep {broken.where} and what sums in it (norms, softmax, the loss) in float32 by a policy override or a "
            "cast in the model, bring its inputs into range, or use bfloat16."
        )
        return Status.FAIL, finding, hint
    finding = f"{case.dtype} overflow: at loss scale {case.scale.value:g} the first step's gradients are not finite."
    if case.scale.kind == "dynamic":
        return (
            Status.FAIL,
            f"{finding[:-1]}, and not at the floor of {max(case.scale.floor, case.at):g} either.",
            f"Lower the floor (jr.dynamic_loss_scale(min_scale={_power(case.advice.scale)})), or look for a layer whose backward pass divides by "
            "something that is zero in float16.",
        )
    return Status.FAIL, finding, _advised(case)


def _broke(setup: Setup, case: _Case) -> Verdict:
    finding = f"After {case.run.steps} steps {case.run.broken} is not finite."
    kept = [leaf.dtype.name for leaf in jax.tree.leaves(setup.params) if trees.is_floating(leaf)]
    if "float16" in kept and case.scale.kind in ("static", "dynamic", "none") and case.goes_through:
        hint = (
            "The first gradients fit into float16, so no loss scale helps: parameters are kept in float16, where Adam's epsilon is zero. See "
            "half_precision_updates."
        )
    elif case.dtype == "float16":
        hint = (
            "A gradient has overflown float16 later on and was applied all the same: give the task jr.dynamic_loss_scale(), which skips such "
            "steps, or skip them in your own step."
        )
    else:
        hint = "bfloat16 has the range of float32: look for a NaN that float32 has too, such as a learning rate that is too high."
    return Status.FAIL, finding, hint


def _stuck(case: _Case) -> Verdict:
    finding = (
        f"The last {case.run.stuck} of {case.run.steps} steps were all skipped; the scale is {case.run.scales[-1]:g}."
    )
    if case.scale.kind == "dynamic" and case.run.scales[-1] > max(case.scale.floor, 1.0):
        return (
            Status.WARN,
            finding,
            f"The scale is still coming down: start lower, jr.dynamic_loss_scale(init_scale={_power(case.advice.scale)}).",
        )
    return (
        Status.FAIL,
        finding,
        "Nothing is learnt any more. A static scale or a floor cannot give way: use a smaller one, keep the layer that overflows in "
        f"float32, or look for a NaN that float32 has too. {_advised(case)}",
    )


def _underflows(setup: Setup, case: _Case, key: PRNGKeyArray, full: Any, low: Any, underflow: float) -> Verdict:
    where = "without a loss scale" if case.scale.kind in ("none", "unknown") else f"at loss scale {case.at:g}"
    finding = (
        f"{case.dtype} underflow: {case.lost.share:.0%} of the gradient of {case.lost.layer} becomes zero {where}."
    )
    ceiling = float(setup.task.loss_scale.max_scale)
    if case.scale.kind == "dynamic" and case.at < case.advice.scale and ceiling < case.advice.scale:
        hint = f"The scale's ceiling of {ceiling:g} is below the advised {case.advice.scale:g}: raise it."
        return (Status.FAIL if case.lost.share > underflow else Status.WARN), finding, hint
    if case.scale.kind == "dynamic" and case.at < case.advice.scale:
        # It will grow to where the gradients fit.
        hint = f"The dynamic scale starts low and grows slowly: start it at {_power(case.advice.scale)}."
        return Status.WARN, finding, hint
    certain = case.lost.share > underflow
    if case.scale.kind == "unknown":
        moves = _own_step_moves_them(setup, key, full, low)
        if moves is True:
            told = f"{finding[:-1]}, but your own step moves those parameters: it scales the loss itself."
            return Status.PASS, told, ""
        if moves is None:
            hint = f"If your own step scales the loss, declare it: Task(loss_scale=...). If not: {_advised(case)}"
            return Status.WARN, finding, hint
    return (Status.FAIL if certain else Status.WARN), finding, _advised(case)


def _own_step_moves_them(setup: Setup, key: PRNGKeyArray, full: Any, low: Any) -> bool | None:
    """Whether a step of the user's own loop updates what the unscaled gradient has lost; None when that cannot be told.

    The optimizer is given both gradients, the whole one and the one with zeros; the real step is nearer to one of them.
    """
    params = setup.params
    state, _ = setup.step(setup.fresh_state(), *setup.batch, key)
    before, after = half.as_numpy(params), half.as_numpy(setup.loop.variables(state)[0])
    by_full, by_low = (half.as_numpy(half.optimizer_step(setup, params, grads)[0]) for grads in (full, low))
    ours, wide = half.as_numpy(low), half.as_numpy(full)
    lost = {name: half.matters(wide[name]) & (ours[name] == 0) for name in wide}
    moved, whole, zero = (
        np.concatenate([tree[name][lost[name]] for name in wide])
        for tree in ({name: after[name] - before[name] for name in before}, by_full, by_low)
    )
    between = float(np.linalg.norm(whole - zero))
    far = [float(np.linalg.norm(moved - guess)) / max(between, 1e-300) for guess in (whole, zero)]
    if not between or min(far) > 0.5:
        return None
    return far[0] < far[1]


def _power_of_two(scale: float) -> float:
    return 2.0 ** math.floor(math.log2(scale))


def _power(scale: float) -> str:
    """A power of two as one writes it."""
    return f"{scale:g}" if 1 <= scale < 2**17 else f"2.0**{int(math.log2(scale))}"


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
