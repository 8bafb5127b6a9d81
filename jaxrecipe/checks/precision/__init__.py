"""Precision: checks for set-ups that compute in half precision, in the order in which they run."""

from jaxrecipe.checks.precision.half_precision_updates import half_precision_updates
from jaxrecipe.checks.precision.loss_scale import loss_scale
from jaxrecipe.checks.precision.precision_parity import precision_parity

CHECKS = (precision_parity, loss_scale, half_precision_updates)
