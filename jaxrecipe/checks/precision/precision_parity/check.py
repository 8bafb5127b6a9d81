"""Precision parity: are the gradients in half precision those of float32, layer by layer?"""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.precision.precision_parity.explain import explain_layer
from jaxrecipe.checks.precision.precision_parity.layers import EPSILON, Compared, Layer, compare_layers, is_another_draw
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes import half_precision as half
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup

MOST_ROWS = 40
"""Layers in the table of evidence, the worst first."""


def precision_parity(
    setup: Setup, *, key: PRNGKeyArray, roundings: float = 128.0, beyond_rounding: float = 4.0, lost: float = 0.9
) -> Result:
    """The gradient of every layer in half precision is that of float32, up to rounding.

    What it does: computes the gradients of the first batch as your policy has them (at the loss scale in force, or the
    one that a dynamic scale settles at) and in strict float32, and compares them layer by layer: cosine, relative
    error, ratio of norms. Beside it stands what rounding parameters and inputs to the format does by itself. Layers
    whose float32 gradient is rounding noise too (a bias before a BatchNorm) are left out.

    Why it matters: one layer whose sums overflow or cancel in half precision trains on noise while the others and the
    loss look well.

    What to do: keep norms, softmax, the loss and the final layer in float32: `Policy(compute_dtype="float16",
    overrides=(("LayerNorm_*", "float32"),))` for parameters, and a cast in the model where it sums; return float32
    outputs; give float16 a loss scale.

    Args:
        setup: the set-up.
        key: seeds dropout, the same in both precisions.
        roundings: WARN when a layer's relative error is above so many units of rounding: 128 is as far as 16,000
            roundings take a number at random (in sixteen healthy set-ups the worst layer had 25 in bfloat16 and 35 in
            float16).
        beyond_rounding: and above so many times what rounding parameters and inputs alone does (healthy kernels: 0.9 to
            3.3).
        lost: FAIL when the relative error is above this: a gradient of zero, or one that points anywhere, has 1 or
            more.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, sections 3.1 and 3.3.
    """
    found = half.half_format(setup)
    reason = _why_not_comparable(setup, found)
    if found is None or reason:
        return skipped(reason)
    gradients = half.gradients(setup, key)
    full = gradients.full(setup.params, None)
    if not bool(trees.all_finite(full)):
        return skipped("The gradients are not finite in float32 either.")
    scale, low = half.settled(gradients, setup.params, half.scale_in_force(setup))
    compared = compare_layers(gradients, setup, low, full, found.dtype, key, scale)
    if not compared.layers:
        return skipped("No layer has a gradient in float32 that could be compared.")
    allowed = roundings * EPSILON[found.dtype]
    worst = compared.layers[0]
    error = Measure(
        name="worst relative error",
        value=worst.low.relative_error,
        high=max(allowed, beyond_rounding * worst.rounding),
        fail_high=lost,
        severity=Severity.WARN,
        thresholds={"fail_high": "lost"},
    )
    findings: list[Finding] = []
    inaccurate = [
        layer
        for layer in compared.layers
        if layer.low.relative_error > max(allowed, beyond_rounding * layer.rounding) and np.size(layer.zeros) > 1
    ]
    message = f"{_error_in_words(worst)} (loss scale {scale:g})."
    if not worst.low.relative_error <= lost:
        if is_another_draw(setup, full, worst, key):
            findings.append(warning("precision/random-in-half", message, measures=(error,)))
        else:
            causes = explain_layer(setup, found.dtype, worst, key, scale)
            findings.append(failure(causes[0].code, message, measures=(error,), causes=causes))
    elif inaccurate:
        causes = explain_layer(setup, found.dtype, inaccurate[0], key, scale)
        message = f"{_error_in_words(inaccurate[0])} (loss scale {scale:g})."
        findings.append(warning(causes[0].code, message, measures=(error,), causes=causes))
    return Result(
        summary=f"All {len(compared.layers)} layers have in {found.dtype} the gradients of float32: the worst, "
        f"{worst.name}, "
        f"has a relative error of {worst.low.relative_error:.2g} and cosine {worst.low.cosine:.4f}.",
        findings=tuple(findings),
        measures=(error, *_other_measures(compared, scale)),
        evidence=(_table(compared, found.dtype),),
    )


def _why_not_comparable(setup: Setup, found: half.HalfFormat | None) -> str:
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
            f"The model's modules fix {found.dtype} themselves, so there is no float32 twin to compare with: leave "
            "their dtype None "
            f'and declare Task(policy="{found.dtype}").'
        )
    return ""


def _other_measures(compared: Compared, scale: float) -> tuple[Measure, ...]:
    """Numbers that inform and do not decide."""
    return (
        Measure(name="worst cosine", value=min(layer.low.cosine for layer in compared.layers)),
        Measure(name="the worst layer's error by rounding alone", value=compared.layers[0].rounding),
        Measure(name="layers compared", value=len(compared.layers), unit="layers"),
        Measure(name="layers that are noise in float32 too", value=len(compared.left_out), unit="layers"),
        Measure(name="loss scale", value=scale),
    )


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
                layer.share_zero,
            )
            for layer in compared.layers[:MOST_ROWS]
        ],
    )


def _error_in_words(layer: Layer) -> str:
    if not layer.finite:
        return f"The gradient of {layer.name} is finite in float32 and not in half precision"
    return (
        f"The gradient of {layer.name} is off by {layer.low.relative_error:.2g} of its norm (cosine "
        f"{layer.low.cosine:.3f}); rounding parameters and inputs alone makes {layer.rounding:.2g}"
    )
