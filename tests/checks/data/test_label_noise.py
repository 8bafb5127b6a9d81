"""Wrong labels are estimated as confident learning does, and told from hard tasks."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.data.label_noise import label_noise
from jaxrecipe.checks.data.label_noise.confident_labels import confident_class, confident_joint, confident_learning
from jaxrecipe.report.result import Images, Result, Status, Table
from jaxrecipe.targets import Classes
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, multi_label_task, regression_task

Run = Callable[..., Result]


def noisy(task: Task, share: float, *, test_too: bool = False) -> Task:
    """A share of the labels drawn anew among the other ones (a permutation of the values, for real targets)."""

    def change(y: np.ndarray, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        wrong = rng.random(len(y)) < share
        other = rng.permutation(y) if y.dtype.kind == "f" else (y + rng.integers(1, 10, size=len(y))) % 10
        return np.where(wrong.reshape(-1, *[1] * (y.ndim - 1)), other, y).astype(y.dtype)

    (x, y), (x_test, y_test) = task.train, task.test
    return task.replace(train=(x, change(y, 0)), test=(x_test, change(y_test, 1) if test_too else y_test))


def hard(seed: int = 0, *, classes: int = 4, strength: float = 1.0) -> Task:
    """Overlapping clouds: a predictor is often wrong, and seldom where it is sure."""
    rng = np.random.default_rng(seed)
    centres = strength * rng.normal(size=(classes, 10))
    y = rng.integers(0, classes, size=1500).astype(np.int32)
    x = (centres[y] + 1.5 * rng.normal(size=(1500, 10))).astype(np.float32)
    base = digits_task(prepare=None, target=Classes(classes))
    return base.replace(train=(x[:1200], y[:1200]), test=(x[1200:], y[1200:]))


def hopeless(seed: int = 0) -> Task:
    """Labels that depend on nothing, in both splits: the task may be hard, or wrong; this check cannot tell."""
    task = hard(seed)
    rng = np.random.default_rng(seed)
    (x, y), (x_test, y_test) = task.train, task.test
    return task.replace(train=(x, rng.permutation(y)), test=(x_test, rng.permutation(y_test)))


def shuffled(task: Task) -> Task:
    x, y = task.train
    return task.replace(train=(x, np.random.default_rng(0).permutation(y)))


def slipped_points() -> Task:
    """In two of a hundred targets the decimal point slipped."""
    task = regression_task()
    x, y = task.train
    y = y.copy()
    y[::50] *= 100
    return task.replace(train=(x, y))


def log_normal(seed: int = 0) -> Task:
    """Noise that grows with the target (prices, counts)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1500, 6)).astype(np.float32)
    y = np.exp(x[:, :1] + rng.normal(size=(1500, 1))).astype(np.float32)
    return regression_task().replace(train=(x[:1200], y[:1200]), test=(x[1200:], y[1200:]))


PASSING = [*HEALTHY.values(), hard, lambda seed: hard(seed, strength=0.5), hopeless, log_normal]
PASSING += [lambda seed: noisy(digits_task(seed), 0.02, test_too=True)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("make", PASSING)
def test_clean_and_hard_tasks_raise_no_alarm(run: Run, make: Callable[[int], Task], seed: int) -> None:
    result = run(label_noise, make(seed))
    assert result.status in (Status.PASS, Status.SKIP), f"{result.headline} {result.measured}"


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda: noisy(digits_task(), 0.07), Status.WARN, "Label noise"),
        (lambda: noisy(digits_task(), 0.2), Status.FAIL, "Label noise"),
        (lambda: noisy(digits_task(), 0.1, test_too=True), Status.WARN, "Label noise"),
        (lambda: noisy(digits_task(), 0.3, test_too=True), Status.WARN, "Label noise"),
        (lambda: noisy(regression_task(), 0.25), Status.WARN, "Label noise"),
        (slipped_points, Status.WARN, "Residual outliers"),
        (lambda: shuffled(digits_task()), Status.FAIL, "nothing to do with their inputs"),
        (lambda: shuffled(multi_label_task()), Status.FAIL, "nothing to do with their inputs"),
        (lambda: shuffled(regression_task().replace(test=regression_task(0).train)), Status.FAIL, "nothing to do"),
    ],
)
def test_noise_is_found_and_named(run: Run, make: Callable[[], Task], status: Status, words: str) -> None:
    result = run(label_noise, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert words in result.hint


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_share_is_estimated(run: Run, share: float) -> None:
    measured = run(label_noise, noisy(digits_task(), share, test_too=True)).measured
    assert measured["wrong labels by confident learning"] == pytest.approx(share, abs=0.04)
    assert measured["error where it is surest"] == pytest.approx(share, abs=0.06)


def test_the_suspects_are_the_wrong_labels(run: Run) -> None:
    clean, task = digits_task(), noisy(digits_task(), 0.1)
    result = run(label_noise, task)
    table = next(e for e in result.evidence if isinstance(e, Table) and "likely wrong" in e.title)
    assert all(task.train[1][row[0]] == row[1] for row in table.rows)
    assert np.mean([clean.train[1][row[0]] != row[1] for row in table.rows]) > 0.9
    assert np.mean([clean.train[1][row[0]] == row[2] for row in table.rows]) > 0.9
    pictures = next(e for e in result.evidence if isinstance(e, Images))
    assert len(pictures.images) == len(table.rows)


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


def test_the_threshold_moves_the_verdict(run: Run) -> None:
    task = noisy(digits_task(), 0.15, test_too=True)
    assert run(label_noise, task).status is Status.WARN
    assert run(label_noise, task, wrong=0.5).status is Status.PASS


def test_without_test_data_and_from_items(run: Run) -> None:
    task = noisy(digits_task(), 0.2)
    x, y = task.train
    items = [(x[i], y[i]) for i in range(len(x))]
    assert run(label_noise, task.replace(train=items, test=None)).status is Status.WARN
