"""The check reference_step: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.reference_step.check import reference_step

__all__ = ["reference_step"]
