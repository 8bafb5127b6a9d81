"""The check updates: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.updates.check import updates

__all__ = ["updates"]
