"""Hashes and groups against plain loops."""

from typing import Any

import numpy as np
import pytest

from jaxrecipe.data.datasets import digits
from jaxrecipe.data.sources import as_source
from jaxrecipe.probes.fingerprints import (
    chance_of_equal_examples,
    chance_of_equal_rows,
    fingerprints,
    groups_of,
    hashes,
)
from tests.probes.tasks import setup_of


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64, bool])
def test_equal_rows_have_equal_hashes_and_only_they(dtype: Any) -> None:
    rows = rng().integers(0, 2, size=(300, 8)).astype(dtype)
    side = rng().integers(0, 2, size=(300,)).astype(np.int64)
    found = hashes([rows, side])
    for i in range(0, 300, 7):
        for j in range(300):
            assert (found[i] == found[j]) == (bool((rows[i] == rows[j]).all()) and side[i] == side[j])


def test_both_zeros_are_one_number() -> None:
    assert len(np.unique(hashes([np.array([[0.0], [-0.0]], np.float32)]))) == 1


def test_sources_of_items_give_the_same_rows_as_arrays() -> None:
    (x, y), _ = digits()
    items = [(x[i], y[i]) for i in range(100)]
    of_items = fingerprints(setup_of(items=items), "train")
    of_arrays = fingerprints(setup_of(x[:100], y[:100]), "train")
    assert np.array_equal(of_items.inputs, of_arrays.inputs)
    assert np.array_equal(of_items.targets, of_arrays.targets)
    assert np.array_equal(of_items.sketch, of_arrays.sketch)


def test_groups_count_what_is_equal() -> None:
    groups = groups_of(np.array([5, 7, 5, 5, 9, 7], np.uint64))
    assert groups.repeated.tolist() == [True, True, True, True, False, True]
    assert sorted(groups.sizes.tolist()) == [1, 2, 3]


def test_chance_of_equal_rows_is_that_of_independent_columns() -> None:
    table = rng().integers(0, 3, size=(2000, 2))
    equal = np.mean([(table[i] == table[j]).all() for i in range(0, 2000, 20) for j in range(2000) if i != j])
    assert chance_of_equal_rows([table]) == pytest.approx(equal, rel=0.1)
    assert chance_of_equal_rows([rng().normal(size=(500, 4))]) < 1e-15


def test_chance_of_equal_examples_grows_with_the_size_of_the_split() -> None:
    table = rng().integers(0, 3, size=(900, 8))
    one = chance_of_equal_rows([table])
    assert chance_of_equal_examples(as_source((table, table[:, 0]))) == pytest.approx(1 - np.exp(-900 * one))
