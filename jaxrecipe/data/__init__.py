"""Data: sources of examples, reproducible batches, augmentation on the device, and two data sets."""

from jaxrecipe.data.batches import Batch, batch_indices, epoch_order, index_batches, steps_per_epoch, stream
from jaxrecipe.data.sources import Source, as_source, examples

__all__ = [
    "Batch",
    "Source",
    "as_source",
    "batch_indices",
    "epoch_order",
    "examples",
    "index_batches",
    "steps_per_epoch",
    "stream",
]
