"""The check visualize_prediction_dynamics: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.visualize_prediction_dynamics.check import visualize_prediction_dynamics

__all__ = ["visualize_prediction_dynamics"]
