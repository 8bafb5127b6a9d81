"""Distances between trees, against numpy."""

import jax
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.simplify.numbers import numbers_on_host, relative_distance, spread_of_rows


def test_distance_is_the_norm_of_the_difference_over_that_of_the_first() -> None:
    rng = np.random.default_rng(0)
    first, second = [rng.normal(size=(3, 4)), rng.normal(size=5)], [rng.normal(size=(3, 4)), rng.normal(size=5)]
    flat = [np.concatenate([leaf.ravel() for leaf in one]) for one in (first, second)]
    wanted = np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0])
    assert relative_distance(first, second) == pytest.approx(wanted)
    assert relative_distance([np.array([np.nan])], [np.array([np.nan])]) == 0


def test_spread_of_rows() -> None:
    rows = np.tile(np.array([1.0, -4.0]), (3, 1))
    assert spread_of_rows({"a": rows}) == 0
    rows[2, 0] += 1.0
    assert spread_of_rows({"a": rows}) == pytest.approx(0.25)
    assert spread_of_rows({"a": np.ones((1, 2)), "b": np.float32(3)}) == 0


def test_keys_are_no_numbers() -> None:
    assert len(numbers_on_host({"key": jax.random.key(0), "x": np.arange(3)})) == 1
