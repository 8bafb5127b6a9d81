"""The check duplicates: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.duplicates.check import duplicates

__all__ = ["duplicates"]
