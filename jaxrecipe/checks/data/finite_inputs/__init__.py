"""The check finite_inputs: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.finite_inputs.check import finite_inputs

__all__ = ["finite_inputs"]
