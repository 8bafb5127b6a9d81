import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from jaxrecipe.training.intervals import mean_interval, share_or_mean, wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=25)
def test_wilson_ends_are_where_the_score_test_stops_rejecting(case: tuple[int, int]) -> None:
    successes, n = case
    found = wilson(successes, n)
    share, z = successes / n, stats.norm.ppf(0.975)

    def score(p: float) -> float:
        return (share - p) ** 2 - z * z * p * (1 - p) / n

    low = 0.0 if successes == 0 else optimize.brentq(score, 0.0, share - 1e-9)
    high = 1.0 if successes == n else optimize.brentq(score, share + 1e-9, 1.0)
    assert found.value == share
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_wilson_of_published_cases() -> None:
    # R. Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for (successes, n), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        found = wilson(successes, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {successes} successes of {n}"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=confidence)


def test_mean_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=57).astype(np.float32)
    found = mean_interval(values, confidence=0.9)
    wide = values.astype(np.float64)
    low, high = stats.t.interval(0.9, 56, loc=wide.mean(), scale=stats.sem(wide))
    assert (found.value, found.low, found.high) == pytest.approx((wide.mean(), low, high), rel=1e-12)
    assert (found.n, found.method) == (57, "t")


def test_mean_does_not_depend_on_the_order_or_lose_small_numbers() -> None:
    values = np.concatenate([np.full(1, 1e8), np.full(9999, 1e-1)]).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(values)
    assert mean_interval(values) == mean_interval(shuffled)
    assert mean_interval(values).value == pytest.approx((1e8 + 9999 * float(np.float32(0.1))) / 1e4, rel=1e-15)


def test_no_interval_where_none_can_be_given() -> None:
    one = mean_interval(np.array([2.5], np.float32))
    assert one.value == 2.5
    assert math.isnan(one.low)
    assert math.isnan(mean_interval(np.array([1.0, np.nan], np.float32)).value)
    assert mean_interval(np.array([1.0, np.inf], np.float32)).value == math.inf
    with pytest.raises(ValueError, match="at least one"):
        mean_interval(np.array([], np.float32))


def test_shares_get_wilson_and_fractions_do_not() -> None:
    assert share_or_mean(np.array([0, 1, 1, 0], np.float32)) == wilson(2, 4)
    assert share_or_mean(np.array([0, 1, 0.5], np.float32)).method == "t"
