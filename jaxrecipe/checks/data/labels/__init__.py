"""The check labels: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.labels.check import labels

__all__ = ["labels"]
