"""The check mode_consistency: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.mode_consistency.check import mode_consistency

__all__ = ["mode_consistency"]
