"""What outputs see along time, and where their targets stand, against masks written by hand."""

from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_time_dependencies.time_axis import (
    TimeAxis,
    target_distance,
    target_offsets,
    time_axis,
)
from jaxrecipe.checks.skeleton.chart_time_dependencies.time_chart import TimeChart, movement_by_position, time_chart
from jaxrecipe.setup import make_setup
from tests.zoo import sequences as s
from tests.zoo.healthy import digits_task


def chart_of(mask: np.ndarray) -> TimeChart:
    return TimeChart(mask.astype(float), np.arange(mask.shape[1]), 0.5)


@pytest.mark.parametrize(
    ("mask", "ahead", "leaking"),
    [(s.causal(6), 0, 0), (s.off_by_one(6), 1, 5), (s.everything(6), 5, 5), (np.tril(np.ones((6, 6)), k=-1), -1, 0)],
)
def test_how_far_a_mask_sees_ahead(mask: np.ndarray, ahead: int, leaking: int) -> None:
    chart = chart_of(mask)
    assert (chart.ahead, chart.leaking, chart.irregularity) == (ahead, leaking, 0.0)


def test_irregularity_counts_pairs_unlike_the_others_of_their_distance() -> None:
    mask = s.everything(6).copy()
    mask[0, 3] = False
    assert chart_of(mask).irregularity == pytest.approx(1 / 36)
    window = np.abs(np.subtract.outer(np.arange(6), np.arange(6))) <= 1
    assert chart_of(window).irregularity == 0


@pytest.mark.parametrize("mask", [s.causal, s.off_by_one, s.everything])
def test_the_chart_of_an_attention_is_its_mask(mask: Any) -> None:
    setup = make_setup(s.transformer_task(model=s.transformer(mask)))
    axis = time_axis(setup, 0.99)
    assert axis == TimeAxis(s.LENGTH, (0,))
    assert isinstance(axis, TimeAxis)
    np.testing.assert_array_equal(time_chart(setup, axis, setup.key, s.LENGTH).seen, mask(s.LENGTH))


def test_movement_by_position_is_that_of_a_running_sum() -> None:
    """Oracle: a weighted running sum, moved by hand."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4, 1))
    seen = movement_by_position(lambda x: (np.cumsum(x, axis=1), None), x, TimeAxis(4, (0,)), np.arange(4)) > 0
    np.testing.assert_array_equal(seen, np.tril(np.ones((4, 4), bool)))


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_where_the_targets_stand(shift: int) -> None:
    setup = make_setup(s.transformer_task(shift=shift))
    assert target_offsets(setup, 0, 0.99) == [shift]
    axis = TimeAxis(s.LENGTH, (0,))
    assert target_distance(setup, axis, 0, {0, -1}, 0.99) == shift


def test_without_time_there_is_no_axis() -> None:
    assert isinstance(time_axis(make_setup(digits_task()), 0.99), str)
