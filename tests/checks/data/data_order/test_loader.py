"""What is read of an epoch: sizes, hashes, labels and moments, against numpy on the whole."""

import numpy as np
import pytest

from jaxrecipe.checks.data.data_order.loader import form_of, hashes_in_form, read_epoch
from jaxrecipe.targets import Classes, Values

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 50).astype(np.int32)


def batches(size: int, x: np.ndarray = X, y: np.ndarray = Y) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x[start : start + size], y[start : start + size]) for start in range(0, len(y), size)]


def test_labels_and_moments_are_those_of_the_whole() -> None:
    epoch = read_epoch(batches(8), Classes(3), like=(X[:1], Y[:1]))
    assert epoch.sizes == [8] * 6 + [2]
    assert epoch.labels[""].categories
    assert np.array_equal(epoch.labels[""].values[:, 0], Y)
    moments = epoch.moments["inputs"].values
    assert moments[:, 0] == pytest.approx(X.mean(axis=1), abs=1e-6)
    assert moments[:, 1] == pytest.approx(X.std(axis=1), abs=1e-6)


def test_masks_are_followed_by_the_share_of_each_class() -> None:
    masks = RNG.integers(0, 3, (50, 6, 6))
    shares = read_epoch(batches(8, y=masks), Classes(3)).labels[""].values
    assert shares == pytest.approx(np.stack([(masks == k).mean(axis=(1, 2)) for k in range(3)], axis=1))


def test_batches_of_another_size_give_the_same_hashes() -> None:
    small, large = (read_epoch(batches(size), Classes(3), like=(X[:1], Y[:1])) for size in (7, 50))
    assert small.inputs is not None
    assert large.inputs is not None
    assert np.array_equal(small.inputs, large.inputs)
    assert len(np.unique(small.inputs)) == 50


def test_what_has_another_form_has_no_hash() -> None:
    form = form_of(X[:1])
    assert hashes_in_form(X.astype(np.float64), form) is not None
    assert hashes_in_form(X[:, :3], form) is None
    assert hashes_in_form(X, form_of(Y[:1])) is None
    assert hashes_in_form(X + np.float32(0.5), form_of(X[:1].astype(np.int32))) is None
    assert hashes_in_form({}, form) is None


@pytest.mark.parametrize(("most", "endless"), [(49, True), (50, False)])
def test_an_epoch_that_does_not_end_is_left(most: int, endless: bool) -> None:
    assert read_epoch(iter(batches(10)), Values(), most=most).endless is endless
