"""Missing classes are found where chance cannot explain them, imbalance is said where accuracy is the metric."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.catalogue.table import FAULTS
from jaxrecipe.checks.data.class_balance import class_balance
from jaxrecipe.report.result import Histogram, Result, Status, Table
from jaxrecipe.targets import Binary, Classes, MultiLabel, TargetTree
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, heads_task

Run = Callable[..., Result]
COUNTED = ("digits", "binary", "multi_label", "heads", "dropout")


def counted(y: Any, target: TargetTree, test: Any = None, **changes: Any) -> Task:
    """A task of which only the labels matter."""

    def data(labels: Any) -> Any:
        return None if labels is None else (np.zeros((len(labels), 2), np.float32), labels)

    return digits_task(train=data(y), test=data(test), prepare=None, target=target, **changes)


def drawn(shares: list[float], size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(shares), size=size, p=shares).astype(np.int32)


def some(rates: list[float], size: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((size, len(rates))) < rates).astype(np.float32)


def without(label: int, split: str) -> Task:
    task = digits_task()
    x, y = getattr(task, split)
    return task.replace(**{split: (x[y != label], y[y != label])})


EVEN = [0.1] * 10
MASKS = np.repeat(np.random.default_rng(1).random((500, 8, 8)) < 0.5, 1, axis=0).astype(np.int32)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_balance_passes(run: Run, name: str, seed: int) -> None:
    result = run(class_balance, HEALTHY[name](seed))
    assert result.status in (Status.PASS, Status.SKIP), result.headline
    assert result.status is Status.PASS or name not in COUNTED


@pytest.mark.parametrize(
    "task",
    [
        counted(drawn(EVEN, 12), Classes(10)),  # too few to say that one is missing
        counted(drawn([0.9, 0.06, 0.04], 400), Classes(3), drawn([0.9, 0.06, 0.04], 60, 1)),
        counted(drawn([0.001] + [0.111] * 9, 900), Classes(10), drawn([0.001] + [0.111] * 9, 100, 1)),
        counted(drawn([0.005] * 200, 400), Classes(200)),
        counted(some([0.01, 0.3, 0.2], 200), MultiLabel(3), some([0.01, 0.3, 0.2], 50, 1)),
        counted(drawn([0.94, 0.06], 500), Binary(), drawn([0.94, 0.06], 20, 1)),
        counted(MASKS, Classes(2), MASKS[:30]),
    ],
)
def test_what_chance_explains_passes(run: Run, task: Task) -> None:
    result = run(class_balance, task)
    assert result.status is Status.PASS, result.headline


BROKEN: dict[str, tuple[Task, Status, str]] = {
    "missing in training": (without(3, "train"), Status.FAIL, "data/class-missing"),
    "declared one too many": (digits_task(target=Classes(11)), Status.FAIL, "data/class-missing"),
    "missing in test": (without(3, "test"), Status.WARN, "data/class-not-tested"),
    "no positive": (counted(np.zeros(200, np.float32), Binary()), Status.FAIL, "data/class-missing"),
    "a label never positive": (counted(some([0.2, 0.0, 0.3], 600), MultiLabel(3)), Status.FAIL, "data/class-missing"),
    "a label always positive": (
        counted(some([0.2, 1.0, 0.3], 600), MultiLabel(3)),
        Status.WARN,
        "data/constant-target-columns",
    ),
    "a class in no mask": (counted(MASKS, Classes(3)), Status.FAIL, "data/class-missing"),
    "nearly all one class": (counted(drawn([0.97, 0.03], 2000), Binary()), Status.WARN, "data/imbalance"),
    "one in hundreds": (counted(drawn([0.5, 0.498, 0.002], 2000), Classes(3)), Status.WARN, "data/imbalance"),
    "few positives": (counted(some([0.02, 0.03, 0.03], 1000), MultiLabel(3)), Status.WARN, "data/imbalance"),
    "splits differ": (
        counted(drawn([0.5, 0.5], 2000), Binary(), drawn([0.9, 0.1], 500, 1)),
        Status.WARN,
        "data/class-balance-shift",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_chance_does_not_explain_is_named(run: Run, name: str) -> None:
    task, status, code = BROKEN[name]
    result = run(class_balance, task)
    assert (result.status, result.codes[0]) == (status, code), result.findings


@pytest.mark.parametrize("name", BROKEN)
def test_a_head_of_a_mapping_is_judged_as_a_single_target(run: Run, name: str) -> None:
    task, _, _ = BROKEN[name]
    mapped = task.replace(
        train=(task.train[0], {"a": task.train[1]}),
        test=None if task.test is None else (task.test[0], {"a": task.test[1]}),
        prepare=None,
        target={"a": task.target},
    )
    single, within = run(class_balance, task.replace(prepare=None)), run(class_balance, mapped)
    assert (within.status, within.codes) == (single.status, single.codes)
    assert list(within.measured.values()) == list(single.measured.values())


def test_imbalance_is_no_matter_where_accuracy_is_not_the_metric(run: Run) -> None:
    task = counted(drawn([0.97, 0.03], 2000), Binary())
    squared = {"brier": lambda outputs, labels: jnp.square(outputs - labels)}
    assert run(class_balance, task.replace(metrics=squared)).status is Status.PASS


def test_the_counts_are_those_of_a_loop(run: Run) -> None:
    masks = np.random.default_rng(2).integers(0, 4, size=(50, 3, 3)).astype(np.int32)
    result = run(class_balance, counted(masks, Classes(4)))
    bars = next(e for e in result.evidence if isinstance(e, Histogram))
    table = next(e for e in result.evidence if isinstance(e, Table))
    for one in range(4):
        holding = sum(any(int(pixel) == one for pixel in mask.ravel()) for mask in masks)
        pixels = sum(int(pixel) == one for mask in masks for pixel in mask.ravel())
        assert bars.counts["train"][one] == pixels
        row = next(row for row in table.rows if row[0] == one)
        assert row[1:] == (pixels, pytest.approx(pixels / 450), holding)


def test_a_head_is_named_and_labels_are_counted_after_preparation(run: Run) -> None:
    task = heads_task()
    prepare = task.prepare
    assert prepare is not None

    def merged(x: Any, y: Any) -> Any:
        x, y = prepare(x, y)
        return x, {**y, "digit": jnp.where(y["digit"] == 4, 9, y["digit"])}

    result = run(class_balance, task.replace(prepare=merged))
    assert result.status is Status.FAIL
    assert result.codes[0] == "data/class-missing"
    assert result.measured["digit: classes in the training data"] == 9


THRESHOLDS: dict[str, tuple[Task, str, float, float]] = {
    "majority_warn": (counted(drawn([0.9, 0.1], 500), Binary()), "data/imbalance", 0.8, 0.95),
    "ratio_warn": (counted(drawn([0.5, 0.4, 0.1], 500), Classes(3)), "data/imbalance", 3.0, 8.0),
    "chance": (without(3, "train"), "data/class-missing", 1e-3, 0.0),
}


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_both_sides_of_a_threshold(run: Run, threshold: str) -> None:
    task, code, found, passed = THRESHOLDS[threshold]
    assert run(class_balance, task, **{threshold: found}).codes[:1] == (code,)
    assert run(class_balance, task, **{threshold: passed}).codes == ()


@pytest.mark.parametrize(("size", "status"), [(90, Status.PASS), (270, Status.WARN), (1440, Status.FAIL)])
def test_a_missing_class_fails_only_where_even_a_rare_one_would_have_occurred(
    run: Run, size: int, status: Status
) -> None:
    result = run(class_balance, counted(np.arange(size, dtype=np.int32) % 9, Classes(10)))
    assert result.status is status, result.measures
    assert result.codes == (() if status is Status.PASS else ("data/class-missing",))


def test_nothing_to_count_is_skipped_with_a_reason(run: Run) -> None:
    result = run(class_balance, HEALTHY["regression"](0))
    assert result.status is Status.SKIP
    assert "Classes" in result.summary


@pytest.mark.parametrize("name", ["04a", "11a", "15b"])
def test_planted_faults_are_named(run: Run, name: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name.startswith(name))
    result = run(class_balance, fault.make(0))
    assert result.status is Status.FAIL
    assert result.findings[0].causes[0].code in fault.causes
