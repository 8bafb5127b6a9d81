"""Precision parity: are the gradients in half precision those of float32, layer by layer?"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.precision.parity import LayerParity, parity
from jaxrecipe.probes import half_precision as half
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="precision_parity", stage="precision")
EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
SMALLEST = {"bfloat16": 2.0**-126, "float16": 2.0**-20}
"""Below these a number, or what it is the sum of, may have become zero."""
MOST_ROWS = 40


def precision_parity(
    setup: Setup, *, key: PRNGKeyArray, roundings: float = 128.0, beyond_rounding: float = 4.0, lost: float = 0.9
) -> Result:
    """The gradient of every layer in half precision is that of float32, up to rounding.

    What it does: computes the gradients of the first batch as your policy has them (at the loss scale in force, or the one that a
    dynamic scale settles at) and in strict float32, and compares them layer by layer: cosine, relative error, ratio of norms. Beside
    it stands what rounding parameters and inputs to the format does by itself. Layers whose float32 gradient is rounding noise too
    (a bias before a BatchNorm) are left out.

    Why it matters: one layer whose sums overflow or cancel in half precision trains on noise while the others and the loss look well.

    What to do: keep norms, softmax, the loss and the final layer in float32: `Policy(compute_dtype="float16", overrides=(("LayerNorm_*",
    "float32"),))` for parameters, and a cast in the model where it sums; return float32 outputs; give float16 a loss scale.

    Args:
        setup: the set-up.
        key: seeds dropout, the same in both precisions.
        roundings: WARN when a layer's relative error is above so many units of rounding: 128 is as far as 16,000 roundings take
            a number at random (in sixteen healthy set-ups the worst layer had 25 in bfloat16 and 35 in float16).
        beyond_rounding: and above so many times what rounding parameters and inputs alone does (healthy kernels: 0.9 to 3.3).
        lost: FAIL when the relative error is above this: a gradient of zero, or one that points anywhere, has 1 or more.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, sections 3.1 and 3.3.
    """
    found = half.half_format(setup)
    reason = _not_comparable(setup, found)
    if found is None or reason:
        return _result(status=Status.SKIP, finding=reason)
    gradients = half.gradients(setup, key)
    full = gradients.full(setup.params, None)
    if not bool(trees.all_finite(full)):
        return _result(status=Status.SKIP, finding="The gradients are not finite in float32 either.")
    scale, low = half.settled(gradients, setup.params, half.scale_in_force(setup))
    compared = _compare(gradients, setup, low, full, found.dtype, key, scale)
    allowed = roundings * EPSILON[found.dtype]
    measured, evidence = _measured(compared, scale), (_table(compared, found.dtype),)
    expected: dict[str, Any] = {"worst relative error": f"up to {allowed:.2g}", "worst cosine": "near 1"}
    report = partial(_result, measured=measured, expected=expected, evidence=evidence)
    if not compared.layers:
        return report(status=Status.SKIP, finding="No layer has a gradient in float32 that could be compared.")
    worst = compared.layers[0]
    told = f"{_told(worst)} (loss scale {scale:g})."
    if worst.low.relative_error > lost:
        if _random(setup, full, worst, key):
            return report(status=Status.WARN, finding=told, hint=RANDOM)
        return report(status=Status.FAIL, finding=told, hint=_cause(setup, found.dtype, worst, key, scale))
    odd = [
        layer
        for layer in compared.layers
        if layer.low.relative_error > max(allowed, beyond_rounding * layer.rounding) and np.size(layer.zeros) > 1
    ]
    if odd:
        hint = _cause(setup, found.dtype, odd[0], key, scale)
        return report(status=Status.WARN, finding=f"{_told(odd[0])} (loss scale {scale:g}).", hint=hint)
    finding = (
        f"All {len(compared.layers)} layers have in {found.dtype} the gradients of float32: the worst, {worst.name}, has a relative "
        f"error of {worst.low.relative_error:.2g} and cosine {worst.low.cosine:.4f}."
    )
    return report(status=Status.PASS, finding=finding)


RANDOM = (
    "The float32 gradient changes as much with another key, so this may be another draw: noise that is drawn in the dtype of its input "
    "is other noise in half precision. Draw it in float32, or set dropout to zero, and run this check again."
)
FLOAT32 = (
    "keep norms, softmax, sums and the final layer in float32 (policy overrides, or a cast to float32 inside the model)"
)


@dataclass(frozen=True)
class Layer:
    """One layer's gradient: in half precision, what rounding alone does to it, which numbers became zero, and the share of those
    that are below the format's range at the scale.
    """

    name: str
    low: LayerParity
    rounding: float
    zeros: np.ndarray
    too_small: float


@dataclass(frozen=True)
class Compared:
    """Layers, the worst first, and those that cannot be compared."""

    layers: list[Layer]
    left_out: list[str]


def _not_comparable(setup: Setup, found: half.HalfFormat | None) -> str:
    """Why there is nothing to compare, and how to get the check; empty when there is."""
    if found is None:
        return "Everything is computed in float32."
    if found.where == "step":
        return (
            f"Your own step computes in {found.dtype}, but the task's policy is float32, so the check cannot see how: "
            f'declare Task(policy="{found.dtype}").'
        )
    program = jax.make_jaxpr(half.float32_loss(setup))(*half.arguments(setup, setup.key))
    if half.half_of(program):
        return (
            f"The model's modules fix {found.dtype} themselves, so there is no float32 twin to compare with: leave their dtype None "
            f'and declare Task(policy="{found.dtype}").'
        )
    return ""


def _compare(
    gradients: half.Gradients, setup: Setup, low: Any, full: Any, dtype: str, key: PRNGKeyArray, scale: float
) -> Compared:
    ours, rounding = parity(low, full), parity(gradients.full(setup.params, dtype), full)
    noise = half.undetermined(gradients, setup.params, full, key)
    noise = {name for name in noise if np.isfinite(ours[name].relative_error) or ours[name].norm_ratio != np.inf}
    wide, narrow = half.as_numpy(full), half.as_numpy(low)
    layers = []
    for name in ours:
        zeros = (narrow[name] == 0) & (wide[name] != 0)
        small = np.abs(wide[name][zeros]) * scale < SMALLEST[dtype]
        if name not in noise:
            share = float(small.mean()) if small.size else 0.0
            layers.append(Layer(name, ours[name], rounding[name].relative_error, zeros, share))
    return Compared(sorted(layers, key=lambda layer: -layer.low.relative_error), sorted(noise))


def _measured(compared: Compared, scale: float) -> dict[str, Any]:
    finite = compared.layers or [
        Layer("none", LayerParity(cosine=1.0, relative_error=0.0, norm_ratio=1.0), 0.0, np.zeros(0), 0.0)
    ]
    return {
        "worst layer": finite[0].name,
        "worst relative error": finite[0].low.relative_error,
        "worst cosine": min(layer.low.cosine for layer in finite),
        "the worst layer's error by rounding alone": finite[0].rounding,
        "layers compared": len(compared.layers),
        "layers that are noise in float32 too": len(compared.left_out),
        "loss scale": scale,
    }


def _table(compared: Compared, dtype: str) -> Table:
    return Table(
        title=f"Gradients in {dtype} against float32, the worst layers first",
        columns=("layer", "cosine", "relative error", "error by rounding alone", "ratio of norms", "became zero"),
        rows=[
            (
                layer.name,
                layer.low.cosine,
                layer.low.relative_error,
                layer.rounding,
                layer.low.norm_ratio,
                float(layer.zeros.mean()) if layer.zeros.size else 0.0,
            )
            for layer in compared.layers[:MOST_ROWS]
        ],
    )


def _told(layer: Layer) -> str:
    if not np.isfinite(layer.low.relative_error):
        return f"The gradient of {layer.name} is finite in float32 and not in half precision"
    return (
        f"The gradient of {layer.name} is off by {layer.low.relative_error:.2g} of its norm (cosine {layer.low.cosine:.3f}); rounding "
        f"parameters and inputs alone makes {layer.rounding:.2g}"
    )


def _random(setup: Setup, full: Any, layer: Layer, key: PRNGKeyArray) -> bool:
    """Whether another draw of the model's own randomness moves the layer's float32 gradient as much."""
    if not np.isfinite(layer.low.relative_error):
        return False
    other = half.gradients(setup, jax.random.fold_in(key, 1)).full(setup.params, None)
    return layer.low.relative_error < 2 * parity(other, full)[layer.name].relative_error


def _cause(setup: Setup, dtype: str, layer: Layer, key: PRNGKeyArray, scale: float) -> str:
    """What makes the error, as far as the numbers tell."""
    if not np.isfinite(layer.low.relative_error):
        return _broken(half.first_broken(setup, key), dtype, scale)
    if layer.rounding > 0.5 * layer.low.relative_error:
        return (
            f"Rounding parameters and inputs to {dtype} does it alone: what matters here are differences of nearly equal numbers. Centre "
            "and scale the inputs before they are cast, or keep the layers up to here in float32 by policy overrides."
        )
    if layer.zeros.mean() > 0.25 and layer.too_small < 0.5:
        return (
            f"{layer.zeros.mean():.0%} of its numbers became zero though they are well within the range of {dtype}: something on the way "
            f"overflowed, and what is divided by infinity is zero. {FLOAT32[0].upper()}{FLOAT32[1:]}."
        )
    if layer.zeros.mean() > 0.25:
        return (
            f"{dtype} underflow: {layer.zeros.mean():.0%} of its numbers became zero. Give the task a loss scale "
            "(jr.dynamic_loss_scale()), or use bfloat16, which has the range of float32."
        )
    output = setup.task.precision.output_dtype.name
    first = (
        f"The outputs reach the loss in {output}: set the policy's output to float32. " if output in half.HALF else ""
    )
    return f"{first}A sum, norm, softmax or loss loses its digits in {dtype}: {FLOAT32}."


def _broken(found: half.Broken | None, dtype: str, scale: float) -> str:
    nothing = (
        f"an epsilon below 6e-8 is zero in float16, and zero by zero is not a number: use 1e-5 or more, and {FLOAT32}."
    )
    if found is not None and found.nan:
        return f"{found.where} is not a number in {dtype}: a division, logarithm or root of zero before it; {nothing}"
    if found is not None and found.where == "the loss":
        return f"The loss is not finite in {dtype}, though every layer's output is: compute it in float32 (policy output float32), and {FLOAT32}."
    if found is not None:
        return (
            f"{dtype} overflow in the forward pass: the output of {found.where} is the first that is not finite. No loss scale helps: "
            f"{FLOAT32}, bring the numbers into range, or use bfloat16, which has the range of float32."
        )
    if scale > 1:
        return f"{dtype} overflow in the backward pass at loss scale {scale:g}: use jr.dynamic_loss_scale() or a smaller static one; see loss_scale."
    return f"{dtype} overflow in the backward pass: {nothing}"
