"""The check split_shift: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.split_shift.check import split_shift

__all__ = ["split_shift"]
