"""Two data sets of real images: the embedded digits, and CIFAR-10 where it has been prepared."""

import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from jaxrecipe.data.sources import Source, as_source, examples, in_memory

Digits = tuple[UInt8[np.ndarray, "_ 8 8 1"], Int[np.ndarray, "_"]]
Images = tuple[UInt8[np.ndarray, "_ 32 32 3"], Int[np.ndarray, "_"]]

CIFAR10_VERSION = "3.0.2"
"""The version of tensorflow-datasets' CIFAR-10 that is read and prepared."""
CIFAR10_SIZES = {"train": 50_000, "test": 10_000}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Names of the labels 0 to 9."""


def digits(*, test_share: float = 0.2, seed: int = 0) -> tuple[Digits, Digits]:
    """The embedded real data: 1,797 handwritten digits of 8×8 pixels.

    This is the *test part only* of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, UCI,
    https://doi.org/10.24432/C50P49, CC BY 4.0), as in scikit-learn's `load_digits`. It is split here into a training
    and a test set. Its digits come from 13 writers, but it does not say which from whom, so the same writers are on
    both sides of the split: accuracies are higher than the published ones (which are measured on writers not trained
    on) and must not be compared with them.

    Args:
        test_share: share of each class that goes to the test set, above 0 and below 1 (rounded, at least one example on
            each side of each class).
        seed: chooses the split. The default is fixed, so that numbers can be compared.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: images uint8 `[n, 8, 8, 1]` from 0 (paper) to 16 (ink), labels int32
        `[n]` in `[0, 10)`. The split is stratified; inside each part the examples keep their order in the original
        file.

    Raises:
        ValueError: `test_share` is not between 0 and 1, or `seed` is negative.
    """
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"test_share is {test_share}; wanted a share above 0 and below 1")
    if seed < 0:
        raise ValueError(f"seed is {seed}; wanted 0 or more")
    with (
        (resources.files("jaxrecipe.data") / "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        images, labels = stored["images"], stored["labels"].astype(np.int32)
    is_test = _stratified(labels, test_share, seed)
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


def _stratified(labels: Int[np.ndarray, "n"], share: float, seed: int) -> np.ndarray:
    """Which examples are test: the same share of every class, by the order of raw Philox numbers (stable across
    numpy).
    """
    ranks = np.random.Philox(np.random.SeedSequence(int(seed))).random_raw(len(labels))
    is_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        is_test[members[np.argsort(ranks[members], kind="stable")[:count]]] = True
    return is_test


def cifar10(data_dir: str | os.PathLike[str] | None = None, *, from_disk: bool = False) -> tuple[Any, Any]:
    """CIFAR-10 as tensorflow-datasets keeps it on disk, read without TensorFlow and never from the network.

    60,000 colour images in 10 classes (A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

    Args:
        data_dir: the tensorflow-datasets directory; by default `$TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        from_disk: True gives a `Source` a split, which reads and decodes the examples whenever they are needed (labels
            are int64); False decodes everything once (184 MB, some seconds).

    Returns:
        `(train, test)`, of 50,000 and 10,000 examples, each `(images, labels)`: uint8 `[n, 32, 32, 3]` from 0 to 255
        and int32 `[n]` in `[0, 10)`; or two Sources of such examples.

    Raises:
        FileNotFoundError: the data set has not been prepared there; the message has the command that does it.
        ImportError: the extra `datasets` is not installed.
        ValueError: what is there has not the 50,000 and 10,000 examples of CIFAR-10.
    """
    where = tfds_directory(data_dir)
    _check_prepared(where)
    train, test = (_data_source(where, split) for split in ("train", "test"))
    sizes = {"train": len(train), "test": len(test)}
    if sizes != CIFAR10_SIZES:
        raise ValueError(f"{where / 'cifar10' / CIFAR10_VERSION} has {sizes} examples; CIFAR-10 has {CIFAR10_SIZES}")
    sources = as_source(examples(train)), as_source(examples(test))
    return sources if from_disk else (_decoded(sources[0]), _decoded(sources[1]))


def tfds_directory(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where tensorflow-datasets keeps its data sets: `data_dir`, else `$TFDS_DATA_DIR`, else
    `~/tensorflow_datasets`.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    return Path(chosen).expanduser()


def _check_prepared(where: Path) -> None:
    """tensorflow-datasets itself reports absent data as data of a wrong format, or tries the network for minutes."""
    directory = where / "cifar10" / CIFAR10_VERSION
    wanted = [directory / "dataset_info.json", directory / "features.json"]
    missing = [path.name for path in wanted if not path.is_file()]
    records = sorted(directory.glob("cifar10-*.array_record*"))
    if not missing and records:
        return
    found = "there is no such directory"
    if directory.is_dir():
        lacking = ", ".join([*missing, *([] if records else ["array_record files"])])
        found = f"it lacks {lacking}" + (
            "; its TFRECORD files need TensorFlow" if any(directory.glob("*.tfrecord*")) else ""
        )
    raise FileNotFoundError(
        f"CIFAR-10 is not prepared in {directory}: {found}.\n"
        "Get cifar-10-binary.tar.gz (162 MB) from the CIFAR-10 page, https://www.cs.toronto.edu/~kriz/cifar.html, "
        "then run\n"
        f"    jaxrecipe prepare-cifar10 cifar-10-binary.tar.gz --data-dir {where}\n"
        "which needs no TensorFlow. If it is prepared elsewhere, pass data_dir or set TFDS_DATA_DIR."
    )


def _data_source(where: Path, split: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError("CIFAR-10 needs tensorflow-datasets: pip install 'jaxrecipe[datasets]'") from error
    return tfds.data_source(f"cifar10:{CIFAR10_VERSION}", split=split, data_dir=where, download=False)


def _decoded(source: Source) -> Images:
    images, labels = in_memory(source)
    return images, labels.astype(np.int32)
