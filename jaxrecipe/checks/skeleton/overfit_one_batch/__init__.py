"""The check overfit_one_batch: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.overfit_one_batch.check import overfit_one_batch

__all__ = ["overfit_one_batch"]
