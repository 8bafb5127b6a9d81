"""The counts of the classes, as bars and as a table."""

import numpy as np

from jaxrecipe.checks.data.class_balance.counts import HeadCounts
from jaxrecipe.report.result import Evidence, Histogram, Table

LISTED = 100
"""Classes that the table lists at most."""


def evidence(counts: HeadCounts) -> list[Evidence]:
    """Bars and a table of one head."""
    size = len(counts.train.times)
    bars = Histogram(
        title=f"{counts.where}labels of each class",
        edges=np.arange(size + 1) - 0.5,
        counts={split: counted.times for split, counted in counts.by_split.items()},
        x_label="class",
    )
    order = np.argsort(counts.train.times, kind="stable")[:LISTED]
    numbers = ("labels", "share of the labels", "examples")
    columns = ["class"] + [f"{what}, {split}" for split in counts.by_split for what in numbers]
    rows = [(int(one), *_numbers(counts, int(one))) for one in order]
    return [bars, Table(title=f"{counts.where}classes, the rarest first", columns=columns, rows=rows)]


def _numbers(counts: HeadCounts, one: int) -> list[int | float]:
    """What the table says of one class, split by split."""
    row: list[int | float] = []
    for counted in counts.by_split.values():
        row += [int(counted.times[one]), float(counted.shares[one]), int(counted.holding[one])]
    return row


def in_words(counts: HeadCounts) -> str:
    """One head in the summary."""
    times = counts.train.times
    what = "labels, positive" if counts.several else "classes,"
    name = f"{counts.path} " if counts.path else ""
    return f"{name}{len(times)} {what} {times.min()} to {times.max()} times"
