"""Tokens to predict: padding that is too much, or not declared, and a vocabulary that is not used."""

from collections.abc import Iterator

import numpy as np

from jaxrecipe.checks.data.labels.read import HeadLabels, Judged, Limits
from jaxrecipe.diagnosis.measure import Measure, Severity

ENDING_ALIKE = 0.5
"""Share of the rows that end in a run of one token from which on it looks like padding: text ends in this and that."""
USED = 0.1
"""Share of the vocabulary that long texts use at least."""
TOKENS_EACH = 100
"""Tokens of text for each entry of the vocabulary, from which on all but rare ones should have occurred."""
SHORTEST_ROW = 3
"""In shorter rows the end is no run."""
FEWEST_LENGTHS = 3
"""Padding fills rows of several lengths; runs of one or two lengths are a format."""
LISTED = 5
"""Rows that a message lists at most."""


def token_rows(labels: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """Tokens `[examples, time]` that are in the vocabulary."""
    padding, behavior = labels.padding, labels.head.behavior
    if getattr(labels.head.target, "pad", None) is not None:
        yield from _padding(labels, limits)
    elif len(labels.values) >= limits.least:
        yield _undeclared_padding(labels)
    numbers = behavior.labels(labels.head.target, labels.values)
    vocabulary = behavior.classes(labels.head.target)
    if numbers is None or not vocabulary or numbers[~padding].size <= TOKENS_EACH * vocabulary:
        return
    used = int(np.count_nonzero(np.bincount(numbers[~padding], minlength=vocabulary)))
    yield Judged(
        Measure(
            name=f"{labels.where}share of the vocabulary that occurs",
            value=used / vocabulary,
            low=USED,
            severity=Severity.WARN,
            code="data/unused-vocabulary",
        ),
        f"{labels.where}only {used} of {vocabulary} tokens of the vocabulary occur.",
    )


def _padding(labels: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """How much of the tokens is padding, and rows that are nothing else."""
    padding = labels.padding.reshape(len(labels.values), -1)
    share = float(padding.mean())
    yield Judged(
        Measure(
            name=f"{labels.where}share of padding",
            value=share,
            high=limits.padding_warn,
            severity=Severity.WARN,
            thresholds={"high": "padding_warn"},
            code="data/mostly-padding",
        ),
        f"{labels.where}{share:.1%} of the tokens are padding.",
    )
    blank = labels.rows[padding.all(axis=1)]
    yield Judged(
        Measure(
            name=f"{labels.where}rows of padding alone",
            value=len(blank),
            low=0,
            high=0,
            severity=Severity.WARN,
            unit="rows",
            code="data/empty-rows",
        ),
        f"{labels.where}{len(blank)} of {len(padding)} rows hold nothing but padding "
        f"(examples {blank[:LISTED].tolist()}).",
    )


def _undeclared_padding(labels: HeadLabels) -> Judged:
    """How many rows end in a run of one token, where no padding is declared."""
    token, share = trailing_token(labels.flat)
    measure = Measure(
        name=f"{labels.where}share of rows that end in a run of one token",
        value=share,
        high=ENDING_ALIKE,
        severity=Severity.WARN,
        code="data/padding-undeclared",
    )
    return Judged(measure, f"{labels.where}{share:.0%} of the rows end in a run of token {token}.")


def trailing_token(tokens: np.ndarray) -> tuple[int, float]:
    """The token in which most rows `[n, time]` end at least twice in a row, and the share of these rows.

    The share is 0 where the runs are all of one length or two.
    """
    if tokens.shape[1] < SHORTEST_ROW:
        return 0, 0.0
    last = tokens[:, -1]
    same = (tokens == last[:, None])[:, ::-1]
    runs = np.argmin(np.concatenate([same, np.zeros((len(tokens), 1), bool)], axis=1), axis=1)
    values, counts = np.unique(last[runs > 1], return_counts=True)
    if not values.size:
        return 0, 0.0
    token = values[counts.argmax()]
    lengths = np.unique(runs[(last == token) & (runs > 1)])
    return int(token), float(counts.max() / len(tokens)) if len(lengths) >= FEWEST_LENGTHS else 0.0
