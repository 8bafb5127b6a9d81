"""What one number says of the label, against loops."""

import numpy as np
import pytest

from jaxrecipe.checks.data.leaked_label.single_features import (
    flattened,
    measure_single_features,
    nearest_mean,
    place_name,
)
from tests.zoo.healthy import digits_task


def test_the_share_between_labels_is_that_of_a_loop() -> None:
    x, y = digits_task().train
    rows = flattened({"x": x})
    single = measure_single_features(rows, y, classes=True)
    for place in (10, 20, 43):
        column = rows[:, place].astype(np.float64)
        within = sum(np.square(column[y == k] - column[y == k].mean()).sum() for k in range(10))
        assert single.map[place] == pytest.approx(1 - within / np.square(column - column.mean()).sum(), rel=1e-4)


def test_the_error_of_a_lookup_is_that_of_a_loop() -> None:
    """A number of few values: the likeliest label of each value on one half, judged on the other, each label counting
    alike."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=400)
    column = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 5, size=400)).astype(np.float32)
    errors = []
    for side in (0, 1):
        named = {}
        for value in range(5):
            rates = [np.mean(column[side::2][labels[side::2] == k] == value) for k in range(3)]
            named[value] = int(np.argmax(rates))
        said = np.array([named[int(value)] for value in column[1 - side :: 2]])
        given = labels[1 - side :: 2]
        errors.append(np.mean([(said[given == k] != k).mean() for k in range(3)]))
    assert measure_single_features(column[:, None], labels, classes=True).errors[0] == pytest.approx(np.mean(errors))


def test_a_curve_through_a_function_leaves_nothing() -> None:
    x = np.random.default_rng(0).normal(size=2000)
    rows = np.stack([x, np.random.default_rng(1).normal(size=2000)], axis=1).astype(np.float32)
    single = measure_single_features(rows, np.exp(x), classes=False)
    assert single.places[0] == 0
    assert single.errors[0] < 0.05
    assert single.errors[1] > 0.95


def test_names_of_places() -> None:
    inputs = {"a": np.zeros((3, 2, 2)), "b": np.zeros(3), "c": np.zeros((3, 4))}
    assert [place_name(inputs, column) for column in (0, 3, 4, 8)] == ["a[0, 0]", "a[1, 1]", "b", "c[3]"]
    with pytest.raises(IndexError):
        place_name(inputs, 9)


def test_one_label_that_a_number_tells_from_all_others() -> None:
    labels = np.random.default_rng(0).integers(0, 4, size=800)
    single = measure_single_features((labels == 2).astype(np.float32)[:, None], labels, classes=True)
    assert single.one_label[0].tolist() == [0.0, 2.0]
    assert single.levels[0] == 2


def test_what_is_not_finite_or_huge_is_no_number() -> None:
    rows = flattened({"a": np.array([[np.nan, 1e30], [1.0, -np.inf]])})
    assert rows.tolist() == [[0.0, pytest.approx(1e15)], [1.0, 0.0]]
    constant = measure_single_features(np.ones((100, 1), np.float32), np.arange(100) % 2, classes=True)
    assert constant.map.tolist() == [0.0]


@pytest.mark.parametrize("labels", [3, 40])
def test_the_error_of_one_label_against_the_rest_is_that_of_a_loop(labels: int) -> None:
    """Bins are single values here; a bin says a label where that label has a larger share of its examples in it."""
    rng = np.random.default_rng(labels)
    y = rng.integers(0, labels, size=600)
    column = np.where(rng.random(600) < 0.6, y % 9, rng.integers(0, 9, size=600)).astype(np.float32)
    ones = np.ones((2, labels))
    for side in (0, 1):
        x_made, y_made, x, given = column[side::2], y[side::2], column[1 - side :: 2], y[1 - side :: 2]
        for label in np.unique(given):
            own = [np.sum((x_made == v) & (y_made == label)) / max(1, np.sum(y_made == label)) for v in range(9)]
            rest = [np.sum((x_made == v) & (y_made != label)) / np.sum(y_made != label) for v in range(9)]
            said = np.array([own[int(v)] > rest[int(v)] for v in x])
            ones[side, label] = (np.mean(~said[given == label]) + np.mean(said[given != label])) / 2
    error, label = measure_single_features(column[:, None], y, classes=True).one_label[0]
    assert error == pytest.approx(ones.mean(axis=0).min())
    assert label == ones.mean(axis=0).argmin()


def test_the_nearest_mean_is_that_of_a_loop_the_first_where_several_are_equally_near() -> None:
    rng = np.random.default_rng(0)
    means = np.append(rng.integers(0, 20, size=30) / 2.0, [np.inf, np.inf])
    values = np.append(rng.integers(-10, 50, size=400) / 4.0, rng.normal(size=50))
    assert np.array_equal(nearest_mean(values, means), np.abs(values[:, None] - means).argmin(axis=1))
