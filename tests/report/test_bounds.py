"""Measures in words."""

import math

import pytest

from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.bounds import distance, with_unit


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"value": 2.5}, "2.5"),
        ({"value": 2.5, "unit": "nats"}, "2.5 nats"),
        ({"value": 2.5, "unit": "nats", "error": 0.25}, "2.5 ± 0.25 nats"),
        ({"value": math.nan}, "NaN"),
        ({"value": 2.5, "unit": "a\x1bb"}, "2.5 a�b"),
    ],
)
def test_a_value_with_its_unit_and_error(parts: dict, words: str) -> None:
    assert with_unit(Measure(name="m", **parts)) == words


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"value": 2.5}, ""),
        ({"value": 2.5, "high": 1.0}, "outside by 1.5"),
        ({"value": 2.5, "high": 3.0}, "inside by 0.5"),
        ({"value": 2.5, "high": 2.5}, "at the bound"),
        ({"value": 2.5, "low": 2.0, "high": 4.0}, "inside by 0.5"),
        ({"value": math.nan, "high": 1.0}, ""),
        ({"value": math.inf, "high": 1.0}, "outside by inf"),
        ({"value": 2.5, "high": 1.0, "error": 0.5}, "outside by 1.5, 3.0 standard errors"),
        ({"value": 2.5, "high": 1.0, "error": 0.001}, "outside by 1.5, over 100 standard errors"),
        ({"value": 2.5, "high": 1.0, "error": math.nan}, "outside by 1.5"),
    ],
)
def test_how_far_inside_or_outside(parts: dict, words: str) -> None:
    assert distance(Measure(name="m", **parts)) == words
