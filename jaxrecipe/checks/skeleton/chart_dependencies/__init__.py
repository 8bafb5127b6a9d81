"""The check chart_dependencies: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.chart_dependencies.check import chart_dependencies

__all__ = ["chart_dependencies"]
