"""Data: sources of examples, reproducible batches, augmentation on the device, and two data sets."""

from jaxrecipe.data.augment import CIFAR10_MEAN, CIFAR10_STD, normalise, random_crop, random_flip
from jaxrecipe.data.batches import (
    Batch,
    batch_indices,
    epoch_batches,
    epoch_order,
    index_batches,
    steps_per_epoch,
    stream,
)
from jaxrecipe.data.datasets import CIFAR10_CLASSES, cifar10, digits
from jaxrecipe.data.device import feed, fits_on_device, gather, to_device
from jaxrecipe.data.prepare import prepare_cifar10
from jaxrecipe.data.sources import Source, as_source, examples, in_memory

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "Batch",
    "Source",
    "as_source",
    "batch_indices",
    "cifar10",
    "digits",
    "epoch_batches",
    "epoch_order",
    "examples",
    "feed",
    "fits_on_device",
    "gather",
    "in_memory",
    "index_batches",
    "normalise",
    "prepare_cifar10",
    "random_crop",
    "random_flip",
    "steps_per_epoch",
    "stream",
    "to_device",
]
