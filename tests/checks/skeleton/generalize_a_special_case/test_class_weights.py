"""Weights of classes against how often they occur."""

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.generalize_a_special_case.class_weights import ClassWeights, class_weight_findings


@pytest.mark.parametrize("seed", range(5))
def test_weights_of_any_kind_are_not_called_misordered(seed: int) -> None:
    """Weights that have nothing to do with the counts are the user's affair; inverse counts of a noisy sample are in
    order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 2000, size=10)
    by_taste = rng.uniform(0.5, 2.0, size=10)
    in_order = 1 / (counts * rng.uniform(0.98, 1.02, size=10))
    assert not ClassWeights(by_taste / by_taste.mean(), counts).misordered
    assert not ClassWeights(in_order / in_order.mean(), counts).misordered
    assert not ClassWeights(in_order / in_order.mean(), counts).inverted
    permuted = rng.permutation(1 / counts)
    assert ClassWeights(permuted / permuted.mean(), counts).misordered


def test_codes_follow_from_the_order() -> None:
    counts = np.array([320, 160, 80, 40])
    in_order, by_count = 1 / counts, counts / counts.mean()
    assert class_weight_findings(ClassWeights(in_order / in_order.mean(), counts)) == []
    misordered = class_weight_findings(ClassWeights(in_order[::-1] / in_order.mean(), counts))
    assert [one.code for one in misordered] == ["loss/class-weights-misordered"]
    favored = class_weight_findings(ClassWeights(by_count**1.5, counts))
    assert [one.code for one in favored] == ["loss/class-weights-inverted"]


@pytest.mark.parametrize(("counts", "misordered"), [([110, 105, 100, 95, 90], False), ([160, 130, 100, 80, 50], True)])
def test_nearly_equal_weights_have_no_order(counts: list[int], misordered: bool) -> None:
    """Counts of a sample come in another order than the shares that the weights were made from."""
    weights = 1.0 / np.array(counts[::-1])
    assert ClassWeights(weights / weights.mean(), np.array(counts)).misordered is misordered
