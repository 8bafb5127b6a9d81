"""What a model reads: the kinds of inputs, which of them an array can be, and which one it looks like."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

InputKind = Literal["image", "sequence", "tokens", "table"]
"""image: `[height, width]` or `[height, width, channels]`. sequence: `[time, ...]`, numbers in an order. tokens: whole
numbers that are names, in an order. table: numbers (or categories) each of which means something of its own."""
INPUT_KINDS: tuple[str, ...] = get_args(InputKind)
InputKinds = InputKind | Mapping[str, InputKind]
"""One kind for a single input, or the kinds of several by their path."""

MOST_CHANNELS = 4
"""Channels that images have: gray, with or without alpha, and three colors, likewise."""
SMALLEST_SIDE = 4
"""Height and width from which on `[height, width, channels]` is an image."""
SMALLEST_GRAY_SIDE = 8
"""The same without channels, where a sequence of short vectors has the same form: that of the smallest published
images."""
SHORTEST_TEXT = 16
"""Whole numbers an example from which on they are tokens; fewer are categories of a table."""
SHORTEST_SEQUENCE = 4
"""Steps from which on `[time, channels]` is a sequence."""


def kind_fits(kind: str, shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether an array can be of that kind; `shape` is that of one example."""
    match kind:
        case "image":
            return len(shape) in (2, 3)
        case "sequence":
            return len(shape) >= 1
        case "tokens":
            return len(shape) >= 1 and np.dtype(dtype).kind in "iu"
    return kind in INPUT_KINDS


def guess_kind(shape: tuple[int, ...], dtype: Any) -> InputKind:
    """What an input most likely is, by shape of one example and dtype alone.

    `[height, width, channels]` with up to four channels is an image, as is `[height, width]` where it is square or made
    of bytes. Other whole numbers (of more than a byte, where they are one row) are tokens if there are many of them.
    Other arrays of two axes or more are sequences.
    """
    if _looks_like_image(shape, dtype):
        return "image"
    numeric = np.dtype(dtype)
    one_row_of_bytes = numeric == np.uint8 and len(shape) == 1  # pixels laid flat
    if numeric.kind in "iu" and int(np.prod(shape)) >= SHORTEST_TEXT and not one_row_of_bytes:
        return "tokens"
    channels_first = len(shape) == 3 and shape[0] <= MOST_CHANNELS
    return "sequence" if len(shape) >= 2 and shape[0] >= SHORTEST_SEQUENCE and not channels_first else "table"


def _looks_like_image(shape: tuple[int, ...], dtype: Any) -> bool:
    if len(shape) == 3:
        return shape[-1] <= MOST_CHANNELS and min(shape[:2]) >= SMALLEST_SIDE
    if len(shape) != 2 or min(shape) < SMALLEST_GRAY_SIDE:
        return False
    return shape[0] == shape[1] or np.dtype(dtype) == np.uint8


def are_names(kind: InputKind, dtype: Any) -> bool:
    """Whether numbers are names, whose order and distances mean nothing: tokens, and whole numbers of a table other
    than bytes.
    """
    numeric = np.dtype(dtype)
    return kind == "tokens" or (kind == "table" and numeric.kind in "iub" and numeric != np.uint8)
