"""Labels that are coded otherwise than declared are told apart; labels as people have them pass."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.catalogue.table import FAULTS
from jaxrecipe.checks.data.labels import labels
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Binary, Classes, MultiLabel, TargetTree, Tokens, Unspecified, Values
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, heads_task, multi_label_task

Run = Callable[..., Result]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(300, 4)).astype(np.float32)
CLASS = RNG.integers(0, 5, 300).astype(np.int32)
MASKS = RNG.integers(0, 3, size=(300, 6, 6)).astype(np.int32)
TEXT = RNG.integers(1, 20, size=(300, 12)).astype(np.int32)


def labeled(y: Any, target: TargetTree, x: Any = X, **changes: Any) -> Task:
    """A task of which only the labels matter."""
    return digits_task(train=(x, y), test=None, prepare=None, target=target, **changes)


def padded(lengths: np.ndarray, pad: int = 0) -> np.ndarray:
    return np.where(np.arange(12) < lengths[:, None], TEXT, pad).astype(np.int32)


SHORT = RNG.integers(2, 12, 300)
HALF_EMPTY = MASKS * (np.arange(300) % 2)[:, None, None].astype(np.int32)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_labels_pass(run: Run, name: str, seed: int) -> None:
    result = run(labels, HEALTHY[name](seed))
    assert result.status is (Status.SKIP if name == "contrastive" else Status.PASS), result.headline


@pytest.mark.parametrize(
    "task",
    [
        labeled(CLASS, Classes(5)),
        labeled(CLASS.astype(np.int64), Classes(9)),  # classes that are not there are counted elsewhere
        labeled(MASKS, Classes(3)),
        labeled(HALF_EMPTY, Classes(3)),
        labeled((CLASS == 0).astype(np.float32)[:, None], Binary()),
        labeled(CLASS == 0, Binary()),
        labeled(CLASS.astype(np.float32), Values()),
        labeled(np.exp(RNG.normal(size=300)).astype(np.float32), Values()),
        labeled(RNG.random((300, 8, 8, 1)).astype(np.float32).round(2), Values()),
        labeled((RNG.integers(0, 256, size=(300, 64)) / 255).astype(np.float32), Values()),
        labeled(TEXT, Tokens(20)),
        labeled(padded(SHORT), Tokens(20, pad=0)),
        labeled(padded(SHORT, -1), Tokens(20, pad=-1)),
        labeled(TEXT, Tokens(50_000)),
        labeled(CLASS[:10] * 0, Classes(5), X[:10]),  # too few to say
    ],
)
def test_labels_as_people_have_them_pass(run: Run, task: Task) -> None:
    result = run(labels, task)
    assert result.status is Status.PASS, result.headline
    assert not result.findings


BROKEN: dict[str, tuple[Task, Status, str]] = {
    "all zero": (labeled(CLASS * 0, Classes(5)), Status.FAIL, "data/constant-labels"),
    "divided in prepare": (
        labeled(CLASS, Classes(5)).replace(prepare=lambda x, y: (x, (y / 255).astype(jnp.int32))),
        Status.FAIL,
        "data/constant-labels",
    ),
    "divided": (labeled((CLASS / 255).astype(np.float32), Values()), Status.FAIL, "data/labels-scaled"),
    "divided, undeclared": (
        labeled((CLASS / 255).astype(np.float32), Unspecified()),
        Status.FAIL,
        "data/labels-scaled",
    ),
    "divided yes or no": (
        labeled(((CLASS == 0) / 255).astype(np.float32), Binary()),
        Status.FAIL,
        "data/labels-scaled",
    ),
    "too large": (labeled(CLASS + 1, Classes(5)), Status.FAIL, "data/labels-out-of-range"),
    "negative": (labeled(CLASS - 1, Classes(5)), Status.FAIL, "data/labels-out-of-range"),
    "yes or no as 1 and 2": (
        labeled((CLASS == 0).astype(np.int32) + 1, Binary()),
        Status.FAIL,
        "data/labels-out-of-range",
    ),
    "from one": (labeled(CLASS + 1, Classes(6)), Status.WARN, "data/labels-from-one"),
    "in tens": (labeled(CLASS * 10, Classes(50)), Status.FAIL, "data/labels-in-steps"),
    "gray levels": (labeled((MASKS > 0).astype(np.int32) * 255, Classes(256)), Status.FAIL, "data/labels-in-steps"),
    "empty masks": (
        labeled(np.where(np.arange(300)[:, None, None] < 285, 0, MASKS), Classes(3)),
        Status.WARN,
        "data/empty-masks",
    ),
    "a class as a mask": (
        labeled(np.broadcast_to(CLASS[:, None, None], (300, 6, 6)).copy(), Classes(5)),
        Status.FAIL,
        "data/masks-of-one-class",
    ),
    "exactly one": (labeled(np.eye(5, dtype=np.float32)[CLASS], MultiLabel(5)), Status.WARN, "data/labels-exclusive"),
    "none": (
        labeled(np.eye(5, dtype=np.float32)[CLASS] * (np.arange(300) < 20)[:, None].astype(np.float32), MultiLabel(5)),
        Status.WARN,
        "data/few-positives",
    ),
    "same value": (labeled(np.full(300, 3.5, np.float32), Values()), Status.FAIL, "data/constant-labels"),
    "one column the same": (
        labeled(X * np.array([1, 1, 0, 1], np.float32), Values()),
        Status.WARN,
        "data/constant-target-columns",
    ),
    "one huge value": (
        labeled(np.where(np.arange(300) == 7, 1e6, X[:, 0]).astype(np.float32), Values()),
        Status.WARN,
        "data/heavy-tailed-targets",
    ),
    "out of the vocabulary": (labeled(TEXT + 1, Tokens(20)), Status.FAIL, "data/labels-out-of-range"),
    "mostly padding": (labeled(padded(np.ones(300)), Tokens(20, pad=0)), Status.WARN, "data/mostly-padding"),
    "rows of padding": (labeled(padded(SHORT * (SHORT > 3)), Tokens(20, pad=0)), Status.WARN, "data/empty-rows"),
    "padding not declared": (labeled(padded(SHORT), Tokens(20)), Status.WARN, "data/padding-undeclared"),
    "vast vocabulary": (labeled(TEXT[:, :10] % 2, Tokens(25)), Status.WARN, "data/unused-vocabulary"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_labels_that_are_wrong_are_named(run: Run, name: str) -> None:
    task, status, code = BROKEN[name]
    result = run(labels, task)
    assert (result.status, result.codes[0]) == (status, code), result.findings
    deciding = result.findings[0].measures[0]
    assert deciding.code == code
    assert deciding.verdict is result.findings[0].severity


@pytest.mark.parametrize("name", BROKEN)
def test_a_head_of_a_mapping_is_judged_as_a_single_target(run: Run, name: str) -> None:
    task, _, _ = BROKEN[name]
    x, y = task.train
    prepare = task.prepare
    mapped = task.replace(
        train=(x, {"a": y}),
        target={"a": task.target},
        prepare=None if prepare is None else lambda x, y: (x, {"a": prepare(x, y["a"])[1]}),
    )
    single, within = run(labels, task), run(labels, mapped)
    assert (within.status, within.codes) == (single.status, single.codes)
    assert list(within.measured.values()) == list(single.measured.values())
    assert all(measure.startswith("train, a: ") for measure in within.measured)


def test_a_head_is_named(run: Run) -> None:
    task = heads_task()
    x, y = task.train
    result = run(labels, task.replace(train=(x, {**y, "digit": y["digit"] * 0})))
    assert result.codes == ("data/constant-labels",)
    assert result.measured["train, digit: different labels"] == 1
    assert result.measured["test, digit: different labels"] == 10


def test_the_test_split_is_read_too(run: Run) -> None:
    task = digits_task()
    x, y = task.test
    result = run(labels, task.replace(test=(x, np.full_like(y, 3))))
    assert result.codes == ("data/constant-labels",)
    assert result.measured["test: different labels"] == 1


def test_every_label_of_data_that_are_no_arrays_is_read(run: Run) -> None:
    items = [(row, np.int32(label)) for row, label in zip(X, CLASS, strict=True)]
    items[133] = (X[133], np.int32(7))
    result = run(labels, labeled(CLASS, Classes(5)).replace(train=items))
    assert result.codes == ("data/labels-out-of-range",)
    assert result.measured["train: labels out of range"] == 1
    assert "example 133" in result.findings[0].message


def test_missing_values_that_the_loss_masks_are_fine(run: Run) -> None:
    task = multi_label_task().replace(target=Values())
    x, y = task.train
    holes = np.where(np.arange(len(y))[:, None] % 7 == 0, np.nan, y).astype(np.float32)

    def masked(outputs: Any, values: Any) -> Any:
        return jnp.where(jnp.isnan(values), 0.0, jnp.square(outputs - jnp.nan_to_num(values))).mean(axis=1)

    task = task.replace(train=(x, holes), test=None)
    name = "train: examples whose labels are not finite"
    passed = run(labels, task.replace(loss=masked))
    assert passed.status is Status.PASS
    assert passed.measured[name] == 72
    result = run(labels, task.replace(loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=1)))
    assert result.codes == ("data/labels-not-finite",)
    assert result.measured[name] == 72


THRESHOLDS: dict[str, tuple[Task, str, float, float]] = {
    "padding_warn": (labeled(padded(SHORT), Tokens(20, pad=0)), "data/mostly-padding", 0.2, 0.9),
    "empty_warn": (labeled(HALF_EMPTY, Classes(3)), "data/empty-masks", 0.4, 0.6),
    "tail_warn": (labeled(X[:, 0], Values()), "data/heavy-tailed-targets", 0.01, 0.5),
    "least": (labeled(CLASS[:10] * 0, Classes(5), X[:10]), "data/constant-labels", 10, 11),
}


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_both_sides_of_a_threshold(run: Run, threshold: str) -> None:
    task, code, found, passed = THRESHOLDS[threshold]
    assert run(labels, task, **{threshold: found}).codes == (code,)
    assert run(labels, task, **{threshold: passed}).codes == ()


def test_every_finding_is_yielded(run: Run) -> None:
    task = labeled(padded(SHORT * (SHORT > 9)), Tokens(20, pad=0))
    result = run(labels, task, padding_warn=0.3)
    assert result.codes == ("data/mostly-padding", "data/empty-rows")


def test_nothing_declared_is_skipped(run: Run) -> None:
    assert run(labels, labeled(X, Unspecified())).status is Status.SKIP


@pytest.mark.parametrize("name", ["04a", "04b"])
def test_planted_faults_are_named(run: Run, name: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name.startswith(name))
    result = run(labels, fault.make(0))
    assert result.status is Status.FAIL
    assert result.findings[0].causes[0].code in fault.causes
