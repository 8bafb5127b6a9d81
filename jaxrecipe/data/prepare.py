"""Prepare CIFAR-10 for tensorflow-datasets from an official archive on disk, without TensorFlow and without the
network.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipe.data.archive import Split, read_cifar10
from jaxrecipe.data.datasets import CIFAR10_CLASSES, CIFAR10_VERSION, tfds_directory


def prepare_cifar10(
    archive: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
) -> Path:
    """Write CIFAR-10 as `tfds.data_source("cifar10")` and `datasets.cifar10` read it: array_record files of PNG images.

    Everything is written to a temporary directory beside the destination, read back, and moved there at the end, so an
    interrupted run leaves no half-made data set. The examples keep the order of the archive (tensorflow-datasets' own
    preparation shuffles them), which matters only to sub-splits such as `train[:10%]`.

    Args:
        archive: `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz` from https://www.cs.toronto.edu/~kriz/cifar.html.
        data_dir: the tensorflow-datasets directory; by default `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        sha256: accept an archive with this digest instead of the official ones. Only for an archive that you trust.

    Returns:
        The directory that was made, `data_dir/cifar10/3.0.2`. Takes under a minute and under 200 MB.

    Raises:
        FileNotFoundError: there is no such archive.
        FileExistsError: there is something at the destination already.
        ImportError: the extra `datasets` is not installed.
        ValueError: the archive is not the official one, or damaged; nothing is written.
    """
    root = tfds_directory(data_dir)
    destination = root / "cifar10" / CIFAR10_VERSION
    if destination.exists():
        raise FileExistsError(f"{destination} exists already. Remove it to prepare CIFAR-10 again.")
    splits = read_cifar10(archive, sha256=sha256)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".cifar10-incomplete-", dir=root))
    try:
        written = _write(splits, temporary)
        _check(splits, temporary)
        _flush(written)
        written.rename(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return destination


def _tfds() -> Any:
    try:
        import PIL.Image
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError("preparing CIFAR-10 needs tensorflow-datasets: pip install 'jaxrecipe[datasets]'") from error
    del PIL
    return tfds


def _write(splits: dict[str, Split], root: Path) -> Path:
    tfds = _tfds()
    builder = tfds.builder(f"cifar10:{CIFAR10_VERSION}", data_dir=root, file_format="array_record")
    builder.info.features["label"].names = list(CIFAR10_CLASSES)
    directory = Path(builder.info.data_dir)
    directory.mkdir(parents=True)
    # One shard a split, as tensorflow-datasets makes of data of this size.
    writer = tfds.core.SequentialWriter(builder.info, max_examples_per_shard=50_000, file_format="array_record")
    writer.initialize_splits(list(splits))
    for name, (images, labels) in splits.items():
        writer.add_examples({name: _records(name, images, labels)})
    writer.close_all()
    return directory


def _records(split: str, images: np.ndarray, labels: np.ndarray) -> Iterator[dict[str, Any]]:
    from PIL import Image

    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        png = io.BytesIO()  # encoded here, since tensorflow-datasets would encode arrays with TensorFlow
        Image.fromarray(image).save(png, "PNG")
        png.seek(0)
        yield {"id": f"{split}_{index:05d}", "image": png, "label": int(label)}


def _check(splits: dict[str, Split], root: Path) -> None:
    """Read some of it back: the counts, and examples spread over each split."""
    for name, (images, labels) in splits.items():
        source = _tfds().data_source(f"cifar10:{CIFAR10_VERSION}", split=name, data_dir=root, download=False)
        sample = range(0, len(images), 997)
        same = len(source) == len(images) and all(
            np.array_equal(source[i]["image"], images[i]) and source[i]["label"] == labels[i] for i in sample
        )
        if not same:
            raise OSError(f"what was written to {root} reads back differently; is the disk full or damaged?")


def _flush(directory: Path) -> None:
    """Make sure the bytes are on disk before the directory gets its final name."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
