"""The check leaked_label: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.leaked_label.check import leaked_label

__all__ = ["leaked_label"]
