"""The check split_leakage: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.split_leakage.check import split_leakage

__all__ = ["split_leakage"]
