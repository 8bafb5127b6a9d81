"""Which pairs are shown."""

import numpy as np

from jaxrecipe.checks.data.duplicates.evidence import SHOWN, exact_pairs, nearest_pairs
from jaxrecipe.probes.fingerprints import fingerprints, groups_of
from jaxrecipe.probes.neighbors import near_copies, on_one_scale
from jaxrecipe.report.result import Table
from tests.probes.tasks import setup_of

X = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)


def test_equal_examples_with_other_targets_come_first() -> None:
    y = np.zeros(120, np.int32)
    y[119] = 1
    setup = setup_of(np.concatenate([X, X[:20]]), y)
    rows = fingerprints(setup, "train")
    (table,) = exact_pairs(setup, "train", rows, groups_of(rows.inputs))
    assert isinstance(table, Table)
    assert len(table.rows) == SHOWN
    assert table.rows[0] == (19, "0", 119, "1")
    assert all(int(row[2]) == int(row[0]) + 100 for row in table.rows)


def test_the_nearest_pairs_are_shown_once_the_nearest_first() -> None:
    again = X[:3] + np.array([[1e-3], [1e-5], [1e-4]], np.float32)
    setup = setup_of(np.concatenate([X, again]), np.arange(103))
    (rows,) = on_one_scale(fingerprints(setup, "train"))
    own = np.arange(103)
    near = near_copies(rows, rows, own=own)
    (table,) = nearest_pairs(setup, "train", near, own, own)
    assert isinstance(table, Table)
    assert [(row[0], row[2]) for row in table.rows[:3]] == [(1, 101), (2, 102), (0, 100)]
    assert nearest_pairs(setup, "train", None, own, own) == []
