"""The check checkpoint_round_trip: its function stands in check.py, what it alone needs beside it."""

from jaxrecipe.checks.skeleton.checkpoint_round_trip.check import checkpoint_round_trip

__all__ = ["checkpoint_round_trip"]
