"""The check chart_time_dependencies: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.chart_time_dependencies.check import chart_time_dependencies

__all__ = ["chart_time_dependencies"]
