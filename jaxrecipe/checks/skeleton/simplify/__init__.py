"""The check simplify: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.simplify.check import simplify

__all__ = ["simplify"]
