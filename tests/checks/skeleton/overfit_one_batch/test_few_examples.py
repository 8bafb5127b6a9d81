"""The few examples are not all of one class where the batch has others: a constant output would be perfect."""

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.overfit_one_batch.few_examples import differing


@pytest.mark.parametrize(
    ("targets", "count", "wanted"),
    [
        ([0, 1, 0, 1], 2, [0, 1]),
        ([1, 1, 1, 1, 0, 1], 3, [0, 1, 4]),
        ([1, 1, 1, 1], 3, [0, 1, 2]),
        ([0, 0, 0, 1], 4, [0, 1, 2, 3]),
    ],
)
def test_one_other_target_is_among_them(targets: list[int], count: int, wanted: list[int]) -> None:
    np.testing.assert_array_equal(differing(np.asarray(targets), count), wanted)


def test_targets_of_several_heads_differ_when_one_head_does() -> None:
    targets = {"a": np.zeros(5, np.int32), "b": np.asarray([[1, 0]] * 4 + [[0, 1]])}
    np.testing.assert_array_equal(differing(targets, 2), [0, 4])


def test_no_targets_at_all() -> None:
    np.testing.assert_array_equal(differing(None, 2), [0, 1])
