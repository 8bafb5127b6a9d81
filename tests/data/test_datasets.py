"""The embedded digits, against scikit-learn's copy."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxrecipe.data.datasets import digits


def rows(images, labels):
    return [(*image.ravel().tolist(), int(label)) for image, label in zip(images, labels, strict=True)]


def test_digits_are_those_of_scikit_learn():
    theirs = load_digits()
    expected = [
        (*map(int, image.ravel()), int(label)) for image, label in zip(theirs.images, theirs.target, strict=True)
    ]
    (x_train, y_train), (x_test, y_test) = digits()
    assert sorted(rows(x_train, y_train) + rows(x_test, y_test)) == sorted(expected)
    assert len(set(expected)) == len(expected)  # so that no digit can be on both sides


def test_dtypes_shapes_and_range():
    (x_train, y_train), (x_test, y_test) = digits()
    assert x_train.dtype == x_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int32
    assert x_train.shape[1:] == x_test.shape[1:] == (8, 8, 1)
    assert x_train.max() == 16
    assert len(x_train) + len(x_test) == 1797


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.999])
def test_the_split_is_stratified(share):
    (_, y_train), (_, y_test) = digits(test_share=share)
    for label in range(10):
        train, test = (y_train == label).sum(), (y_test == label).sum()
        assert abs(test - share * (train + test)) <= 1
        assert train > 0
        assert test > 0


def test_the_split_is_fixed_and_seeded():
    first, second, other = digits(), digits(), digits(seed=1)
    np.testing.assert_array_equal(first[1][0], second[1][0])
    assert rows(*first[1]) != rows(*other[1])


def test_the_split_keeps_the_order_of_the_file():
    theirs = load_digits()
    position = {
        (*map(int, image.ravel()), int(label)): i
        for i, (image, label) in enumerate(zip(theirs.images, theirs.target, strict=True))
    }
    for part in digits():
        where = [position[row] for row in rows(*part)]
        assert where == sorted(where)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test_share": 0.0}, "test_share is 0.0"),
        ({"test_share": 1.0}, "test_share is 1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        digits(**arguments)
