"""Copies within a split: what is natural passes, what cannot be natural fails, what is doubtful warns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.data.duplicates import duplicates
from jaxrecipe.diagnosis.measure import Severity
from jaxrecipe.report.result import Images, Result, Status, Table
from jaxrecipe.targets import Binary
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, multi_label_task, regression_task

Run = Callable[..., Result]


def copied(task: Task, share: float, *, labels: str = "same", noise: float = 0.0) -> Task:
    """A share of the training examples once more, with their own labels, the next class, or random ones."""
    x, y = task.train
    count = int(share * len(x))
    rng = np.random.default_rng(0)
    changed = {"same": y[:count], "next": (y[:count] + 1) % 10, "random": rng.permutation(y)[:count]}[labels]
    again = x[:count] if not noise else (x[:count] + noise * rng.normal(size=x[:count].shape)).astype(np.float32)
    return task.replace(train=(np.concatenate([x.astype(again.dtype), again]), np.concatenate([y, changed])))


def few_categories(seed: int = 0) -> Task:
    """Three columns of three categories and a noisy label: equal rows with different labels are natural."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, size=(600, 3)).astype(np.float32)
    y = (x.sum(axis=1) + rng.normal(size=600) > 3).astype(np.float32)
    return multi_label_task().replace(train=(x[:500], y[:500]), test=(x[500:], y[500:]), target=Binary())


def annotated_three_times() -> Task:
    """Each image under the labels of three annotators, who mostly agree."""
    task = digits_task()
    x, y = task.train
    rng = np.random.default_rng(0)
    labels = [np.where(rng.random(len(y)) < 0.1, rng.integers(0, 10, len(y)), y).astype(y.dtype) for _ in range(2)]
    return task.replace(train=(np.concatenate([x, x]), np.concatenate(labels)))


@pytest.mark.parametrize("make", [HEALTHY[name] for name in HEALTHY] + [few_categories])
def test_healthy_data_pass(run: Run, make: Callable[[int], Task]) -> None:
    assert run(duplicates, make(0)).status is Status.PASS


@pytest.mark.parametrize(
    ("task", "status", "code"),
    [
        (lambda: copied(digits_task(), 0.1, labels="next"), Status.FAIL, "data/conflicting-duplicates"),
        (lambda: copied(digits_task(), 0.05, labels="random"), Status.FAIL, "data/conflicting-duplicates"),
        (lambda: copied(digits_task(), 1.0, labels="random"), Status.FAIL, "data/conflicting-duplicates"),
        (lambda: copied(digits_task(), 0.004, labels="next"), Status.WARN, "data/conflicting-duplicates"),
        (lambda: copied(regression_task(), 0.2, labels="random"), Status.FAIL, "data/conflicting-duplicates"),
        (lambda: copied(digits_task(), 0.1), Status.WARN, "data/duplicates"),
        (lambda: copied(digits_task(), 0.1, noise=0.2), Status.WARN, "data/near-duplicates"),
        (annotated_three_times, Status.WARN, "data/conflicting-duplicates"),
    ],
)
def test_copies_are_found_and_named(run: Run, task: Callable[[], Task], status: Status, code: str) -> None:
    result = run(duplicates, task())
    assert result.status is status, result.headline
    assert result.codes[0] == result.findings[0].causes[0].code == code


def test_all_findings_are_kept_the_worst_first(run: Run) -> None:
    result = run(duplicates, copied(digits_task(), 0.1, labels="next"))
    assert result.codes == ("data/conflicting-duplicates", "data/duplicates")
    assert [finding.severity for finding in result.findings] == [Severity.FAIL, Severity.WARN]


def test_a_few_conflicts_may_be_noise_in_the_labels(run: Run) -> None:
    (finding,) = run(duplicates, annotated_three_times()).findings[:1]
    assert [cause.code for cause in finding.causes] == ["data/conflicting-duplicates", "data/label-noise"]


def test_labels_that_disagree_more_than_chance_fail_even_where_equal_rows_are_natural(run: Run) -> None:
    """Every row of categories stands there twice: with labels that noise makes differ, and with labels that always
    differ."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.integers(0, 50, size=(250, 4)), 2, axis=0)
    task = multi_label_task().replace(test=None, target=Binary())
    noisy = run(duplicates, task.replace(train=(x, rng.integers(0, 2, size=500))))
    assert noisy.status is Status.PASS, noisy.headline
    opposite = run(duplicates, task.replace(train=(x, np.tile([0, 1], 250))))
    assert opposite.status is Status.FAIL, opposite.headline
    assert opposite.measured["train: disagreement of copies"] == 1.0
    assert opposite.codes == ("data/conflicting-duplicates",)
    beyond = opposite.measured["train: disagreement of copies beyond that of random pairs"]
    assert run(duplicates, task.replace(train=(x, np.tile([0, 1], 250))), standard_errors=beyond + 1).codes == ()


def test_the_counts_are_those_of_a_loop(run: Run) -> None:
    task = copied(digits_task(), 0.05, labels="random")
    x, y = (np.asarray(leaf) for leaf in task.train)
    same: dict[bytes, list[Any]] = {}
    for image, label in zip(x, y, strict=True):
        same.setdefault(image.tobytes(), []).append(label)
    repeated = sum(len(labels) for labels in same.values() if len(labels) > 1)
    conflicting = sum(len(labels) for labels in same.values() if len(set(labels)) > 1)
    measured = run(duplicates, task).measured
    assert measured["train: share with an exact copy"] == pytest.approx(repeated / len(x))
    assert measured["train: share whose copy has another label"] == pytest.approx(conflicting / len(x))


def test_the_pairs_are_shown_with_the_conflicting_ones_first(run: Run) -> None:
    evidence = run(duplicates, copied(digits_task(), 0.1, labels="next")).evidence
    table = next(e for e in evidence if isinstance(e, Table) and e.title == "Equal train examples")
    assert table.rows[0][1] != table.rows[0][3]
    pictures = next(e for e in evidence if isinstance(e, Images))
    assert np.array_equal(pictures.images[0], pictures.images[1])


def test_each_threshold_moves_the_verdict(run: Run) -> None:
    few = copied(digits_task(), 0.004, labels="random")
    assert run(duplicates, few).status is Status.WARN
    assert run(duplicates, few, conflicting=0.001).status is Status.FAIL
    annotated = annotated_three_times()
    ratio = run(duplicates, annotated).measured["train: disagreement of copies as a share of that of random pairs"]
    assert run(duplicates, annotated, disagreeing=ratio * 0.99).status is Status.FAIL
    assert run(duplicates, annotated, disagreeing=ratio * 1.01).status is Status.WARN
    same = copied(digits_task(), 0.1)
    share = run(duplicates, same).measured["train: share with an exact copy"]
    assert run(duplicates, same, repeated=share * 0.99).codes == ("data/duplicates",)
    assert run(duplicates, same, repeated=share * 1.01).status is Status.PASS
    near = copied(digits_task(), 0.1, noise=0.2)
    share = run(duplicates, near).measured["train: share with a near copy"]
    assert run(duplicates, near, repeated=share * 0.99).codes == ("data/near-duplicates",)
    assert run(duplicates, near, repeated=share * 1.01).status is Status.PASS


def test_data_that_are_no_arrays(run: Run) -> None:
    task = copied(digits_task(), 0.1, labels="next")
    x, y = task.train
    items = [(x[i], y[i]) for i in range(len(x))]
    assert run(duplicates, task.replace(train=items)).status is Status.FAIL
