"""Verify loss at init."""

from jaxrecipe.checks.skeleton.loss_at_init.check import loss_at_init

__all__ = ["loss_at_init"]
