"""The check generalize_a_special_case: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.generalize_a_special_case.check import generalize_a_special_case

__all__ = ["generalize_a_special_case"]
