"""Maps between the labels of two splits, slope and offset of values, against what was done to them."""

import numpy as np
import pytest

from jaxrecipe.checks.data.split_shift.label_maps import MOST_LABELS, Relation, relation
from jaxrecipe.probes.questions import Question
from jaxrecipe.targets import Classes, Values

RNG = np.random.default_rng(0)
CENTERS = 4 * RNG.normal(size=(6, 5))


def clouds(n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, 6, size=n)
    return (CENTERS[labels] + RNG.normal(size=(n, 5))).astype(np.float32), labels


def head(x: np.ndarray, y: np.ndarray, *, classes: bool = True) -> Question:
    return Question("", Classes(6) if classes else Values(), y, classes, {"x": x}, {"x": "table"}, np.arange(len(x)))


def related(change: np.ndarray) -> Relation:
    (x, y), (x_test, y_test) = clouds(600), clouds(400)
    return relation(head(x, y), head(x_test, change[y_test]))


def test_the_identity_is_no_map() -> None:
    found = related(np.arange(6))
    assert found.map == {}
    assert found.skill > 0.9
    assert found.test_skill == pytest.approx(found.skill, abs=0.1)


@pytest.mark.parametrize(
    ("change", "changed", "shift"),
    [
        ([1, 2, 3, 4, 5, 0], {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 0}, 1),
        ([0, 1, 3, 2, 4, 5], {2: 3, 3: 2}, 0),
        ([5, 4, 3, 2, 1, 0], {0: 5, 1: 4, 2: 3, 3: 2, 4: 1, 5: 0}, 0),
    ],
)
def test_a_map_is_found_again(change: list[int], changed: dict[int, int], shift: int) -> None:
    found = related(np.array(change))
    assert found.map == changed
    assert found.shift == shift
    assert found.errors > 5
    assert found.confusion is not None
    assert found.confusion.sum() == 400


def test_shuffled_labels_are_no_map() -> None:
    (x, y), (x_test, y_test) = clouds(600), clouds(400)
    found = relation(head(x, y), head(x_test, RNG.permutation(y_test)))
    assert found.errors < 5
    assert found.own_skill < 0.2
    assert found.test_skill < 0.2


def test_slope_and_offset_are_those_that_were_put_in() -> None:
    x, x_test = RNG.normal(size=(600, 3)), RNG.normal(size=(400, 3))
    y, y_test = (rows.sum(axis=1, keepdims=True) for rows in (x, x_test))
    found = relation(head(x, y, classes=False), head(x_test, 3 * y_test + 2 * y.std(), classes=False))
    assert found.slope == pytest.approx(3, rel=0.05)
    assert found.offset == pytest.approx(2, abs=0.2)
    assert relation(head(x, y, classes=False), head(x_test, -y_test, classes=False)).errors < -10


def test_only_the_commonest_labels_are_compared_and_none_in_common_is_no_relation() -> None:
    x, x_test = RNG.normal(size=(800, 3)), RNG.normal(size=(100, 3))
    y = np.concatenate([np.arange(300), RNG.integers(0, MOST_LABELS // 2, 500)])
    found = relation(head(x, y), head(x_test, np.arange(100)))
    assert found.levels is not None
    assert len(found.levels) <= MOST_LABELS
    strange = relation(head(x, y), head(x_test, np.full(100, 999)))
    assert strange.map == {}
    assert strange.skill == 0
