"""Dead units and twins, on arrays that are made up."""

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.updates.parameters import are_twins, share_of_dead_units


@pytest.mark.parametrize(("dead", "units"), [(0, 4), (1, 4), (3, 4), (4, 4)])
def test_dead_units_are_columns_without_gradient(dead: int, units: int) -> None:
    total = np.ones((3, 3, units))
    total[..., :dead] = 0
    assert share_of_dead_units(total) == dead / units


def test_vectors_have_no_units() -> None:
    assert share_of_dead_units(np.zeros(4)) == 0
    assert share_of_dead_units(np.zeros((4, 1))) == 0


def test_twins_hold_one_constant_and_get_one_gradient() -> None:
    same = np.outer(np.arange(3.0), np.ones(4))
    other = same + np.arange(4.0)
    assert are_twins(np.full((3, 4), 0.5), same)
    assert not are_twins(np.full((3, 4), 0.5), other)
    assert not are_twins(other, same), "they differ already"
    assert not are_twins(np.full((3, 4), 0.5), 0 * same), "without a gradient nothing can be told"
    assert not are_twins(np.full(4, 0.5), np.ones(4))
