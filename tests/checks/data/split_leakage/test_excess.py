"""The excess of copies and its probability, against sums of binomial terms."""

from collections.abc import Callable
from math import comb

import numpy as np
import pytest

from jaxrecipe.checks.data.split_leakage.excess import SMALLEST_EXCESS, Excess, excess_of_copies
from jaxrecipe.diagnosis.measure import Severity


def excess(count: int, size: int, within: float = 0.0, *, most: float = 0.01, chance: float = 1e-6) -> Excess:
    copied = np.arange(size) < count
    return excess_of_copies("exact", copied, within, 1000, limit=("excess", most), chance=chance, code="data/x")


def test_the_probability_is_that_of_a_sum_of_terms() -> None:
    found = excess(12, 200, 0.02)
    rate = (0.02 * 1000 + 1) / 1002
    wanted = sum(comb(200, k) * rate**k * (1 - rate) ** (200 - k) for k in range(12, 201))
    assert found.probability.value == pytest.approx(wanted, rel=1e-9)
    assert found.excess.value == pytest.approx(12 / 200 - rate)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (lambda: excess(0, 200), None),
        (lambda: excess(0, 0), None),
        (lambda: excess(1, 200), None),
        (lambda: excess(4, 200), Severity.WARN),
        (lambda: excess(30, 200), Severity.FAIL),
        (lambda: excess(30, 200, 0.15), None),
        (lambda: excess(30, 200, most=0.3), Severity.WARN),
        (lambda: excess(30, 200, chance=1e-150), None),
    ],
)
def test_an_excess_is_judged_by_its_size_and_its_probability(
    found: Callable[[], Excess], verdict: Severity | None
) -> None:
    assert found().verdict is verdict


def test_a_tiny_excess_is_left_alone_however_certain() -> None:
    assert excess(17_600, 1_000_000, 0.0155).verdict is not None
    tiny = excess(17_300, 1_000_000, 0.0155)
    assert tiny.probability.value < 1e-6
    assert tiny.excess.value < SMALLEST_EXCESS
    assert tiny.verdict is None
