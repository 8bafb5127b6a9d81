"""The check chart_input_dependencies: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.chart_input_dependencies.check import chart_input_dependencies

__all__ = ["chart_input_dependencies"]
