"""How far out an example is, and which are the extremes, against sorting by hand."""

import numpy as np
import pytest

from jaxrecipe.checks.data.outliers.columns import Column, extremes, read_columns
from jaxrecipe.checks.data.outliers.tails import Bounds, bounds
from jaxrecipe.probes.multiple_tests import chance_of_each
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import regression_task

VALUES = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 10.0, np.nan])
COLUMN = Column("train", "inputs: norm", np.arange(7) + 100, VALUES, Bounds(1.5, 7.0))


def test_the_distance_is_one_at_the_bound() -> None:
    assert COLUMN.median == 2.5
    assert COLUMN.distance == pytest.approx([2.5, 1.5, 0.5, 0.5 / 4.5, 1.5 / 4.5, 7.5 / 4.5, 0.0])
    assert COLUMN.outliers.tolist() == [0, 5, 1]
    assert COLUMN.attribute == "norm"


def test_an_unbounded_column_has_no_outliers() -> None:
    free = Column("train", "inputs: norm", np.arange(7), VALUES, Bounds(-np.inf, np.inf))
    assert not free.outliers.size
    assert not Column("train", "a", np.arange(2), np.full(2, np.nan), Bounds(-1.0, 1.0)).outliers.size


def test_the_extremes_are_those_farthest_out_each_example_once() -> None:
    other = Column("train", "inputs: edges", COLUMN.rows, VALUES[::-1], Bounds(-np.inf, np.inf))
    found = [(column.name, place) for column, place in extremes([COLUMN, other], 2)]
    assert found[:3] == [("inputs: norm", 0), ("inputs: norm", 5), ("inputs: norm", 1)]
    assert len({place for _, place in found}) == len(found)


def test_the_chance_is_shared_among_all_attributes_of_all_splits() -> None:
    columns = read_columns(make_setup(regression_task()), 1e-6)
    each = chance_of_each(1e-6, len(columns))
    assert {column.split for column in columns} == {"train", "test"}
    assert all(column.bounds == bounds(column.values, each) for column in columns)
