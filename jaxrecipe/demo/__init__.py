"""The demonstration: a small ConvNet on real handwritten digits, and silent faults to plant in it."""

from jaxrecipe.demo.digits import BATCH_SIZE, EPOCHS, adamw, digits_task, shift

__all__ = ["BATCH_SIZE", "EPOCHS", "adamw", "digits_task", "shift"]
