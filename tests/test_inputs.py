"""Kinds of inputs, by shape and dtype."""

from typing import Any

import numpy as np
import pytest

from jaxrecipe.inputs import InputKind, are_names, guess_kind, kind_fits

TABLE: list[tuple[tuple[int, ...], Any, InputKind]] = [
    ((28, 28, 1), np.uint8, "image"),
    ((32, 32, 3), np.float32, "image"),
    ((28, 28), np.float32, "image"),
    ((28, 28), np.int64, "image"),
    ((4, 4, 1), np.float32, "image"),
    ((3, 4, 1), np.float32, "table"),
    ((30, 20), np.uint8, "image"),
    ((30, 7), np.uint8, "tokens"),
    ((30, 20), np.float32, "sequence"),
    ((64, 8), np.float32, "sequence"),
    ((8, 8), np.float32, "image"),
    ((7, 7), np.float32, "sequence"),
    ((4, 16), np.int32, "tokens"),
    ((4, 16), np.uint16, "tokens"),
    ((16,), np.int32, "tokens"),
    ((15,), np.int32, "table"),
    ((64,), np.uint8, "table"),
    ((64,), bool, "table"),
    ((64,), np.float32, "table"),
    ((3, 8), np.float32, "table"),
    ((3, 32, 32), np.float32, "table"),
    ((10, 32, 32, 3), np.float32, "sequence"),
    ((), np.float32, "table"),
]


@pytest.mark.parametrize(("shape", "dtype", "kind"), TABLE)
def test_the_guess(shape: tuple[int, ...], dtype: Any, kind: InputKind) -> None:
    assert guess_kind(shape, dtype) == kind
    assert kind_fits(kind, shape, dtype)


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "fits"),
    [
        ("image", (64,), np.uint8, False),
        ("image", (8, 8, 7), np.float32, True),
        ("image", (2, 8, 8, 3), np.float32, False),
        ("tokens", (8,), np.float32, False),
        ("tokens", (8,), np.uint8, True),
        ("tokens", (), np.int32, False),
        ("sequence", (8,), np.float32, True),
        ("sequence", (), np.float32, False),
        ("table", (), np.float32, True),
        ("picture", (8, 8), np.float32, False),
    ],
)
def test_what_an_array_can_be(kind: str, shape: tuple[int, ...], dtype: Any, *, fits: bool) -> None:
    assert kind_fits(kind, shape, dtype) == fits


def test_names_are_tokens_and_categories() -> None:
    assert are_names("tokens", np.uint8)
    assert are_names("table", np.int64)
    assert are_names("table", bool)
    assert not are_names("table", np.uint8)
    assert not are_names("table", np.float32)
    assert not are_names("image", np.int32)
    assert not are_names("sequence", np.int16)
