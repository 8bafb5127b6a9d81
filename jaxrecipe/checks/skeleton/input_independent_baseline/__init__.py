"""The check input_independent_baseline: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.input_independent_baseline.check import input_independent_baseline

__all__ = ["input_independent_baseline"]
