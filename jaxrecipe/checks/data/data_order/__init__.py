"""The check data_order: its function is in check.py, what it alone needs beside it."""

from jaxrecipe.checks.data.data_order.check import data_order

__all__ = ["data_order"]
