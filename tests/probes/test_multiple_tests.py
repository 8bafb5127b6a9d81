"""Corrections for several tests at once, against their definition."""

import pytest
from scipy.stats import norm

from jaxrecipe.probes.multiple_tests import chance_of_each, errors_of_each


@pytest.mark.parametrize("tests", [1, 7, 1000])
@pytest.mark.parametrize("errors", [2.0, 3.0, 5.0])
def test_so_many_tests_together_are_as_sure_as_one(errors: float, tests: int) -> None:
    assert tests * norm.sf(errors_of_each(errors, tests)) == pytest.approx(norm.sf(errors))
    assert tests * chance_of_each(1e-6, tests) == pytest.approx(1e-6)


def test_no_test_is_as_one() -> None:
    assert errors_of_each(3.0, 0) == pytest.approx(3.0)
    assert chance_of_each(0.1, 0) == 0.1
