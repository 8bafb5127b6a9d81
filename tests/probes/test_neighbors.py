"""Nearest neighbors and near copies against plain loops."""

import numpy as np
import pytest

from jaxrecipe.data.datasets import digits
from jaxrecipe.probes.fingerprints import Fingerprints, fingerprints
from jaxrecipe.probes.neighbors import NTH, near_copies, nearest, on_one_scale
from tests.probes.tasks import setup_of


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def prints(inputs: np.ndarray) -> Fingerprints:
    return fingerprints(setup_of(inputs), "train")


@pytest.mark.parametrize("width", [3, 40, 100])
@pytest.mark.parametrize("itself", [True, False])
def test_the_nearest_neighbor_is_that_of_a_loop(width: int, itself: bool) -> None:
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


@pytest.mark.parametrize("width", [2, 12, 13, 32])
@pytest.mark.parametrize("itself", [True, False])
def test_within_a_radius_the_nearest_neighbor_is_that_of_a_loop(width: int, itself: bool) -> None:
    """Both ways to search, on either side of the width that decides between them; sizes that fill no block."""
    rows = rng().normal(size=(1001, width)).astype(np.float32)
    rows[500:520] = rows[:20] + np.float32(0.01)
    rows[520:530] = rows[:10]  # equal rows are at distance 0 and still not themselves
    queries, own = (rows[::3], np.arange(1001)[::3]) if itself else (rows[:200] + np.float32(0.02), None)
    radius = 0.2 * np.sqrt(width)
    index, distance = nearest(queries, rows, own=own, within=radius)
    for i, query in enumerate(queries):
        apart = np.sqrt(np.square(rows.astype(np.float64) - query).sum(axis=1))
        if own is not None:
            apart[own[i]] = np.inf
        if apart.min() < radius:
            assert distance[i] == pytest.approx(apart.min(), abs=1e-3)
            assert apart[index[i]] == pytest.approx(apart.min(), abs=1e-3)
        else:
            assert (index[i], distance[i]) == (-1, np.inf)


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


def test_noise_on_images_is_found() -> None:
    (x, _), _ = digits()
    noisy = x[:50] + rng().normal(0.0, 0.3, size=x[:50].shape)
    train, test = prints(x.astype(np.float64)), prints(noisy)
    ours, theirs = on_one_scale(train, test)
    near = near_copies(theirs, ours)
    assert near is not None
    assert near.found.mean() > 0.9
    assert (near.index == np.arange(50)).mean() > 0.9


def test_tokens_are_as_far_apart_as_positions_differ() -> None:
    tokens = rng().integers(0, 50_000, size=(200, 64))
    tokens[1] = tokens[0]
    tokens[1, :4] += 1
    rows = prints(tokens)
    assert rows.integers
    near = near_copies(rows.sketch, rows.sketch, own=np.arange(200))
    assert near is not None
    apart = np.square(rows.sketch[0] - rows.sketch[1:]).sum(axis=1) / (2 * 64)
    assert apart[0] == pytest.approx(4, abs=2.5)
    assert np.median(apart[1:]) == pytest.approx(64, rel=0.15)
