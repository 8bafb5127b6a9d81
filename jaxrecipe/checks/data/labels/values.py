"""Real numbers to predict: columns that are constant, and a variance that a few examples make alone."""

from collections.abc import Iterator

import numpy as np

from jaxrecipe.checks.data.labels.read import HeadLabels, Judged, Limits
from jaxrecipe.diagnosis.measure import Measure, Severity

FEW_COLUMNS = 16
"""Values an example up to which each column is looked at alone: more are images or sequences."""
TAIL_PART = 100
"""One example in so many is the tail."""
TAIL_LEAST = 5
"""Times the least examples from which on a tail is judged: the hundredth of a hundred is one example."""
LISTED = 8
"""Columns or examples that a message lists at most."""


def real_numbers(labels: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """Real numbers of a few columns."""
    values = labels.flat
    if values.shape[1] > FEW_COLUMNS or len(values) < limits.least:
        return
    constant = np.flatnonzero((values == values[:1]).all(axis=0))
    yield Judged(
        Measure(
            name=f"{labels.where}constant columns",
            value=len(constant),
            low=0,
            high=0,
            severity=Severity.WARN,
            unit="columns",
            code="data/constant-target-columns",
        ),
        f"{labels.where}{constant.size} of {values.shape[1]} columns hold one number only "
        f"(columns {constant[:LISTED].tolist()}).",
    )
    if len(values) >= TAIL_LEAST * limits.least:
        yield _tail(labels, limits)


def _tail(labels: HeadLabels, limits: Limits) -> Judged:
    """Share of the variance that the examples farthest out make, in the column where it is largest."""
    values = labels.flat.astype(np.float64)
    squares = np.square(values - values.mean(axis=0))
    few = max(1, len(values) // TAIL_PART)
    total = np.maximum(squares.sum(axis=0), np.finfo(np.float64).tiny)
    shares = np.sort(squares, axis=0)[-few:].sum(axis=0) / total
    column = int(shares.argmax())
    farthest = labels.rows[np.argsort(-squares[:, column], kind="stable")[: min(few, LISTED)]].tolist()
    measure = Measure(
        name=f"{labels.where}share of the variance in one target of a hundred",
        value=shares[column],
        high=limits.tail_warn,
        severity=Severity.WARN,
        thresholds={"high": "tail_warn"},
        code="data/heavy-tailed-targets",
    )
    message = (
        f"{labels.where}{few} of {len(values)} targets make {shares[column]:.1%} of the variance (examples {farthest})."
    )
    return Judged(measure, message)
