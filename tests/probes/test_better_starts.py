"""Whether another start trains better, and what counts as better."""

import numpy as np
import optax
import pytest

from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.probes.better_starts import (
    LARGE_LEAD,
    SMALL_LEAD,
    TIMES,
    Comparison,
    better_start,
    is_ahead,
    with_standard_targets,
    with_usual_weights,
)
from jaxrecipe.setup import make_setup
from tests.zoo.broken import wild_init
from tests.zoo.healthy import digits_task, regression_task


@pytest.mark.parametrize(
    ("ours", "other", "ahead"),
    [
        (1.0 + 1.01 * LARGE_LEAD, 1.0, True),
        (1.0 + 0.99 * LARGE_LEAD, 1.0, False),
        (1.01 * SMALL_LEAD * TIMES / (TIMES - 1), 1.0 * SMALL_LEAD / (TIMES - 1), True),
        (0.99 * SMALL_LEAD, 0.0, False),
        (0.05, 0.0101, False),  # not TIMES as much
        (float("nan"), 1.0, True),
        (1.0, float("nan"), False),
        (float("inf"), 1.0, True),
    ],
)
def test_both_sides_of_being_ahead(ours: float, other: float, ahead: bool) -> None:
    assert is_ahead(ours, other, 1.0) is ahead


@pytest.mark.parametrize(
    ("ours", "better"),
    [
        ([2.0, 2.1, 2.2], True),
        ([2.0, 2.1, 1.0], False),  # not each time
        ([1.2, 1.2, 9.0], False),  # not beyond the spread
        ([2.0], False),  # broken off
        ([float("nan"), 2.0, 2.0], True),
    ],
)
def test_better_is_each_time_and_beyond_the_spread(ours: list[float], better: bool) -> None:
    found = Comparison("", 240, 80, np.array(ours), np.ones(len(ours)), 1.0)
    assert found.better is better


def test_weights_that_are_far_too_large_have_a_witness() -> None:
    found = better_start(make_setup(wild_init()), causes("model/initialization-too-large"))
    assert found is not None
    assert found.better
    assert found.name.startswith("With weights")


def test_a_start_that_is_off_and_soon_made_up_for_has_none() -> None:
    found = better_start(make_setup(regression_task(mean=2.0).replace(optimizer=optax.adam(2e-2))), ())
    assert found is not None
    assert not found.better


def test_usual_weights_and_classes_have_no_other_start() -> None:
    setup = make_setup(digits_task())
    assert with_usual_weights(setup) is None
    assert with_standard_targets(setup) is None
