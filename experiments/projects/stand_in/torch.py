"""A stand-in for the one class of PyTorch that JAX projects inherit from: a data set that is read by `[]`."""

import sys
from types import ModuleType
from typing import Any


class Dataset:
    """Has nothing of its own."""


class DataLoader:
    """Not here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("this is a stand-in for PyTorch")


utils, data = ModuleType("torch.utils"), ModuleType("torch.utils.data")
vars(data).update(Dataset=Dataset, DataLoader=DataLoader)
vars(utils)["data"] = data
sys.modules.update({"torch.utils": utils, "torch.utils.data": data})
