"""A stand-in for tensorflow-datasets: the calls that the projects make, on small local data instead of downloads.

Pictures are scikit-learn's 1,797 handwritten digits, enlarged to the size of the data set that is asked for, so that
every number from them is one on stand-in data.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

AUTOTUNE = -1
SIZES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "binarized_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
TEST_SHARE = 0.2


class Dataset:
    """Examples in a list, with the methods of a `tf.data.Dataset` that training scripts use."""

    def __init__(self, items: Callable[[], Iterator[Any]], size: int) -> None:
        self.items, self.size = items, size

    def __iter__(self) -> Iterator[Any]:
        return self.items()

    def __len__(self) -> int:
        return self.size

    def cardinality(self) -> int:
        """How many examples or batches there are."""
        return self.size

    def as_numpy_iterator(self) -> Iterator[Any]:
        """The same, which are arrays already."""
        return self.items()

    def map(self, map_func: Callable[..., Any], *_: Any, **__: Any) -> "Dataset":
        """Each example after a function."""
        spread = lambda item: map_func(*item) if isinstance(item, tuple) else map_func(item)  # noqa: E731
        return Dataset(lambda: map(spread, self.items()), self.size)

    def shuffle(self, buffer_size: int, seed: int | None = None, **_: Any) -> "Dataset":
        """In another order each time, which follows from the seed; endless ones by a buffer."""
        rng = np.random.default_rng(seed)

        def shuffled() -> Iterator[Any]:
            items = self.items()
            waiting = list(islice(items, buffer_size))
            for item in items:
                index = int(rng.integers(len(waiting)))
                waiting[index], item = item, waiting[index]
                yield item
            yield from (waiting[index] for index in rng.permutation(len(waiting)))

        return Dataset(shuffled, self.size)

    def batch(self, size: int, drop_remainder: bool = False, **_: Any) -> "Dataset":
        """Stacked by `size`."""
        count = self.size // size if drop_remainder else -(-self.size // size)

        def batches() -> Iterator[Any]:
            waiting: list[Any] = []
            for item in self.items():
                waiting.append(item)
                if len(waiting) == size:
                    yield stacked(waiting)
                    waiting = []
            if waiting and not drop_remainder:
                yield stacked(waiting)

        return Dataset(batches, count)

    def repeat(self, count: int | None = None) -> "Dataset":
        """Again and again, or so many times."""

        def repeated() -> Iterator[Any]:
            done = 0
            while count is None or done < count:
                yield from self.items()
                done += 1

        return Dataset(repeated, self.size * (count or 1))

    def take(self, count: int) -> "Dataset":
        """The first so many."""
        return Dataset(
            lambda: (item for _, item in zip(range(count), self.items(), strict=False)), min(count, self.size)
        )

    def prefetch(self, *_: Any, **__: Any) -> "Dataset":
        """Nothing to do here."""
        return self

    cache = with_options = apply_options = prefetch


def stacked(items: list[Any]) -> Any:
    """Examples along a new leading axis."""
    first = items[0]
    if isinstance(first, Mapping):
        return {name: stacked([item[name] for item in items]) for name in first}
    if isinstance(first, tuple):
        return tuple(stacked(list(parts)) for parts in zip(*items, strict=True))
    return np.stack([np.asarray(item) for item in items])


def load(name: str, split: Any = None, batch_size: int | None = None, as_supervised: bool = False, **_: Any) -> Any:
    """A data set by name: one split, a list of splits, or all of them by name."""
    if split is None:
        return {one: load(name, one, batch_size, as_supervised) for one in ("train", "test")}
    if isinstance(split, list | tuple):
        return [load(name, one, batch_size, as_supervised) for one in split]
    images, labels = pictures(name, train=str(split).startswith("train"))
    items = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    if as_supervised:
        items = [(item["image"], item["label"]) for item in items]
    if batch_size == -1:
        return stacked(items)
    found = Dataset(lambda: iter(items), len(items))
    return found if batch_size is None else found.batch(batch_size)


def as_numpy(data: Any) -> Any:
    """The same, which are arrays already."""
    return data


class Split:
    """Names of splits."""

    TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class _Size:
    num_examples: int


@dataclass(frozen=True)
class _Info:
    splits: Mapping[str, _Size]


class _Builder:
    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def info(self) -> _Info:
        """How many examples there are."""
        return _Info({split: _Size(len(load(self.name, split))) for split in ("train", "test")})

    def download_and_prepare(self, **_: Any) -> None:
        """Nothing to do here."""

    def as_dataset(self, split: Any = None, **options: Any) -> Any:
        """As `load`."""
        options.pop("shuffle_files", None)
        return load(self.name, split, **options)


def builder(name: str, **_: Any) -> _Builder:
    """Gives the data set of that name."""
    return _Builder(name)


def pictures(name: str, *, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bytes `[n, height, width, channels]` (0 and 1 for binarized ones) and class numbers `[n]` of a split."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    held_out = int(TEST_SHARE * len(order))
    rows = order[held_out:] if train else order[:held_out]
    height, width, channels = SIZES.get(name.split(":")[0].split("/")[0], SIZES["mnist"])
    factor = height // digits.images.shape[1]
    enlarged = np.kron(digits.images[rows], np.ones((1, factor, factor)))
    border = [(0, 0)] + [
        ((side - got) // 2, side - got - (side - got) // 2)
        for side, got in zip((height, width), enlarged.shape[1:], strict=True)
    ]
    bytes_ = np.round(np.pad(enlarged, border) * (255 / 16)).astype(np.uint8)[..., None].repeat(channels, axis=-1)
    return (bytes_ > 127 if name == "binarized_mnist" else bytes_), digits.target[rows].astype(np.int64)
