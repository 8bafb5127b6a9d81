"""A stand-in for the little of TensorFlow that data pipelines of JAX projects call; anything else does nothing."""

import sys
from typing import Any

import numpy as np
import tensorflow_datasets
from idle import Idle

float32, float64, float16 = np.float32, np.float64, np.float16
int32, int64, uint8, string = np.int32, np.int64, np.uint8, np.str_


def cast(x: Any, dtype: Any) -> np.ndarray:
    """Another dtype."""
    return np.asarray(x).astype(dtype)


def reshape(x: Any, shape: Any) -> np.ndarray:
    """Another shape."""
    return np.reshape(x, shape)


class image:  # noqa: N801
    """Pictures."""

    @staticmethod
    def convert_image_dtype(x: Any, dtype: Any) -> np.ndarray:
        """Bytes to [0, 1]."""
        return np.asarray(x).astype(dtype) / 255

    @staticmethod
    def resize(x: Any, size: tuple[int, int]) -> np.ndarray:
        """The nearest pixels."""
        rows, columns = (np.arange(new) * old // new for new, old in zip(size, np.shape(x)[:2], strict=True))
        return np.asarray(x)[rows][:, columns]


class data:  # noqa: N801
    """Pipelines."""

    Dataset: Any = vars(tensorflow_datasets)["Dataset"]  # of the stand-in beside this file
    AUTOTUNE = -1
    experimental = Idle("tensorflow.data.experimental")


config, random, io, summary = (Idle(f"tensorflow.{name}") for name in ("config", "random", "io", "summary"))
for module in (config, random, io, summary, Idle("tensorflow.compat"), Idle("tensorflow.compat.v2")):
    sys.modules[module.__name__] = module


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return Idle(f"tensorflow.{name}")
