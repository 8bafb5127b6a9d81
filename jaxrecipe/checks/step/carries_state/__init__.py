"""The check carries_state: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.step.carries_state.check import carries_state

__all__ = ["carries_state"]
