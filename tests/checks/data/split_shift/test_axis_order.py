"""The order of axes that two samples are alike in: each change is found again."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.data.split_shift.axis_order import best_axis_order

RNG = np.random.default_rng(0)
SHAPE = RNG.normal(size=(16, 16, 3))


def images(n: int) -> np.ndarray:
    return (SHAPE + 0.5 * RNG.normal(size=(n, 16, 16, 3))).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:, ::-1], "upside down"),
        (lambda x: x[:, :, ::-1], "mirrored left to right"),
        (lambda x: x[:, ::-1, ::-1], "turned by 180 degrees"),
        (lambda x: x.swapaxes(1, 2), "with height and width swapped"),
        (lambda x: x[..., ::-1], "with channels reversed"),
        (lambda x: x[..., [1, 0, 2]], "with channels in the order [1, 0, 2]"),
        (lambda x: x[:, ::-1, :, ::-1], "with channels reversed and upside down"),
    ],
)
def test_a_change_of_images_is_found_again(change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    found = best_axis_order(images(200), change(images(200)), "image", None)
    assert found is not None
    assert found.words == words
    assert found.best < 4 < found.as_is / 4
    assert found.simple


def test_equal_splits_are_one_apart_and_no_change_is_better() -> None:
    found = best_axis_order(images(400), images(400), "image", None)
    assert found is not None
    assert found.as_is == pytest.approx(1, abs=0.5)
    assert found.best > found.as_is


def test_columns_are_assigned_to_each_other() -> None:
    scales = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    train, test = RNG.normal(size=(500, 5)) * scales, RNG.normal(size=(500, 5)) * scales
    swapped = best_axis_order(train, test[:, [1, 0, 2, 3, 4]], "table", None)
    assert swapped is not None
    assert swapped.words == "with columns 1 for 0, 0 for 1"
    assert swapped.best < swapped.as_is / 4
    reversed_order = best_axis_order(train, test[:, ::-1], "table", None)
    assert reversed_order is not None
    assert reversed_order.words == "with columns reversed"
    same = best_axis_order(train, test, "table", None)
    assert same is not None
    assert same.best == np.inf


def test_columns_that_are_alike_are_told_apart_by_the_targets() -> None:
    x = RNG.normal(size=(2000, 3))
    y = x @ np.array([[1.0], [-1.0], [0.0]]) + 0.1 * RNG.normal(size=(2000, 1))
    train, test = x[:1000], x[1000:][:, ::-1]
    blind = best_axis_order(train, test, "table", None)
    seeing = best_axis_order(train, test, "table", (y[:1000], y[1000:]))
    assert blind is not None
    assert seeing is not None
    assert blind.best > blind.as_is / 4
    assert seeing.words == "with columns reversed"
    assert seeing.best < seeing.as_is / 4


@pytest.mark.parametrize(("width", "ordered"), [(1, False), (2, True), (256, True), (257, False)])
def test_one_column_has_no_order_and_very_many_are_left_alone(width: int, ordered: bool) -> None:
    rows = RNG.normal(size=(40, width))
    assert (best_axis_order(rows, rows, "table", None) is not None) is ordered
