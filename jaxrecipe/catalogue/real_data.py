"""Real data that are at hand everywhere: the embedded digits and what can be asked of them, and the English of Python's
own help.
"""

import re
from functools import cache
from typing import Any

import numpy as np

from jaxrecipe.data.datasets import digits

Split = tuple[tuple[Any, Any], tuple[Any, Any]]
"""`((inputs, targets), (inputs, targets))`: training and test data."""

ALPHABET = " abcdefghijklmnopqrstuvwxyz.,"
"""What is kept of the text; the number of a character is its place here, plus one. 0 is padding."""
VOCABULARY = len(ALPHABET) + 1
CONTEXT = 32
"""Characters that a language model sees."""


def pictures(seed: int) -> Split:
    """Digits as 8-bit pictures: uint8 `[n, 8, 8, 1]` from 0 to 255 and int32 labels `[n]`; the seed chooses the
    split.
    """
    (x, y), (x_test, y_test) = digits(seed=seed)
    return (eight_bit(x), y), (eight_bit(x_test), y_test)


def eight_bit(images: np.ndarray) -> np.ndarray:
    """Ink from 0…16 to 0…255."""
    return (images.astype(np.uint16) * 255 // 16).astype(np.uint8)


def mapped(split: Split, change: Any) -> Split:
    """Both halves of a split, each put through `change(inputs, targets)`."""
    train, test = split
    return change(*train), change(*test)


def table(seed: int) -> Split:
    """The digits as a table of 64 columns, float32, standardized by the training data; constant columns are left
    out.
    """
    (x, y), (x_test, y_test) = pictures(seed)
    rows, rows_test = (images.reshape(len(images), -1).astype(np.float32) for images in (x, x_test))
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    used = std > 0.1 * std.max()
    scale = lambda rows: ((rows - mean)[:, used] / std[used]).astype(np.float32)  # noqa: E731
    return (scale(rows), y), (scale(rows_test), y_test)


def center(images: np.ndarray) -> np.ndarray:
    """How far right and down the ink of a picture lies on average, in pixels; float64 `[n, 2]`."""
    ink = images[..., 0].astype(np.float64)
    weight = ink.sum(axis=(1, 2))
    places = np.arange(ink.shape[1])
    return (
        np.stack([(ink.sum(axis=1) * places).sum(axis=1), (ink.sum(axis=2) * places).sum(axis=1)], axis=1)
        / (weight[:, None])
    )


def traits(labels: np.ndarray) -> np.ndarray:
    """Five yes-or-no questions about a digit: even, five or more, with a loop, prime, a multiple of three; float32 `[n,
    5]`.
    """
    groups = ((0, 2, 4, 6, 8), (5, 6, 7, 8, 9), (0, 6, 8, 9), (2, 3, 5, 7), (0, 3, 6, 9))
    return np.stack([np.isin(labels, group) for group in groups], axis=1).astype(np.float32)


def levels(images: np.ndarray) -> np.ndarray:
    """Each pixel as paper, gray or ink: int32 `[n, 8, 8]` in `[0, 3)`."""
    return np.digitize(images[..., 0], [64, 176]).astype(np.int32)


@cache
def text() -> str:
    """The topics of Python's help as lower-case prose, in `ALPHABET` only."""
    from pydoc_data.topics import topics

    joined = " ".join(topics[name] for name in sorted(topics)).lower()
    prose = re.sub(r"[^a-z.,]+", " ", joined)
    return re.sub(r"[.,]{2,}", ".", prose)


def encoded(rows: list[str]) -> np.ndarray:
    """Characters as numbers from 1, filled up with 0; int32 `[rows, length]`."""
    longest = max(map(len, rows))
    codes = [[ALPHABET.index(letter) + 1 for letter in row] + [0] * (longest - len(row)) for row in rows]
    return np.asarray(codes, np.int32)


def snippets(seed: int, *, train: int = 1600, test: int = 320) -> Split:
    """Rows of text that do not overlap, each with the same row one character later as its target; `[n, 32]`."""
    length = CONTEXT + 1
    whole = text()
    rows = sorted({whole[start : start + length] for start in range(0, len(whole) - length, length)})
    return _shifted(_shuffled(rows, seed)[: train + test], train)


def phrases(seed: int, *, most: int = 1920) -> Split:
    """Phrases of 10 to 33 characters, filled up with 0, each with the same one character later as its target; `[n,
    32]`.
    """
    found = {part.strip() for part in re.split(r"[.,]", text())}
    rows = sorted(row for row in found if 10 <= len(row) <= CONTEXT + 1)
    chosen = _shuffled(rows, seed)[:most]
    return _shifted(chosen, len(chosen) * 5 // 6)


def _shuffled(rows: list[str], seed: int) -> list[str]:
    return [rows[place] for place in np.random.default_rng([seed, 5]).permutation(len(rows))]


def _shifted(rows: list[str], train: int) -> Split:
    codes = encoded([*rows, "a" * (CONTEXT + 1)])[:-1]
    before, after = np.ascontiguousarray(codes[:, :-1]), np.ascontiguousarray(codes[:, 1:])
    return (before[:train], after[:train]), (before[train:], after[train:])
