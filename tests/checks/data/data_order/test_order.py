"""The dependence on the order against an analysis of variance, and the chance of one order twice against counting."""

from itertools import permutations
from math import exp

import numpy as np
import pytest

from jaxrecipe.checks.data.data_order.loader import Observed
from jaxrecipe.checks.data.data_order.order import dependence_on_order, log_chance_of_same_order


def test_the_dependence_is_that_of_an_analysis_of_variance() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    groups = [rng.normal(0.15 * (i % 3), 1, size=40) for i in range(25)]
    found = dependence_on_order(Observed(np.concatenate(groups)[:, None], False), [40] * 25, seed=0)
    assert found is not None
    expected = stats.f_oneway(*groups).pvalue
    assert np.log(found.chance) == pytest.approx(np.log(expected), rel=0.35)


@pytest.mark.parametrize("seed", range(5))
def test_random_orders_look_random(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(30, size=3000, p=np.arange(1, 31) / 465).astype(np.float64)
    found = dependence_on_order(Observed(labels[:, None], True), [64] * 46 + [56], seed)
    assert found is not None
    assert found.chance > 1e-4
    assert found.share < 0.02


def test_a_sorted_order_is_sorted_and_its_profile_is_the_share_of_each_class() -> None:
    labels = np.repeat(np.arange(4.0), 64)
    found = dependence_on_order(Observed(labels[:, None], True), [32] * 8, seed=0)
    assert found is not None
    assert found.share == pytest.approx(1.0)
    assert found.names == ("0", "1", "2", "3")
    assert np.array_equal(found.profile, np.repeat(np.eye(4), 2, axis=0))


@pytest.mark.parametrize(
    ("values", "sizes"),
    [(np.ones((128, 1)), [32] * 4), (np.full((128, 1), np.nan), [32] * 4), (np.arange(96.0)[:, None], [32] * 3)],
    ids=["constant", "not finite", "three batches"],
)
def test_where_nothing_can_be_said_there_is_no_dependence(values: np.ndarray, sizes: list[int]) -> None:
    assert dependence_on_order(Observed(values, False), sizes, seed=0) is None


def test_batches_of_one_are_taken_together() -> None:
    values = np.sort(np.random.default_rng(0).normal(size=(256, 1)), axis=0)
    alone = dependence_on_order(Observed(values, False), [1] * 256, seed=0)
    together = dependence_on_order(Observed(values, False), [16] * 16, seed=0)
    assert alone is not None
    assert together is not None
    assert alone.share == pytest.approx(together.share)


@pytest.mark.parametrize("values", [[0, 0, 0, 1], [0, 1, 2, 3, 4], [1, 1, 2, 2]])
def test_the_chance_of_the_same_order_is_one_over_the_number_of_orders(values: list[int]) -> None:
    orders = len(set(permutations(values)))
    assert exp(log_chance_of_same_order(np.array(values))) == pytest.approx(1 / orders)
