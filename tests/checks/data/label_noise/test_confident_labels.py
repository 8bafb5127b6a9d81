"""Confident learning against a loop and against cleanlab."""

import numpy as np
import pytest

from jaxrecipe.checks.data.label_noise.confident_labels import confident_class, confident_joint, confident_learning


def made_up(seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    given = rng.integers(0, classes, size=300)
    scores = rng.normal(size=(300, classes))
    scores[np.arange(300), np.where(rng.random(300) < 0.2, (given + 1) % classes, given)] += 2.5
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return given, probability


def test_the_confident_joint_is_that_of_a_loop() -> None:
    given, probability = made_up()
    thresholds = [probability[given == k, k].mean() for k in range(4)]
    wanted = np.zeros((4, 4), int)
    for i in range(300):
        above = [k for k in range(4) if probability[i, k] >= thresholds[k]]
        if above:
            wanted[given[i], max(above, key=lambda k: probability[i, k])] += 1
    assert np.array_equal(confident_joint(given, probability), wanted)
    learnt = confident_learning(given, probability)
    rows = wanted / wanted.sum(axis=1, keepdims=True) * np.bincount(given)[:, None]
    assert learnt.joint == pytest.approx(rows / rows.sum())
    assert learnt.share == pytest.approx(1 - np.trace(rows) / rows.sum())


def test_the_confident_joint_is_that_of_cleanlab() -> None:
    count = pytest.importorskip("cleanlab.count")
    for seed in range(3):
        given, probability = made_up(seed)
        theirs = count.compute_confident_joint(given, probability, calibrate=False)
        ours = confident_joint(given, probability)
        # cleanlab puts at least one example on the diagonal
        assert np.array_equal(ours - np.diag(np.diag(ours)), theirs - np.diag(np.diag(theirs)))
        assert np.array_equal(np.maximum(np.diag(ours), 1), np.diag(theirs))
        joint = count.estimate_joint(given, probability)
        # and rounds the calibrated counts to whole examples
        assert confident_learning(given, probability).joint == pytest.approx(joint, abs=2 / 300)


def test_a_class_that_nobody_is_given_is_never_reached() -> None:
    given, probability = made_up()
    more = np.concatenate([0.5 * probability, np.full((300, 1), 0.5)], axis=1)
    assert (confident_class(given, more) != 4).all()


def test_suspects_come_surest_first() -> None:
    given, probability = made_up()
    learned = confident_learning(given, probability)
    rows = np.arange(len(learned.suspects))
    margins = probability[learned.suspects, learned.true] - probability[learned.suspects, given[learned.suspects]]
    assert (np.diff(margins) <= 1e-12).all()
    assert (learned.true[rows] != given[learned.suspects]).all()
