"""The check learns_one_batch: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.step.learns_one_batch.check import learns_one_batch

__all__ = ["learns_one_batch"]
