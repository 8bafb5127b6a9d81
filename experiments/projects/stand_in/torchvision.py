"""A stand-in for torchvision: MNIST by its attributes, from the same digits as the stand-in for tensorflow-datasets."""

import sys
from types import ModuleType
from typing import Any

from tensorflow_datasets import pictures  # pyright: ignore[reportAttributeAccessIssue] # the stand-in beside this file


class MNIST:
    """Pictures in `data`, class numbers in `targets`."""

    def __init__(self, root: str, *, train: bool = True, **_: Any) -> None:
        del root
        images, self.targets = pictures("mnist", train=train)
        self.data = images[..., 0]

    def __len__(self) -> int:
        return len(self.targets)


datasets = ModuleType("torchvision.datasets")
vars(datasets)["MNIST"] = MNIST
sys.modules["torchvision.datasets"] = datasets
