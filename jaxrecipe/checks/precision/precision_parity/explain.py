"""What makes a layer's gradient wrong in half precision, as far as the numbers tell."""

from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.precision.precision_parity.layers import Layer
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.probes import half_precision as half
from jaxrecipe.setup import Setup

BY_ROUNDING_ALONE = 0.5
"""Rounding of parameters and inputs explains an error of which it makes at least this share."""
MANY_ZEROS = 0.25
"""From this share of zeros on, lost numbers and not lost digits are what is wrong with a layer."""
MOSTLY_SMALL = 0.5
"""Zeros of which at least this share lies below the format's range are underflow; others were divided by infinity."""


def explain_layer(setup: Setup, dtype: str, layer: Layer, key: PRNGKeyArray, scale: float) -> tuple[Cause, ...]:
    """Ranked causes of one layer's error."""
    if not layer.finite:
        return _not_finite(half.first_broken(setup, key), dtype, scale)
    if layer.rounding > BY_ROUNDING_ALONE * layer.low.relative_error:
        here = f"Rounding parameters and inputs to {dtype} alone makes an error of {layer.rounding:.2g}."
        return (cause("precision/inputs-cancel", here), cause("precision/inaccurate-layer"))
    if layer.share_zero > MANY_ZEROS and layer.too_small < MOSTLY_SMALL:
        here = (
            f"{layer.share_zero:.0%} of the gradient of {layer.name} became zero though it is well within the range of "
            f"{dtype}: something was divided by infinity."
        )
        return (cause("precision/activations-overflow", here), cause("precision/inaccurate-layer"))
    if layer.share_zero > MANY_ZEROS:
        here = f"{layer.share_zero:.0%} of the gradient of {layer.name} became zero in {dtype}."
        return (cause("precision/gradients-underflow", here),)
    output = setup.task.precision.output_dtype.name
    here = (
        f"The outputs reach the loss in {output}: set the policy's output_dtype to float32."
        if output in half.HALF
        else ""
    )
    return (cause("precision/inaccurate-layer", here),)


def _not_finite(found: half.Broken | None, dtype: str, scale: float) -> tuple[Cause, ...]:
    """Causes of a gradient that is not finite, from the first place where the forward pass is not."""
    if found is not None and found.nan:
        here = f"{found.where} is not a number in {dtype}: a division, logarithm or root of zero comes before it."
        return (cause("precision/divides-by-zero", here), cause("precision/activations-overflow"))
    if found is not None and found.where == "the loss":
        here = f"The loss is not finite in {dtype}, though every layer's output is: compute it in float32."
        return (cause("precision/activations-overflow", here),)
    if found is not None:
        here = f"The output of {found.where} is the first that is not finite in {dtype}; no loss scale helps."
        return (cause("precision/activations-overflow", here),)
    if scale > 1:
        return (cause("precision/gradients-overflow", f"The loss scale is {scale:g}."),)
    return (
        cause("precision/divides-by-zero", f"The forward pass is finite in {dtype}, the backward pass is not."),
        cause("precision/gradients-overflow"),
    )
