"""How often each class of each head occurs in each split."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from jaxrecipe.probes.heads import head_chunks
from jaxrecipe.probes.reading import splits
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Head


@dataclass
class Counted:
    """How often the classes of one head occur in one split; of several yes-or-no labels how often each is positive.

    Attributes:
        examples: how many examples were read.
        labels: how many labels, more than the examples for masks.
        times: labels of each class, `[classes]`.
        holding: examples that hold each class, `[classes]`.
    """

    examples: int
    labels: int
    times: Int[np.ndarray, "classes"]
    holding: Int[np.ndarray, "classes"]

    @property
    def shares(self) -> Float[np.ndarray, "classes"]:
        """Share of the labels that each class has."""
        return self.times / max(1, self.labels)

    @property
    def frequencies(self) -> Float[np.ndarray, "classes"]:
        """Share of the examples that hold each class."""
        return self.holding / max(1, self.examples)

    def chance_of_none(self, frequency: float) -> float:
        """Probability that a class which this share of all examples hold is in none of those that were read."""
        return float((1.0 - frequency) ** self.examples)


@dataclass
class HeadCounts:
    """The counts of one head in each split.

    Attributes:
        path: of the head; empty for a single target.
        several: whether an example has several labels of yes or no, each of which is counted where it is positive.
        by_split: the counts.
    """

    path: str
    several: bool
    by_split: dict[Split, Counted] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How messages and measures about it begin."""
        return f"{self.path}: " if self.path else ""

    @property
    def train(self) -> Counted:
        """The counts of the training data."""
        return self.by_split["train"]

    @property
    def test(self) -> Counted | None:
        """The counts of the test data; None where there are none."""
        return self.by_split.get("test")

    @cached_property
    def constant_accuracy(self) -> float:
        """Accuracy on the training data of the best constant answer."""
        shares = self.train.shares
        return float(np.maximum(shares, 1 - shares).mean() if self.several else shares.max())


def count(setup: Setup) -> list[HeadCounts]:
    """The counts of every head with classes, over all the examples that are read."""
    found: dict[str, HeadCounts] = {}
    for split in splits(setup):
        for _, several in head_chunks(setup, split):
            for head in several:
                size = _counted_classes(head)
                if size is None:
                    continue
                counts = found.setdefault(head.path, HeadCounts(head.path, head.behavior.several))
                empty = Counted(0, 0, np.zeros(size, np.int64), np.zeros(size, np.int64))
                add(counts.by_split.setdefault(split, empty), head)
    return [counts for counts in found.values() if "train" in counts.by_split]


def _counted_classes(head: Head) -> int | None:
    """How many classes of a head are counted; None where there are none, or a vocabulary of which most are rare."""
    if head.behavior.by_position or not head.behavior.labeled:
        return None
    return head.targets.shape[-1] if head.behavior.several else head.behavior.classes(head.target)


def add(counted: Counted, head: Head) -> None:
    """Count the labels of some examples; what is out of range is left to another check."""
    labels, size = head.targets.reshape(len(head.targets), -1), len(counted.times)
    counted.examples += len(labels)
    if head.behavior.several:
        counted.labels += len(labels)
        counted.times += (labels == 1).sum(axis=0)
        counted.holding += (labels == 1).sum(axis=0)
        return
    counted.labels += labels.size
    numbers = np.where((labels >= 0) & (labels < size), labels, size).astype(np.int64)
    times = np.bincount(numbers.ravel(), minlength=size + 1)[:size]
    counted.times += times
    counted.holding += times if labels.shape[1] == 1 else _holding(numbers, size)


def _holding(numbers: Int[np.ndarray, "n labels"], size: int) -> Int[np.ndarray, "classes"]:
    """How many examples hold each class; `size` stands for labels out of range."""
    if 0 < numbers.shape[1] < size:  # most classes are not in an example
        ordered = np.sort(numbers, axis=1)
        first = np.concatenate([np.ones((len(ordered), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
        return np.bincount(ordered[first], minlength=size + 1)[:size]
    by_example = numbers + (size + 1) * np.arange(len(numbers))[:, None]
    table = np.bincount(by_example.ravel(), minlength=len(numbers) * (size + 1)).reshape(len(numbers), -1)
    return (table[:, :size] > 0).sum(axis=0)
