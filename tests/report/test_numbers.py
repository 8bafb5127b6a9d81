"""Writing numbers, shrinking matrices and thinning curves, against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.report.numbers import clean, number, plural, seconds, shorten, strongest, thinned, unit_scaled


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (1437, "1,437"), (True, "yes"), (False, "no"), (2.302585, "2.303"), (0.1, "0.1"), (12345.6, "12,346"),
        (1e-7, "1e-07"), (1e12, "1e+12"), (-0.5, "-0.5"), (math.nan, "NaN"), (math.inf, "inf"), (-math.inf, "-inf"),
        ("a \x1b[31mb", "a �[31mb"), (np.float32(0.1), "0.1"), (np.int8(5), "5"), (np.bool_(True), "yes"),
    ],
)  # fmt: skip
def test_numbers(value: object, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 ms"),
        (0.0421, "42 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (61.0, "1 min 01 s"),
        (math.nan, "NaN"),
    ],
)
def test_seconds(value: float, words: str) -> None:
    assert seconds(value) == words


def test_plurals() -> None:
    assert [plural(n, "check") for n in (0, 1, 2000)] == ["0 checks", "1 check", "2,000 checks"]


@given(st.text(), st.integers(3, 40))
@settings(deadline=None, max_examples=25)
def test_shortened_words_fit(text: str, most: int) -> None:
    short = shorten(text, most)
    assert len(short) <= most
    assert "\n" not in short
    assert clean(short) == short


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (200, 3), (64, 64)])
def test_a_block_shows_its_strongest_cell(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    values[-1, -1] = np.nan
    few = strongest(values, 10, 4)
    down, across = math.ceil(shape[0] / 10), math.ceil(shape[1] / 4)
    for i in range(few.shape[0]):
        for j in range(few.shape[1]):
            block = [v for row in values[i * down : (i + 1) * down] for v in row[j * across : (j + 1) * across]]
            wanted = math.nan if any(math.isnan(v) for v in block) else max(block, key=abs)
            assert few[i, j] == wanted or (math.isnan(few[i, j]) and math.isnan(wanted))
    assert few.shape == (math.ceil(shape[0] / down), math.ceil(shape[1] / across))


@given(st.lists(st.floats(), max_size=300), st.integers(9, 60))
@settings(deadline=None, max_examples=25)
def test_a_thinned_curve_keeps_its_ends_extremes_and_holes(values: list[float], most: int) -> None:
    y = np.array(values, np.float64)
    kept = thinned(y, most)
    assert kept.size <= max(most, 3) + 2
    finite = y[np.isfinite(y)]
    if y.size:
        assert {0, y.size - 1} <= set(kept.tolist())
        assert np.isfinite(y).all() == np.isfinite(y[kept]).all()
    if finite.size:
        assert {finite.min(), finite.max()} <= set(y[kept].tolist())


def test_scaling_keeps_holes_and_survives_the_extremes_of_float64() -> None:
    scaled = unit_scaled(np.array([-1.7e308, 0.0, 1.7e308, np.nan, np.inf]))
    np.testing.assert_allclose(scaled[:3], [0, 0.5, 1])
    assert np.isnan(scaled[3])
    assert np.isinf(scaled[4])
    assert unit_scaled(np.full(3, 7.0)).tolist() == [0.5] * 3
