"""What labels there are, as a table, and how they are distributed."""

from typing import Any

import numpy as np

from jaxrecipe.checks.data.labels.read import MOST_SORTED, HeadLabels
from jaxrecipe.report.result import Evidence, Histogram, Table

COLUMNS = ("split", "target", "declared", "dtype and shape", "lowest", "highest", "different values")
BINS = 40
"""Bars of a distribution."""


def evidence(read: list[HeadLabels]) -> tuple[Evidence, ...]:
    """A table of all heads, and distributions."""
    table = Table(title="Labels", columns=COLUMNS, rows=[_row(labels) for labels in read])
    return (table, *(chart for labels in read for chart in _distribution(labels)))


def in_words(read: list[HeadLabels]) -> str:
    """Every head of every split with its range, for the summary."""
    rows = map(_row, read)
    return "; ".join(
        f"{split}{'' if head == 'targets' else f' {head}'} {different} different, {low:g} to {high:g}"
        for split, head, _, _, low, high, different in rows
    )


def _row(labels: HeadLabels) -> tuple[Any, ...]:
    """What is declared, the form, the range and how many different values there are."""
    values = labels.values
    low, high = (float(values.min()), float(values.max())) if values.size else (float("nan"), float("nan"))
    form = f"{values.dtype}{list(values.shape)}"
    name = labels.head.path or "targets"
    return (labels.split, name, str(labels.head.target), form, low, high, labels.different())


def _distribution(labels: HeadLabels) -> list[Histogram]:
    """Distribution of real numbers, and of the lengths of padded rows; classes are drawn with their balance."""
    if labels.head.behavior.form == "real" and labels.values.size:
        values, x_label = labels.values.ravel()[:MOST_SORTED].astype(np.float64), "value"
    elif getattr(labels.head.target, "pad", None) is not None:
        values, x_label = (~labels.padding).sum(axis=1), "tokens a row without padding"
    else:
        return []
    counts, edges = np.histogram(values, bins=BINS)
    return [Histogram(title=f"{labels.where}targets", edges=edges, counts={x_label: counts}, x_label=x_label)]
