"""Loss scaling for float16: none, static or dynamic, as one pytree whose every number is an array leaf.

Why: float16 gradients below 6e-8 become zero. The loss is multiplied by a scale before the backward pass and the
gradients are divided by it afterwards, in float32. A step that overflows is skipped. After P. Micikevicius et al.,
"Mixed Precision Training", ICLR 2018. bfloat16 has float32's range and needs none of this.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32

from jaxrecipe import trees

Kind = Literal["none", "static", "dynamic"]
Number = float | int
# Any: JAX puts shapes, shardings and placeholders where the numbers of a pytree stand.
F32 = Float32[Array | np.ndarray, ""] | Any
I32 = Int32[Array | np.ndarray, ""] | Any

SMALLEST = float(np.finfo(np.float32).smallest_normal)
LARGEST = 2.0**126
"""Beyond these powers of two the scale or its inverse would leave the normal float32 numbers."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossScale:
    """A loss scale and its counters. Make one with `no_loss_scale`, `static_loss_scale` or `dynamic_loss_scale`.

    Only `kind` is known to the compiler: another scale, factor or floor compiles nothing new. All the others are 0-d
    arrays (numpy's until a step has returned them, so that making one touches no device and nothing can donate them
    away).

    Attributes:
        kind: "none" never scales and never skips; "static" keeps its scale; "dynamic" adapts it.
        scale: what the next step's loss is multiplied by, float32.
        good_steps: finite steps since the scale last changed; the scale grows when it reaches `growth_interval`.
        growth_factor: by which the scale grows.
        backoff_factor: by which it shrinks on a step that is not finite.
        growth_interval: good steps in a row to a growth.
        min_scale, max_scale: the scale never leaves these.
        skipped: steps skipped in all.
        skipped_in_a_row: steps skipped since the last good one.
        last_bad: index into `trees.paths` of the checked tree of what spoilt the last skipped step; -1 before any.
    """

    kind: Kind = field(metadata={"static": True})
    scale: F32
    good_steps: I32
    growth_factor: F32
    backoff_factor: F32
    growth_interval: I32
    min_scale: F32
    max_scale: F32
    skipped: I32
    skipped_in_a_row: I32
    last_bad: I32


def no_loss_scale() -> LossScale:
    """No scaling and no skipping, for float32 and bfloat16: a NaN stays loud."""
    return _make(
        "none", scale=1.0, growth_factor=1.0, backoff_factor=1.0, growth_interval=1, min_scale=1.0, max_scale=1.0
    )


def static_loss_scale(scale: Number) -> LossScale:
    """A scale that never changes; steps with gradients that are not finite are skipped and counted.

    Raises:
        ValueError: the scale is not a finite positive number that float32 can hold and invert.
    """
    _raise_all(_outside(scale=scale))
    return _make(
        "static",
        scale=scale,
        growth_factor=1.0,
        backoff_factor=1.0,
        growth_interval=1,
        min_scale=scale,
        max_scale=scale,
    )


def dynamic_loss_scale(
    *,
    init_scale: Number = 2.0**15,
    growth_factor: Number = 2.0,
    backoff_factor: Number = 0.5,
    growth_interval: int = 2000,
    min_scale: Number = 1.0,
    max_scale: Number = 2.0**24,
) -> LossScale:
    """A scale that shrinks on each step that is not finite and grows after `growth_interval` good steps in a row.

    Args:
        init_scale: scale of the first step. Too high costs one skipped step for each halving.
        growth_factor: growth, above 1. Powers of two (here and for the rest) make scaling exact.
        backoff_factor: shrinking, between 0 and 1.
        growth_interval: good steps to a growth, exactly; at least 1.
        min_scale: lowest scale; may be below 1, for gradients so large that even the plain loss overflows float16.
        max_scale: highest scale.

    Raises:
        ValueError: naming every argument out of its range.
    """
    wrong = _outside(init_scale=init_scale, min_scale=min_scale, max_scale=max_scale)
    if not (math.isfinite(growth_factor) and growth_factor > 1):
        wrong.append(f"growth_factor={growth_factor}, wanted a finite number above 1")
    if not 0 < backoff_factor < 1:
        wrong.append(f"backoff_factor={backoff_factor}, wanted between 0 and 1")
    if not 1 <= growth_interval <= np.iinfo(np.int32).max:
        wrong.append(f"growth_interval={growth_interval}, wanted 1 to 2**31 - 1 steps")
    if not min_scale <= init_scale <= max_scale:
        wrong.append(
            f"min_scale={min_scale}, init_scale={init_scale}, max_scale={max_scale}, wanted them in this order"
        )
    _raise_all(wrong)
    return _make(
        "dynamic",
        scale=init_scale,
        growth_factor=growth_factor,
        backoff_factor=backoff_factor,
        growth_interval=growth_interval,
        min_scale=min_scale,
        max_scale=max_scale,
    )


def _outside(**scales: Number) -> list[str]:
    return [
        f"{name}={value}, wanted a number from {SMALLEST:.3g} (2**-126) to {LARGEST:.3g} (2**126)"
        for name, value in scales.items()
        if not SMALLEST <= value <= LARGEST
    ]


def _raise_all(wrong: list[str]) -> None:
    if wrong:
        raise ValueError("loss scale: " + "; ".join(wrong))


def _make(
    kind: Kind,
    *,
    scale: Number,
    growth_factor: Number,
    backoff_factor: Number,
    growth_interval: int,
    min_scale: Number,
    max_scale: Number,
) -> LossScale:
    def f32(value: Number) -> np.ndarray:
        return np.asarray(value, np.float32)

    def i32(value: int) -> np.ndarray:
        return np.asarray(value, np.int32)

    return LossScale(
        kind=kind,
        scale=f32(scale),
        good_steps=i32(0),
        growth_factor=f32(growth_factor),
        backoff_factor=f32(backoff_factor),
        growth_interval=i32(growth_interval),
        min_scale=f32(min_scale),
        max_scale=f32(max_scale),
        skipped=i32(0),
        skipped_in_a_row=i32(0),
        last_bad=i32(-1),
    )


def scale_loss(loss_scale: LossScale, loss: Any) -> Float32[Array, ""]:
    """The loss to differentiate, in float32 whatever the loss is in: a float16 loss times 2**15 would be infinite."""
    loss = jnp.asarray(loss, jnp.float32)
    return loss if loss_scale.kind == "none" else loss * loss_scale.scale


def unscale(loss_scale: LossScale, grads: Any) -> Any:
    """Gradients of the plain loss, at least float32. Give the loss scale that scaled them, not the updated one."""
    wide = trees.widen(grads)
    if loss_scale.kind == "none":
        return wide
    # A division, not a product with the inverse: exact for powers of two, and rounded only once for any other scale.
    scale = jnp.asarray(loss_scale.scale)
    return jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype) if trees.is_inexact(leaf) else leaf, wide)


def update(
    loss_scale: LossScale, finite: Bool[Array | np.ndarray, ""], bad: Int32[Array | np.ndarray, ""]
) -> LossScale:
    """The loss scale for the next step; under jit without a host sync.

    Args:
        loss_scale: the one that this step used.
        finite: whether this step's unscaled gradients were finite.
        bad: index of the first leaf that was not (`trees.first_nonfinite`), kept as `last_bad` until another step
            fails.
    """
    if loss_scale.kind == "none":
        return loss_scale
    now = jax.tree.map(jnp.asarray, loss_scale)
    good_steps, scale = now.good_steps, now.scale
    if loss_scale.kind == "dynamic":
        good_steps = jnp.where(finite, now.good_steps + jnp.int32(1), jnp.int32(0))
        grows = good_steps >= now.growth_interval
        grown = jnp.where(grows, jnp.minimum(now.scale * now.growth_factor, now.max_scale), now.scale)
        scale = jnp.where(finite, grown, jnp.maximum(now.scale * now.backoff_factor, now.min_scale))
        good_steps = jnp.where(grows, jnp.int32(0), good_steps)
    missed = jnp.where(finite, jnp.int32(0), jnp.int32(1))
    return replace(
        now,
        scale=scale,
        good_steps=good_steps,
        skipped=now.skipped + missed,
        skipped_in_a_row=jnp.where(finite, jnp.int32(0), now.skipped_in_a_row + missed),
        last_bad=jnp.where(finite, now.last_bad, bad),
    )


def diagnose(loss_scale: LossScale, paths: Sequence[str], *, in_a_row: int = 20) -> str | None:
    """What is wrong with how the scaling goes, in words that name the layer, or None. Waits for the device.

    Wrong is: `in_a_row` or more steps skipped in a row; or a last step that was skipped with the scale already at its
    floor (or static), so that nothing is left to give way.

    Args:
        loss_scale: of the state after a step.
        paths: `trees.paths` of the tree in which `last_bad` counts.
        in_a_row: from how many skipped steps in a row on it is wrong.
    """
    skipped = int(loss_scale.skipped_in_a_row)
    scale, min_scale, bad = float(loss_scale.scale), float(loss_scale.min_scale), int(loss_scale.last_bad)
    stuck = skipped > 0 and scale <= min_scale
    if loss_scale.kind == "none" or not (stuck or skipped >= in_a_row):
        return None
    where = paths[bad] if 0 <= bad < len(paths) else "an unnamed leaf"
    advice = _advice(loss_scale.kind, at_floor=stuck)
    return (
        f"{skipped} training steps in a row were skipped; the last because {where} was not finite at loss scale "
        f"{scale:g}. {advice}"
    )


def _advice(kind: Kind, *, at_floor: bool) -> str:
    if kind == "static":
        return "A static scale cannot give way: use a smaller one, or dynamic_loss_scale()."
    if at_floor:
        return (
            "The scale is at its floor: lower min_scale, keep that layer in float32, "
            "or look for a NaN that float32 has too."
        )
    return "No scale has helped so far, so this is probably a real NaN: run the same step in float32."
