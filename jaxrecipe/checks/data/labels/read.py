"""The labels of one head in one split, as they are judged, and what is said of one number of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.heads import all_heads
from jaxrecipe.probes.reading import readable_rows, splits
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Head

MOST_SORTED = 2**20
"""Labels of which the different ones are counted, since all of them must be sorted for it."""


class Limits(NamedTuple):
    """The thresholds of the check, by the names of its arguments."""

    least: int
    empty_warn: float
    padding_warn: float
    tail_warn: float


class Judged(NamedTuple):
    """A number, and what is wrong where it leaves its bounds."""

    measure: Measure
    message: str
    causes: tuple[Cause, ...] = ()

    @property
    def finding(self) -> Finding | None:
        """The finding, None while the bounds are kept."""
        verdict = self.measure.verdict
        if verdict is None:
            return None
        code, measures = self.measure.code, (self.measure,)
        return Finding(code=code, severity=verdict, message=self.message, measures=measures, causes=self.causes)


@dataclass(frozen=True)
class HeadLabels:
    """What the loss gets as targets at one head, of some examples of one split."""

    split: Split
    head: Head
    rows: Int[np.ndarray, "n"]

    @property
    def where(self) -> str:
        """How messages and measures about it begin."""
        return f"{self.split}, {self.head.path}: " if self.head.path else f"{self.split}: "

    @property
    def values(self) -> np.ndarray:
        """The labels, `[n, ...]`."""
        return self.head.targets

    @property
    def flat(self) -> np.ndarray:
        """The labels of each example in a row, `[n, labels]`."""
        return self.values.reshape(len(self.values), -1)

    @property
    def all_alike(self) -> bool:
        """Whether there is one label only."""
        return bool((self.values == self.values.flat[0]).all())

    @property
    def padding(self) -> Bool[np.ndarray, "..."]:
        """Which of them are declared to be padding."""
        pad = getattr(self.head.target, "pad", None)
        return np.zeros(self.values.shape, bool) if pad is None else self.values == pad

    def different(self) -> int:
        """How many different labels there are, by the first million."""
        found = len(np.unique(self.values.ravel()[:MOST_SORTED]))
        return found if found != 1 or self.all_alike else 2

    def finite(self) -> Bool[np.ndarray, "n"]:
        """Which examples have finite labels only."""
        if not trees.is_inexact(self.values):
            return np.ones(len(self.values), bool)
        return np.asarray(np.isfinite(self.flat).all(axis=1))

    def at(self, kept: Bool[np.ndarray, "n"]) -> "HeadLabels":
        """The same head at some of the examples."""
        return replace(self, head=self.head._replace(targets=self.values[kept]), rows=self.rows[kept])


def read_labels(setup: Setup) -> Iterator[HeadLabels]:
    """Every declared head of every split after `task.prepare`."""
    for split in splits(setup):
        rows = readable_rows(setup, split, targets_only=True)
        for head in all_heads(setup, split, rows):
            yield HeadLabels(split, head, rows)
