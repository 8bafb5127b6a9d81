"""Precision: policies, loss scaling, what the numbers need, and how much memory a training step takes."""

from jaxrecipe.precision.loss_scale import (
    LossScale,
    diagnose,
    dynamic_loss_scale,
    no_loss_scale,
    static_loss_scale,
)
from jaxrecipe.precision.memory import device_limit, largest_batch, predict_memory, program_memory, step_memory
from jaxrecipe.precision.numerics import advise, exponents, shares, survey
from jaxrecipe.precision.parity import float64_gradients, gradient_parity, parity
from jaxrecipe.precision.policy import Policy, apply_policy, parse_policy, storage_params

__all__ = [
    "LossScale",
    "Policy",
    "advise",
    "apply_policy",
    "device_limit",
    "diagnose",
    "dynamic_loss_scale",
    "exponents",
    "float64_gradients",
    "gradient_parity",
    "largest_batch",
    "no_loss_scale",
    "parity",
    "parse_policy",
    "predict_memory",
    "program_memory",
    "shares",
    "static_loss_scale",
    "step_memory",
    "storage_params",
    "survey",
]
