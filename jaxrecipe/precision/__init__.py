"""Precision: policies, loss scaling, what the numbers need, and how much memory a training step takes."""

from jaxrecipe.precision.loss_scale import LossScale, dynamic_loss_scale, no_loss_scale, static_loss_scale
from jaxrecipe.precision.policy import Policy, apply_policy, parse_policy

__all__ = [
    "LossScale",
    "Policy",
    "apply_policy",
    "dynamic_loss_scale",
    "no_loss_scale",
    "parse_policy",
    "static_loss_scale",
]
