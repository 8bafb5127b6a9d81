"""Bounds from the tails: ordinary values keep them, far ones and small groups behind a gap do not."""

import numpy as np
import pytest

from jaxrecipe.checks.data.outliers.tails import UNBOUNDED, bounds


@pytest.mark.parametrize("size", [100, 1400, 30_000])
@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform", "poisson", "two humps"])
def test_bounds_hold_all_of_ordinary_distributions_and_not_what_is_far_out(draw: str, size: int) -> None:
    rng = np.random.default_rng(size)
    drawn = {
        "normal": rng.normal(size=size),
        "exponential": rng.exponential(size=size),
        "uniform": rng.random(size),
        "poisson": rng.poisson(20, size).astype(np.float64),
        "two humps": rng.normal(size=size) + 8 * (rng.random(size) < 0.3),
    }[draw]
    found = bounds(drawn, 1e-6)
    assert found.low < drawn.min()
    assert drawn.max() < found.high
    spread = drawn.std()
    assert found.high < drawn.mean() + 40 * spread
    assert bounds(np.append(drawn, drawn.mean() + 60 * spread), 1e-6).high < drawn.mean() + 60 * spread


def test_a_group_behind_a_gap_is_beyond_the_bounds() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=970), rng.normal(15, 1, size=30)])
    assert (values > bounds(values, 1e-6).high).sum() == 30
    assert bounds(rng.normal(size=40), 1e-6).high == np.inf


@pytest.mark.parametrize(
    ("count", "levels", "bounded"), [(50, 50, True), (49, 49, False), (400, 8, True), (400, 7, False)]
)
def test_few_values_and_few_different_ones_have_no_bounds(count: int, levels: int, bounded: bool) -> None:
    values = np.resize(np.arange(levels, dtype=np.float64), count)
    assert (bounds(values, 1e-6) != UNBOUNDED) is bounded


@pytest.mark.parametrize(("share", "beyond"), [(0.04, True), (0.2, False)])
def test_a_group_is_small_or_a_second_kind(share: float, beyond: bool) -> None:
    rng = np.random.default_rng(0)
    many = int(1000 * share)
    values = np.concatenate([rng.normal(size=1000 - many), rng.normal(15, 1, size=many)])
    assert bool((values > bounds(values, 1e-6).high).any()) is beyond


def test_normal_values_are_bounded_at_about_seven_deviations() -> None:
    found = bounds(np.random.default_rng(1).normal(size=1400), 1e-6)
    assert found.high == pytest.approx(7, abs=1.5)
    assert found.low == pytest.approx(-7, abs=1.5)


def test_values_that_are_not_finite_do_not_count() -> None:
    values = np.random.default_rng(0).normal(size=500)
    assert bounds(np.concatenate([values, [np.nan, np.inf, -np.inf]]), 1e-6) == bounds(values, 1e-6)
