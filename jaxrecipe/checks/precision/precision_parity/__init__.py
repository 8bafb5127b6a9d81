"""The check precision_parity: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.precision.precision_parity.check import precision_parity

__all__ = ["precision_parity"]
