"""The check loss_scale: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.precision.loss_scale.check import loss_scale

__all__ = ["loss_scale"]
