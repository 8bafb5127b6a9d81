"""A stand-in for jax-dataloader: a data set that is read by `[]`, in batches and in another order each time."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np


class Dataset:
    """Has nothing of its own."""


class DataLoader:
    """Batches of a data set that is read by an array of indices."""

    def __init__(self, dataset: Any, *, batch_size: int, shuffle: bool = False, drop_last: bool = False, **_: Any):
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        count = len(self.dataset)
        order = self.rng.permutation(count) if self.shuffle else np.arange(count)
        for index in range(len(self)):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            examples = [self.dataset[int(row)] for row in rows]
            yield tuple(np.stack([np.asarray(part) for part in parts]) for parts in zip(*examples, strict=True))


datasets = ModuleType("jax_dataloader.datasets")
vars(datasets)["Dataset"] = Dataset
sys.modules["jax_dataloader.datasets"] = datasets
