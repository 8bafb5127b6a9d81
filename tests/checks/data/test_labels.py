"""Labels that are coded otherwise than declared are told apart; labels as people have them pass."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

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


def labelled(y: Any, target: TargetTree, x: Any = X, **changes: Any) -> Task:
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
        labelled(CLASS, Classes(5)),
        labelled(CLASS.astype(np.int64), Classes(9)),  # classes that are not there are counted elsewhere
        labelled(MASKS, Classes(3)),
        labelled(HALF_EMPTY, Classes(3)),
        labelled((CLASS == 0).astype(np.float32)[:, None], Binary()),
        labelled(CLASS == 0, Binary()),
        labelled(CLASS.astype(np.float32), Values()),
        labelled(np.exp(RNG.normal(size=300)).astype(np.float32), Values()),
        labelled(RNG.random((300, 8, 8, 1)).astype(np.float32).round(2), Values()),
        labelled((RNG.integers(0, 256, size=(300, 64)) / 255).astype(np.float32), Values()),
        labelled(TEXT, Tokens(20)),
        labelled(padded(SHORT), Tokens(20, pad=0)),
        labelled(padded(SHORT, -1), Tokens(20, pad=-1)),
        labelled(TEXT, Tokens(50_000)),
        labelled(CLASS[:10] * 0, Classes(5), X[:10]),  # too few to say
    ],
)
def test_labels_as_people_have_them_pass(run: Run, task: Task) -> None:
    result = run(labels, task)
    assert result.status is Status.PASS, result.headline
    assert not result.hint


BROKEN: dict[str, tuple[Task, Status, str]] = {
    "all zero": (labelled(CLASS * 0, Classes(5)), Status.FAIL, "y / 255 as an integer"),
    "divided in prepare": (
        labelled(CLASS, Classes(5)).replace(prepare=lambda x, y: (x, (y / 255).astype(jnp.int32))),
        Status.FAIL,
        "y / 255 as an integer",
    ),
    "divided": (labelled((CLASS / 255).astype(np.float32), Values()), Status.FAIL, "divided by 255"),
    "divided, undeclared": (labelled((CLASS / 255).astype(np.float32), Unspecified()), Status.FAIL, "divided by 255"),
    "divided yes or no": (labelled(((CLASS == 0) / 255).astype(np.float32), Binary()), Status.FAIL, "divided by 255"),
    "too large": (labelled(CLASS + 1, Classes(5)), Status.FAIL, "Correct the labels"),
    "negative": (labelled(CLASS - 1, Classes(5)), Status.FAIL, "Correct the labels"),
    "yes or no as 1 and 2": (labelled((CLASS == 0).astype(np.int32) + 1, Binary()), Status.FAIL, "Correct the labels"),
    "from one": (labelled(CLASS + 1, Classes(6)), Status.WARN, "count from 1"),
    "in tens": (labelled(CLASS * 10, Classes(50)), Status.FAIL, "factor"),
    "grey levels": (labelled((MASKS > 0).astype(np.int32) * 255, Classes(256)), Status.FAIL, "factor"),
    "empty masks": (
        labelled(np.where(np.arange(300)[:, None, None] < 285, 0, MASKS), Classes(3)),
        Status.WARN,
        "masks",
    ),
    "a class as a mask": (
        labelled(np.broadcast_to(CLASS[:, None, None], (300, 6, 6)).copy(), Classes(5)),
        Status.FAIL,
        "spread over its mask",
    ),
    "exactly one": (labelled(np.eye(5, dtype=np.float32)[CLASS], MultiLabel(5)), Status.WARN, "jr.Classes(n)"),
    "none": (
        labelled(np.eye(5, dtype=np.float32)[CLASS] * (np.arange(300) < 20)[:, None].astype(np.float32), MultiLabel(5)),
        Status.WARN,
        "right nearly everywhere",
    ),
    "same value": (labelled(np.full(300, 3.5, np.float32), Values()), Status.FAIL, "nothing to learn"),
    "one column the same": (labelled(X * np.array([1, 1, 0, 1], np.float32), Values()), Status.WARN, "columns"),
    "one huge value": (
        labelled(np.where(np.arange(300) == 7, 1e6, X[:, 0]).astype(np.float32), Values()),
        Status.WARN,
        "Huber",
    ),
    "out of the vocabulary": (labelled(TEXT + 1, Tokens(20)), Status.FAIL, "Correct the labels"),
    "mostly padding": (labelled(padded(np.ones(300)), Tokens(20, pad=0)), Status.WARN, "pack"),
    "rows of padding": (labelled(padded(SHORT * (SHORT > 3)), Tokens(20, pad=0)), Status.WARN, "drop them"),
    "padding not declared": (labelled(padded(SHORT), Tokens(20)), Status.WARN, "pad="),
    "vast vocabulary": (labelled(TEXT[:, :10] % 2, Tokens(25)), Status.WARN, "vocabulary"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_labels_that_are_wrong_are_named(run: Run, name: str) -> None:
    task, status, hint = BROKEN[name]
    result = run(labels, task)
    assert result.status is status, (result.headline, result.hint)
    assert hint in result.hint


def test_a_head_is_named(run: Run) -> None:
    task = heads_task()
    x, y = task.train
    result = run(labels, task.replace(train=(x, {**y, "digit": y["digit"] * 0})))
    assert result.status is Status.FAIL
    assert result.headline.startswith("train, digit: all 1438 examples")


def test_the_test_split_is_read_too(run: Run) -> None:
    task = digits_task()
    x, y = task.test
    result = run(labels, task.replace(test=(x, np.full_like(y, 3))))
    assert result.status is Status.FAIL
    assert result.headline.startswith("test: all 359 examples have the same label, 3")


def test_every_label_of_data_that_are_no_arrays_is_read(run: Run) -> None:
    items = [(row, np.int32(label)) for row, label in zip(X, CLASS, strict=True)]
    items[133] = (X[133], np.int32(7))
    result = run(labels, labelled(CLASS, Classes(5)).replace(train=items))
    assert result.status is Status.FAIL
    assert "1 of 300 labels are out of range" in result.headline
    assert "row 133" in result.headline


def test_missing_values_that_the_loss_masks_are_fine(run: Run) -> None:
    task = multi_label_task().replace(target=Values())
    x, y = task.train
    holes = np.where(np.arange(len(y))[:, None] % 7 == 0, np.nan, y).astype(np.float32)

    def masked(outputs: Any, values: Any) -> Any:
        return jnp.where(jnp.isnan(values), 0.0, jnp.square(outputs - jnp.nan_to_num(values))).mean(axis=1)

    task = task.replace(train=(x, holes), test=None)
    assert run(labels, task.replace(loss=masked)).status is Status.PASS
    result = run(labels, task.replace(loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=1)))
    assert result.status is Status.FAIL
    assert "72 of 500 targets are not finite, first in example 0" in result.headline
    assert "NaN" in result.hint


def test_a_threshold_can_be_moved(run: Run) -> None:
    task = labelled(padded(SHORT), Tokens(20, pad=0))
    assert run(labels, task, padding_warn=0.2).status is Status.WARN


def test_several_findings_are_all_in_the_report(run: Run) -> None:
    task = labelled(padded(SHORT * (SHORT > 9)), Tokens(20, pad=0))
    result = run(labels, task, padding_warn=0.3)
    assert result.headline.endswith("1 more in the report.")
    assert len(result.evidence[0].rows) == 2  # type: ignore[union-attr]
