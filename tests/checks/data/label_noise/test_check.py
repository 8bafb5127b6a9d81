"""Wrong labels are estimated as confident learning does, and told from hard tasks."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.data.label_noise import label_noise
from jaxrecipe.report.evidence import Images, Table
from jaxrecipe.report.result import Result, Status
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


NOISE, SHUFFLED = "data/label-noise", "data/labels-shuffled"


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (lambda: noisy(digits_task(), 0.07), Status.WARN, NOISE),
        (lambda: noisy(digits_task(), 0.2), Status.FAIL, NOISE),
        (lambda: noisy(digits_task(), 0.1, test_too=True), Status.WARN, NOISE),
        (lambda: noisy(digits_task(), 0.3, test_too=True), Status.WARN, NOISE),
        (lambda: noisy(regression_task(), 0.25), Status.WARN, NOISE),
        (slipped_points, Status.WARN, "data/target-outliers"),
        (lambda: shuffled(digits_task()), Status.FAIL, SHUFFLED),
        (lambda: shuffled(multi_label_task()), Status.FAIL, SHUFFLED),
        (lambda: shuffled(regression_task().replace(test=regression_task(0).train)), Status.FAIL, SHUFFLED),
    ],
)
def test_noise_is_found_and_named(run: Run, make: Callable[[], Task], status: Status, code: str) -> None:
    result = run(label_noise, make())
    assert (result.status, result.codes[0]) == (status, code), f"{result.headline} {result.measured}"
    assert result.findings[0].causes[0].code == code


def test_a_training_split_that_is_only_harder_is_no_failure(run: Run) -> None:
    """Training clouds overlap more than test clouds: a difference of the splits, not of the labels."""
    (x, y), (x_test, y_test) = hard(strength=2.0).train, hard(strength=2.0).test
    blurred = x + 3.0 * np.random.default_rng(1).normal(size=x.shape).astype(np.float32) * (
        np.arange(len(x))[:, None] % 2
    )
    result = run(label_noise, hard(strength=2.0).replace(train=(blurred, y), test=(x_test, y_test)))
    assert result.status is Status.WARN, result.measured
    assert [cause.code for cause in result.findings[0].causes] == [NOISE, "data/split-shift"]


def test_what_cannot_be_predicted_at_all_is_skipped_and_not_passed(run: Run) -> None:
    result = run(label_noise, hopeless())
    assert result.status is Status.SKIP
    assert abs(result.measured["skill of a simple predictor"]) < 0.1


def test_several_heads_must_be_surer_than_one(run: Run) -> None:
    task = HEALTHY["heads"](0)
    (x, y), (x_test, y_test) = task.train, task.test
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(len(y["digit"])) < 0.2, (y["digit"] + 3) % 10, y["digit"]).astype(y["digit"].dtype)
    result = run(label_noise, task.replace(train=(x, {**y, "digit": wrong}), test=(x_test, y_test)))
    assert result.codes == (NOISE,)
    assert result.findings[0].measures[0].name.startswith("digit: ")


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


def test_both_sides_of_each_threshold_without_clean_labels(run: Run) -> None:
    task = noisy(digits_task(), 0.15, test_too=True)
    measured = run(label_noise, task).measured
    surest, skill = measured["error where it is surest"], measured["skill of a simple predictor"]
    ratio = surest / measured["error on held-out training labels"]
    assert run(label_noise, task).status is Status.WARN
    assert run(label_noise, task, wrong=surest).status is Status.PASS
    assert run(label_noise, task, skilled=1.01 * skill).status is Status.PASS
    assert run(label_noise, task, skilled=0.99 * skill).status is Status.WARN
    assert run(label_noise, task, evenly=1.01 * ratio).status is Status.PASS
    assert run(label_noise, task, evenly=0.99 * ratio).status is Status.WARN
    assert run(label_noise, task, standard_errors=40.0).status is Status.PASS


def test_both_sides_of_each_threshold_with_clean_labels(run: Run) -> None:
    task = noisy(digits_task(), 0.2)
    gap = run(label_noise, task).measured["error on training minus error on test labels"]
    assert run(label_noise, task, wrong=0.99 * gap).status is Status.WARN
    assert run(label_noise, task, evenly=2.0).status is Status.WARN
    assert run(label_noise, task, wrong=1.5 * gap, skilled=1.0).status is Status.PASS
    assert run(label_noise, task, standard_errors=40.0).status is Status.PASS


def test_both_sides_of_each_threshold_for_values(run: Run) -> None:
    task = slipped_points()
    share = run(label_noise, task).measured["share of outlying residuals"]
    assert run(label_noise, task, outlying=0.99 * share).codes == ("data/target-outliers",)
    assert "data/target-outliers" not in run(label_noise, task, outlying=1.01 * share).codes
    assert "data/target-outliers" not in run(label_noise, task, tails=1e6).codes


def test_without_test_data_and_from_items(run: Run) -> None:
    task = noisy(digits_task(), 0.2)
    x, y = task.train
    items = [(x[i], y[i]) for i in range(len(x))]
    assert run(label_noise, task.replace(train=items, test=None)).status is Status.WARN
