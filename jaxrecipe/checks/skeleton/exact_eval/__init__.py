"""The check exact_eval: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.exact_eval.check import exact_eval

__all__ = ["exact_eval"]
