"""The check class_balance: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.class_balance.check import class_balance

__all__ = ["class_balance"]
