"""The check outliers: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.outliers.check import outliers

__all__ = ["outliers"]
