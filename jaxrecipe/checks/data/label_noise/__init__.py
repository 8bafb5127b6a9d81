"""The check label_noise: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.label_noise.check import label_noise

__all__ = ["label_noise"]
