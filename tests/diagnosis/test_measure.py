"""Measure: verdict, margin and bounds in words, against the definitions spelled out."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.diagnosis.measure import Measure, Severity

NUMBERS = st.floats(-1e6, 1e6)
BOUNDS = st.one_of(st.none(), NUMBERS)
MEASURES = st.builds(
    Measure,
    name=st.just("m"),
    value=NUMBERS,
    low=BOUNDS,
    high=BOUNDS,
    fail_low=BOUNDS,
    fail_high=BOUNDS,
    severity=st.sampled_from(Severity),
)


@settings(deadline=None, max_examples=200)
@given(MEASURES)
def test_the_verdict_is_the_worst_bound_that_is_left(m: Measure) -> None:
    beyond = (m.fail_low is not None and m.value < m.fail_low) or (m.fail_high is not None and m.value > m.fail_high)
    outside = (m.low is not None and m.value < m.low) or (m.high is not None and m.value > m.high)
    assert m.verdict is (Severity.FAIL if beyond else m.severity if outside else None)


@settings(deadline=None, max_examples=200)
@given(MEASURES)
def test_the_margin_is_negative_exactly_outside(m: Measure) -> None:
    assert (m.margin is None) is (not m.bounded)
    if m.margin is not None:
        assert (m.margin < 0) is (m.verdict is not None)


@settings(deadline=None, max_examples=100)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_margin_is_the_distance_to_the_nearest_bound(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    margin = Measure(name="m", value=value, low=low, high=high).margin
    assert margin is not None
    if low <= value <= high:
        assert margin == min(abs(value - low), abs(high - value))
    else:
        assert margin == -max(low - value, value - high)


@settings(deadline=None, max_examples=100)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_higher_bound_is_never_stricter(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    strict, loose = (Measure(name="m", value=value, high=bound).verdict for bound in (low, high))
    assert strict is not None or loose is None


def test_bounds_belong_to_the_range() -> None:
    for value in (0.8, 2.0):
        assert Measure(name="m", value=value, low=0.8, high=2.0).verdict is None
        assert Measure(name="m", value=value, low=0.8, high=2.0).margin == 0
    for value in (math.nextafter(0.8, 0), math.nextafter(2.0, 3)):
        assert Measure(name="m", value=value, low=0.8, high=2.0).verdict is Severity.FAIL


def test_a_nan_keeps_no_bound_and_infinity_only_an_open_end() -> None:
    assert Measure(name="m", value=math.nan, high=1.0).verdict is Severity.FAIL
    assert Measure(name="m", value=math.nan).verdict is None
    assert Measure(name="m", value=math.inf, low=1.0).verdict is None
    assert Measure(name="m", value=math.inf, high=1.0, severity=Severity.WARN).verdict is Severity.WARN


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({}, ""),
        ({"high": 2.0}, "2 or less"),
        ({"low": 0.8}, "0.8 or more"),
        ({"low": 0.8, "high": 2.0}, "0.8 to 2"),
        ({"low": 0.0, "high": 0.0}, "0"),
        ({"fail_high": 4.0}, "4 or less"),
        ({"high": 2.0, "fail_high": 4.0}, "2 or less"),
    ],
)
def test_bounds_in_words(bounds: dict[str, float], wanted: str) -> None:
    measure = Measure(name="m", value=1.0, **bounds)
    assert measure.wanted == wanted
    assert measure.bounded is bool(bounds)


def test_the_margin_in_standard_errors() -> None:
    assert Measure(name="m", value=3.0, high=1.0, error=0.5).margin_in_errors == -4.0
    assert Measure(name="m", value=3.0, high=1.0).margin_in_errors is None
    assert Measure(name="m", value=3.0, high=1.0, error=0.0).margin_in_errors is None
    assert Measure(name="m", value=3.0, error=0.5).margin_in_errors is None


def test_thresholds_move_the_bounds_that_bear_their_names() -> None:
    measure = Measure(name="m", value=3.0, low=0.0, high=2.0, fail_high=4.0, thresholds={"high": "a", "fail_high": "b"})
    moved = measure.with_thresholds({"a": 5.0, "c": 9.0})
    assert (moved.low, moved.high, moved.fail_high) == (0.0, 5.0, 4.0)
    assert measure.with_thresholds({"c": 9.0}) is measure
    lenient = Measure(name="m", value=3.0, high=2.0, thresholds={"high": "a", "fail_high": "a"})
    assert lenient.with_thresholds({"a": 5.0}).fail_high is None, "a bound that is not in force is not added"
