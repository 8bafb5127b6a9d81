"""Steps that are multiples of plain ones, and steps that also shrink the parameters."""

import numpy as np
from jaxtyping import Float

from jaxrecipe.checks.skeleton.reference_step.plain_steps import rounding
from jaxrecipe.checks.skeleton.reference_step.rules import OPPOSITE, Context, summed
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.first_steps import vector

CLOSE = 0.03
"""A factor is named by its value where it is within this share of it."""
LESS, MORE = 0.98, 1.02
"""Beyond these, a factor is not one."""
TINY_CLIP = 0.01
"""A clip that leaves less than this share of every step decides the size of all of them."""
LOSS_SCALE_BITS = 5
"""A factor of more than two to this power, and a power of two, is a loss scale."""
POWER_OF_TWO = 0.02
"""How near the logarithm has to be to a whole number."""
PARALLEL = 0.05
"""What is left over may differ by this share of itself from a multiple of the parameters."""
SMALLEST = 1e-30
"""Keeps a division by zero from being one."""


def by_a_factor(context: Context) -> Finding | None:
    """Every step is a multiple of the plain one."""
    found = _factors(context)
    if found is None:
        return None
    factors, norms = found
    if _constant(factors, context):
        return _constant_factor(float(factors.mean()), context.setup.batch_size)
    listed = ", ".join(f"{factor:.3g}" for factor in factors)
    clipped = (factors * norms)[factors < LESS]
    if len(clipped) > 1 and factors.max() < MORE and _constant(clipped, context):
        text = (
            f"The step clips the gradient to norm {clipped.mean():.3g}, which the declared optimizer does not: its "
            "steps "
            f"are {listed} times the plain ones."
        )
        if factors.max() < TINY_CLIP:
            return failure("optimizer/clipping-too-tight", text)
        return warning("optimizer/clipping-not-declared", text)
    missing = (factors / np.maximum(norms, SMALLEST))[factors > MORE]
    if len(missing) > 1 and factors.min() > LESS and _constant(missing, context):
        text = (
            "The declared optimizer clips the gradient and the step does not: its steps "
            f"are {listed} times the declared ones."
        )
        return warning("optimizer/clipping-left-out", text)
    text = f"The steps are {listed} times the declared ones: the learning rate follows another schedule."
    return warning("optimizer/schedule-not-declared", text)


def _factors(context: Context) -> tuple[Float[np.ndarray, "steps"], Float[np.ndarray, "steps"]] | None:
    """The factor of each step that should move, and the norm of its gradient; None if some step is no multiple."""
    comparison = context.comparison
    factors, norms = [], []
    for step, (move, plain, keep) in enumerate(zip(comparison.moves, comparison.plain, comparison.stable, strict=True)):
        move, plain = move[keep], plain[keep]
        if not plain.any():
            continue
        factor = float(move @ plain / (plain @ plain))
        rest = np.maximum(np.abs(move - factor * plain) - rounding(comparison.trace, step)[keep], 0)
        if factor == 0 or np.linalg.norm(rest) > _slack(context) * np.linalg.norm(move):
            return None
        factors.append(factor)
        norms.append(float(np.linalg.norm(vector(comparison.trace.gradients[0][step]))))
    return (np.array(factors), np.array(norms)) if factors else None


def _constant_factor(factor: float, batch: int) -> Finding:
    """A constant factor, named where its value says where it comes from."""

    def close(wanted: float) -> bool:
        return abs(factor / wanted - 1) < CLOSE

    if close(-1.0):
        return OPPOSITE
    if batch > 1 and close(float(batch)):
        return summed(batch)
    if batch > 1 and close(1 / batch):
        return failure(
            "loss/divided-twice", f"The steps are 1/{batch} of plain ones: the loss is divided by the batch size twice."
        )
    power = np.log2(factor) if factor > 0 else 0.5
    if power > LOSS_SCALE_BITS and abs(power - round(power)) < POWER_OF_TWO:
        text = f"The steps are {factor:.4g} times plain ones, a power of two as loss scales are."
        return failure("precision/scale-not-undone", text)
    return failure("step/scaled", f"The steps are {factor:.4g} times those of the declared optimizer.")


def by_decay(context: Context) -> Finding | None:
    """What is left over points to zero: weight decay beside the declared optimizer."""
    comparison = context.comparison
    rates, share = [], 0.0
    for params, move, plain, keep in zip(
        comparison.trace.params, comparison.moves, comparison.plain, comparison.stable, strict=False
    ):
        weights, rest, due = vector(params)[keep], (move - plain)[keep], np.linalg.norm(plain[keep])
        rate = float(-(rest @ weights) / max(weights @ weights, SMALLEST))
        allowed = PARALLEL * np.linalg.norm(rest) + _slack(context) * due
        if rate <= 0 or np.linalg.norm(rest + rate * weights) > allowed:
            return None
        rates.append(rate)
        share = max(share, float(rate * np.linalg.norm(weights) / max(due, SMALLEST)))
    if not rates or not _constant(np.array(rates), context):
        return None
    text = (
        f"Beside the plain step, the step shrinks every parameter by {np.mean(rates):.2g} of itself, {share:.2g} of "
        "the "
        "size of the plain step."
    )
    if share > 1:
        return failure("optimizer/weight-decay-too-strong", text)
    return warning("optimizer/decay-not-declared", text)


def _constant(values: Float[np.ndarray, "n"], context: Context) -> bool:
    return float(np.ptp(values)) <= 2 * _slack(context) * abs(float(values.mean()))


def _slack(context: Context) -> float:
    """How far numbers may be off, relative to their size."""
    return context.limit + context.comparison.match.high
