"""Hashes and nearest neighbours against plain loops."""

from typing import Any

import numpy as np
import pytest

from jaxrecipe.data.datasets import digits
from jaxrecipe.data.sources import as_source
from jaxrecipe.probes.copies import (
    NTH,
    chance_of_equal_rows,
    groups_of,
    hashes,
    near_copies,
    nearest,
    on_one_scale,
    pooled,
    rows_of,
)


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
    of_items, of_arrays = rows_of(as_source(items)), rows_of(as_source((x[:100], y[:100])))
    assert np.array_equal(of_items.inputs, of_arrays.inputs)
    assert np.array_equal(of_items.targets, of_arrays.targets)
    assert np.array_equal(of_items.sketch, of_arrays.sketch)


def test_groups_count_what_is_equal() -> None:
    groups = groups_of(np.array([5, 7, 5, 5, 9, 7], np.uint64))
    assert groups.repeated.tolist() == [True, True, True, True, False, True]
    assert sorted(groups.sizes.tolist()) == [1, 2, 3]


@pytest.mark.parametrize("width", [3, 40, 100])
@pytest.mark.parametrize("itself", [True, False])
def test_the_nearest_neighbour_is_that_of_a_loop(width: int, itself: bool) -> None:
    # a few directions carry all, so that the search in the main directions is exact
    rows = (rng().normal(size=(700, 6)) @ rng().normal(size=(6, width))).astype(np.float32)
    queries, own = (rows[::3], np.arange(700)[::3]) if itself else (rows[:200] + np.float32(0.1), None)
    index, distance = nearest(queries, rows, own=own)
    for i, query in enumerate(queries):
        apart = np.sqrt(np.square(rows.astype(np.float64) - query).sum(axis=1))
        if own is not None:
            apart[own[i]] = np.inf
        assert distance[i] == pytest.approx(apart.min(), rel=1e-4)
        assert apart[index[i]] == pytest.approx(apart.min(), rel=1e-4)


def test_near_copies_are_those_of_a_loop() -> None:
    """By brute force: the ratio of the distances to the nearest and to the tenth other row, below the stated limit."""
    rows = rng().normal(size=(600, 5)).astype(np.float32)
    rows[590:] = rows[:10] + 1e-3 * rng().normal(size=(10, 5)).astype(np.float32)
    near = near_copies(rows, rows, own=np.arange(600))
    assert near is not None
    wanted = []
    for i in range(600):
        apart = np.sort(np.sqrt(np.square(rows.astype(np.float64) - rows[i]).sum(axis=1)))[1:]
        wanted.append(apart[0] / apart[NTH - 1] < near.limit)
    assert near.found.tolist() == wanted
    assert near.found.sum() == 20
    assert near.index[:10].tolist() == list(range(590, 600))


@pytest.mark.parametrize("dimension", [1, 2, 5, 20])
def test_a_smooth_cloud_has_no_near_copies_and_its_dimension_is_seen(dimension: int) -> None:
    false = 0
    for seed in range(5):
        rows = np.random.default_rng(seed).random((400, dimension)).astype(np.float32)
        near = near_copies(rows, rows, own=np.arange(400))
        assert near is not None
        assert 0.55 * dimension < near.dimension < 1.6 * dimension
        false += int(near.found.sum())
    assert false <= 2


def test_noise_on_pictures_is_found() -> None:
    (x, _), _ = digits()
    noisy = x[:50] + rng().normal(0.0, 0.3, size=x[:50].shape)
    train, test = rows_of(as_source((x.astype(np.float64), None))), rows_of(as_source((noisy, None)))
    ours, theirs = on_one_scale(train, test)
    near = near_copies(theirs, ours)
    assert near is not None
    assert near.found.mean() > 0.9
    assert (near.index == np.arange(50)).mean() > 0.9


def test_tokens_are_as_far_apart_as_positions_differ() -> None:
    tokens = rng().integers(0, 50_000, size=(200, 64))
    tokens[1] = tokens[0]
    tokens[1, :4] += 1
    rows = rows_of(as_source((tokens, None)))
    assert rows.integers
    near = near_copies(rows.sketch, rows.sketch, own=np.arange(200))
    assert near is not None
    apart = np.square(rows.sketch[0] - rows.sketch[1:]).sum(axis=1) / (2 * 64)
    assert apart[0] == pytest.approx(4, abs=2.5)
    assert np.median(apart[1:]) == pytest.approx(64, rel=0.15)


def test_pooling_takes_the_means_of_blocks() -> None:
    pictures = rng().random((3, 9, 16, 2))
    for i, a, b, c in np.ndindex(3, 9, 8, 2):
        assert pooled(pictures, 8)[i, a, b, c] == pytest.approx(pictures[i, a, 2 * b : 2 * b + 2, c].mean(), rel=1e-6)


def test_chance_of_equal_rows_is_that_of_independent_columns() -> None:
    table = rng().integers(0, 3, size=(2000, 2))
    equal = np.mean([(table[i] == table[j]).all() for i in range(0, 2000, 20) for j in range(2000) if i != j])
    assert chance_of_equal_rows([table]) == pytest.approx(equal, rel=0.1)
    assert chance_of_equal_rows([rng().normal(size=(500, 4))]) < 1e-15
