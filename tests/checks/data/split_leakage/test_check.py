"""Test examples in the training data, exactly or nearly; data that repeat themselves in both splits alike are left
alone."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.data.split_leakage import split_leakage
from jaxrecipe.report.result import Images, Result, Status, Table
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, language_model_task, regression_task

Run = Callable[..., Result]


def leaking(task: Task, count: int, *, noise: float = 0.0) -> Task:
    """Some test examples are in the training data too, as they are or with a little noise."""
    (x, y), (x_test, y_test) = task.train, task.test
    more = x_test[:count]
    if noise:
        more = (more + noise * np.random.default_rng(0).normal(size=more.shape)).astype(np.float32)
    return task.replace(train=(np.concatenate([x.astype(more.dtype), more]), np.concatenate([y, y_test[:count]])))


def split_of(x: np.ndarray, y: np.ndarray, base: Task) -> Task:
    """A random split of some data."""
    order = np.random.default_rng(1).permutation(len(x))
    cut = int(0.8 * len(x))
    return base.replace(train=(x[order[:cut]], y[order[:cut]]), test=(x[order[cut:]], y[order[cut:]]))


def copied_before_the_split() -> Task:
    task = regression_task()
    x, y = (np.concatenate([a, b]) for a, b in zip(task.train, task.test, strict=True))
    return split_of(np.concatenate([x, x]), np.concatenate([y, y]), task)


def oversampled_after_the_split() -> Task:
    task = digits_task()
    x, y = task.train
    return task.replace(train=(np.concatenate([x, x[:500]]), np.concatenate([y, y[:500]])))


def categories(seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, size=(600, 4)).astype(np.float32)
    y = (x.sum(axis=1, keepdims=True) + rng.normal(size=(600, 1))).astype(np.float32)
    return split_of(x, y, regression_task())


def long_rows(leaking: bool) -> Task:
    """Rows of tokens that do not repeat themselves."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 12, size=(400, 33)).astype(np.int32)
    train, test = rows[:320], rows[240:320] if leaking else rows[320:]
    return language_model_task().replace(train=(train[:, :-1], train[:, 1:]), test=(test[:, :-1], test[:, 1:]))


HEALTHY_SPLITS = [
    *HEALTHY.values(),
    categories,
    lambda seed: oversampled_after_the_split(),
    lambda seed: long_rows(False),
]


@pytest.mark.parametrize("make", HEALTHY_SPLITS)
def test_healthy_splits_pass(run: Run, make: Callable[[int], Task]) -> None:
    result = run(split_leakage, make(0))
    assert result.status is Status.PASS, result.headline


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: leaking(digits_task(), 100), "data/test-in-train"),
        (lambda: leaking(digits_task(), 8), "data/test-in-train"),
        (lambda: leaking(regression_task(), 50), "data/test-in-train"),
        (lambda: digits_task().replace(test=digits_task().train), "data/test-in-train"),
        (lambda: leaking(digits_task(), 100, noise=0.3), "data/near-test-in-train"),
        (lambda: leaking(regression_task(), 50, noise=0.01), "data/near-test-in-train"),
        (copied_before_the_split, "data/copied-before-split"),
        (lambda: long_rows(True), "data/test-in-train"),
    ],
)
def test_leaks_fail_and_are_named(run: Run, make: Callable[[], Task], code: str) -> None:
    result = run(split_leakage, make())
    assert result.status is Status.FAIL, result.headline
    assert result.codes[0] == result.findings[0].causes[0].code == code


def test_a_few_copies_warn(run: Run) -> None:
    result = run(split_leakage, leaking(digits_task(), 5))
    assert result.status is Status.WARN
    assert [cause.code for cause in result.findings[0].causes] == ["data/test-in-train", "data/repetitive"]


def test_exact_and_near_copies_are_both_reported(run: Run) -> None:
    task = leaking(digits_task(), 60)
    x, y = task.test
    noise = np.random.default_rng(0).normal(0, 0.3, size=x[60:160].shape)
    more = (x[60:160] + noise).astype(np.float32)
    x_train, y_train = task.train
    train = (np.concatenate([x_train.astype(np.float32), more]), np.concatenate([y_train, y[60:160]]))
    both = task.replace(train=train, test=(x.astype(np.float32), y))
    assert run(split_leakage, both).codes == ("data/test-in-train", "data/near-test-in-train")


def test_each_threshold_moves_the_verdict(run: Run) -> None:
    task = leaking(digits_task(), 50)
    measured = run(split_leakage, task).measured
    excess = measured["share of exact copies beyond those within the training data"]
    assert run(split_leakage, task, excess=excess * 0.99).status is Status.FAIL
    assert run(split_leakage, task, excess=excess * 1.01).status is Status.WARN
    rows = long_rows(True)
    excess = run(split_leakage, rows).measured["share of exact copies beyond those within the training data"]
    assert run(split_leakage, rows, excess_of_integers=excess * 0.99).status is Status.FAIL
    assert run(split_leakage, rows, excess_of_integers=excess * 1.01).status is Status.WARN
    few = leaking(digits_task(), 5)
    probability = run(split_leakage, few).measured["chance of so many exact copies after a random split"]
    assert run(split_leakage, few, chance=2 * probability * 1.01, excess=0.005).status is Status.FAIL
    assert run(split_leakage, few, chance=2 * probability * 0.99, excess=0.005).status is Status.WARN


def test_data_that_repeat_themselves_alike_warn(run: Run) -> None:
    """A few examples occur several times, and a random split puts some of them on both sides."""
    task = digits_task()
    x, y = (np.concatenate([a, b]) for a, b in zip(task.train, task.test, strict=True))
    task = split_of(np.concatenate([x, x[:100]]), np.concatenate([y, y[:100]]), task)
    result = run(split_leakage, task)
    assert result.codes == ("data/repetitive",)
    share = result.measured["share of test examples with a copy, exact or near"]
    assert run(split_leakage, task, warn=share * 0.99).status is Status.WARN
    assert run(split_leakage, task, warn=share * 1.01).status is Status.PASS


def test_the_share_is_that_of_a_loop(run: Run) -> None:
    task = leaking(digits_task(), 37)
    seen = {image.tobytes() for image in np.asarray(task.train[0])}
    share = np.mean([image.tobytes() in seen for image in np.asarray(task.test[0])])
    assert run(split_leakage, task).measured["share of test examples in the training data"] == pytest.approx(share)


def test_the_pairs_are_shown(run: Run) -> None:
    evidence = run(split_leakage, leaking(digits_task(), 100)).evidence
    table = next(e for e in evidence if isinstance(e, Table))
    assert [row[1] == row[3] for row in table.rows] == [True] * len(table.rows)
    pictures = next(e for e in evidence if isinstance(e, Images))
    assert np.array_equal(pictures.images[::2], pictures.images[1::2])


def test_without_test_data_it_is_skipped_with_the_way_to_get_it(run: Run) -> None:
    result = run(split_leakage, digits_task(test=None))
    assert result.status is Status.SKIP
