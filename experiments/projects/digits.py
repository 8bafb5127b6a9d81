"""MNIST's own files, of scikit-learn's digits, for projects that read them."""

import gzip
import importlib
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.projects.project import HERE

IMAGES, LABELS = 0x803, 0x801
"""What the files begin with."""


def write_idx(path: Path) -> None:
    """Write the file that its name tells: train or t10k, images or labels; it is left alone where there is one."""
    if path.is_file():
        return
    images, labels = _pictures(train=path.name.startswith("train"))
    if "images" in path.name:
        head, body = struct.pack(">IIII", IMAGES, *images.shape[:3]), images
    else:
        head, body = struct.pack(">II", LABELS, len(labels)), labels.astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + body.tobytes(), mtime=0))


def _pictures(*, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Those of the stand-in for tensorflow-datasets."""
    sys.path.insert(0, str(HERE / "stand_in"))
    try:
        stand_in: Any = importlib.import_module("tensorflow_datasets")
    finally:
        sys.path.remove(str(HERE / "stand_in"))
    return stand_in.pictures("mnist", train=train)
