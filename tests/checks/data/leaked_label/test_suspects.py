"""Errors without the suspects: what is easy stays easy, what hung on them does not."""

import numpy as np
import pytest

from jaxrecipe.checks.data.leaked_label.single_features import measure_single_features
from jaxrecipe.checks.data.leaked_label.suspects import errors_without, one_an_example
from jaxrecipe.probes.questions import Question
from jaxrecipe.targets import Classes, Values

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, size=600)
NOISE = RNG.normal(size=(600, 3)).astype(np.float32)


def head(rows: np.ndarray, values: np.ndarray, *, classes: bool) -> Question:
    return Question(
        "",
        Classes(2) if classes else Values(),
        values,
        classes,
        {"inputs": rows},
        {"inputs": "table"},
        np.arange(len(rows)),
    )


def test_noise_beside_a_copy_says_nothing() -> None:
    rows = np.concatenate([LABELS[:, None].astype(np.float32), NOISE], axis=1)
    others = errors_without(
        head(rows, LABELS, classes=True), measure_single_features(rows, LABELS, classes=True), LABELS, np.array([0])
    )
    assert others.best == pytest.approx(0.5, abs=0.1)
    assert others.together == pytest.approx(0.5, abs=0.1)


def test_a_second_copy_says_all() -> None:
    rows = np.concatenate([np.stack([LABELS, 3 - LABELS], axis=1).astype(np.float32), NOISE], axis=1)
    others = errors_without(
        head(rows, LABELS, classes=True), measure_single_features(rows, LABELS, classes=True), LABELS, np.array([0])
    )
    assert others.best == 0
    assert others.together == 0


def test_real_targets_leave_variance_unexplained() -> None:
    values = NOISE[:, :1].astype(np.float64) + NOISE[:, 1:2]
    single = measure_single_features(NOISE, values[:, 0], classes=False)
    others = errors_without(head(NOISE, values, classes=False), single, values[:, 0], np.array([0]))
    assert others.together == pytest.approx(0.5, abs=0.1)


def test_nothing_left_says_nothing() -> None:
    rows = LABELS[:, None].astype(np.float32)
    single = measure_single_features(rows, LABELS, classes=True)
    assert errors_without(head(rows, LABELS, classes=True), single, LABELS, np.array([0])) == (1.0, 1.0)


def test_one_label_an_example_or_one_a_position() -> None:
    assert one_an_example(head(NOISE, LABELS, classes=True))
    dense = Question("", Classes(2), LABELS, True, {"inputs": NOISE}, {"inputs": "table"}, np.arange(600) // 2)
    assert not one_an_example(dense)
