"""The check verify_decreasing_training_loss: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.check import verify_decreasing_training_loss

__all__ = ["verify_decreasing_training_loss"]
