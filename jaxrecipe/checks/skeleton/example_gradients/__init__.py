"""The check example_gradients: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.example_gradients.check import example_gradients

__all__ = ["example_gradients"]
