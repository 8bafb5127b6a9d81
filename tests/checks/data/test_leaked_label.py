"""Copies of the label among the inputs are found in any form; easy tasks and natural keys are no failures."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.leaked_label import leaked_label
from jaxrecipe.checks.data.leaked_label.single_features import flat, lone_features, place_name
from jaxrecipe.report.result import Matrix, Result, Status, Table
from jaxrecipe.targets import Binary, Classes, Tokens
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, binary_task, digits_task, language_model_task, regression_task

Run = Callable[..., Result]


def both(task: Task, change: Callable[[Any, Any], tuple[Any, Any]]) -> Task:
    return task.replace(train=change(*task.train), test=change(*task.test))


def pixel(code: Callable[[np.ndarray], Any]) -> Task:
    """A corner pixel of each digit that holds a code of the label."""

    def mark(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = x.astype(np.float32)
        x[:, 0, 0, 0] = code(y)
        return x, y

    return both(digits_task(), mark)


def permuted(y: np.ndarray) -> np.ndarray:
    return np.array([3, 9, 1, 0, 7, 2, 8, 5, 4, 6])[y]


def noisy(y: np.ndarray) -> np.ndarray:
    return y + 0.05 * np.random.default_rng(0).normal(size=y.shape)


def one_hot_columns(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x.reshape(len(x), -1), np.eye(10)[y] * 16], axis=1).astype(np.float32), y


def stamped(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mark at the edge of each picture whose place is the label; the pixels under it hold other ink elsewhere."""
    x = x.copy()
    x[np.arange(len(y)), y % 8, 7 * (y // 8), 0] = 16
    return x, y


def sensors() -> Task:
    """Three sensors, each of which answers to one kind of thing, with a spread: the label follows from them, and one needs all."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 800).astype(np.int32)
    x = rng.normal(size=(800, 12)).astype(np.float32)
    x[np.arange(800), y] += 9.0
    return digits_task(target=Classes(3)).replace(train=(x[:600], y[:600]), test=(x[600:], y[600:]), prepare=None)


def as_leaf(x: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    return {"image": x, "index": y * 7 + 2}, y


def one_hot_in_prepare() -> Task:
    def prepare(x: Any, y: Any) -> Any:
        return {"image": x.astype(jnp.float32), "hint": jnp.eye(10, dtype=jnp.float32)[y]}, y

    return digits_task(prepare=prepare)


def column_of_target(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x.copy()
    x[:, 2] = 3.0 * y.reshape(len(y)) - 1.0
    return x, y


def lagged(seed: int = 0) -> Task:
    """The value of today and other numbers; the target is the value of tomorrow, which is nearly the same."""
    rng = np.random.default_rng(seed)
    value = np.cumsum(rng.normal(size=601))
    x = np.concatenate([value[:600, None], rng.normal(size=(600, 5))], axis=1).astype(np.float32)
    y = value[1:, None].astype(np.float32)
    return regression_task().replace(train=(x[:500], y[:500]), test=(x[500:], y[500:]))


def keyed(features: int, *, perfect: int = 1) -> Task:
    """A label that is the sign of one of several numbers; or of any of `perfect` ones that go together."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, features)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.float32)
    x[:, :perfect] = np.abs(x[:, :perfect]) * np.where(y > 0, 1, -1)[:, None]
    return binary_task().replace(train=(x[:600], y[:600]), test=(x[600:], y[600:]))


def blobs() -> Task:
    """Two far clouds: every number tells."""
    rng = np.random.default_rng(0)
    y = (rng.random(800) < 0.5).astype(np.float32)
    x = (rng.normal(size=(800, 8)) + 12 * y[:, None]).astype(np.float32)
    return binary_task().replace(train=(x[:600], y[:600]), test=(x[600:], y[600:]))


def threshold_masks(seed: int = 0) -> Task:
    """Masks that follow from the pixel at their place."""
    task = both(digits_task(target=Classes(3)), lambda x, y: (x, np.digitize(x[..., 0], [5, 11]).astype(np.int32)))
    return task


@pytest.mark.parametrize("make", [*HEALTHY.values(), lambda seed: blobs()])
def test_healthy_inputs_give_nothing_away(run: Run, make: Callable[[int], Task]) -> None:
    result = run(leaked_label, make(0))
    assert result.status in (Status.PASS, Status.SKIP), result.headline


@pytest.mark.parametrize(
    "make", [lagged, threshold_masks, sensors, lambda: keyed(1), lambda: keyed(3), lambda: keyed(8)]
)
def test_what_the_label_follows_from_is_no_failure(run: Run, make: Callable[[], Task]) -> None:
    result = run(leaked_label, make())
    assert result.status in (Status.PASS, Status.WARN), result.headline


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pixel(lambda y: y), "leaks into the inputs"),
        (lambda: pixel(permuted), "leaks into the inputs"),
        (lambda: pixel(noisy), "leaks into the inputs"),
        (lambda: pixel(lambda y: y / 9.0), "leaks into the inputs"),
        (lambda: both(digits_task(prepare=None), one_hot_columns), "one-hot"),
        (lambda: both(digits_task(prepare=None), as_leaf), "leaks into the inputs"),
        (one_hot_in_prepare, "one-hot"),
        (lambda: both(digits_task(), stamped), "marks burnt into pictures"),
        (lambda: both(regression_task(), column_of_target), "leaks into the inputs"),
        (lambda: both(binary_task(), column_of_target), "leaks into the inputs"),
        (lambda: language_model_task().replace(train=(language_model_task().train[0],) * 2), "off by one"),
        (lambda: both(language_model_task(), lambda x, y: (y[:, 1:], y[:, :-1])), "off by one"),
    ],
)
def test_leaks_fail_and_are_named(run: Run, make: Callable[[], Task], words: str) -> None:
    result = run(leaked_label, make())
    assert result.status is Status.FAIL, f"{result.headline} {result.measured}"
    assert words in result.hint


def test_the_number_is_named_and_mapped(run: Run) -> None:
    result = run(leaked_label, pixel(lambda y: y))
    assert result.headline.startswith("inputs[0, 0, 0] alone is wrong in 0.00%")
    table = next(e for e in result.evidence if isinstance(e, Table))
    assert table.rows[0][0] == "inputs[0, 0, 0]"
    heat = next(e for e in result.evidence if isinstance(e, Matrix))
    assert heat.values.shape == (8, 8)
    assert heat.values[0, 0] == pytest.approx(1.0)
    assert heat.values.ravel()[1:].max() < 0.9
    assert "index" in run(leaked_label, both(digits_task(prepare=None), as_leaf)).headline


def test_the_share_between_labels_is_that_of_a_loop() -> None:
    (x, y), _ = digits_task().train, None
    rows = flat({"x": x})
    lone = lone_features(rows, y, classes=True)
    for place in (10, 20, 43):
        column = rows[:, place].astype(np.float64)
        within = sum(np.square(column[y == k] - column[y == k].mean()).sum() for k in range(10))
        assert lone.map[place] == pytest.approx(1 - within / np.square(column - column.mean()).sum(), rel=1e-4)


def test_the_error_of_a_lookup_is_that_of_a_loop() -> None:
    """A number of few values: the likeliest label of each value on one half, judged on the other, each label counting alike."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=400)
    column = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 5, size=400)).astype(np.float32)
    errors = []
    for side in (0, 1):
        named = {}
        for value in range(5):
            rates = [np.mean(column[side::2][labels[side::2] == k] == value) for k in range(3)]
            named[value] = int(np.argmax(rates))
        said = np.array([named[int(value)] for value in column[1 - side :: 2]])
        given = labels[1 - side :: 2]
        errors.append(np.mean([(said[given == k] != k).mean() for k in range(3)]))
    assert lone_features(column[:, None], labels, classes=True).errors[0] == pytest.approx(np.mean(errors))


def test_a_curve_through_a_function_leaves_nothing() -> None:
    x = np.random.default_rng(0).normal(size=2000)
    rows = np.stack([x, np.random.default_rng(1).normal(size=2000)], axis=1).astype(np.float32)
    lone = lone_features(rows, np.exp(x), classes=False)
    assert lone.places[0] == 0
    assert lone.errors[0] < 0.05
    assert lone.errors[1] > 0.95


def test_names_of_places() -> None:
    inputs = {"a": np.zeros((3, 2, 2)), "b": np.zeros(3), "c": np.zeros((3, 4))}
    assert [place_name(inputs, column) for column in (0, 3, 4, 8)] == ["a[0, 0]", "a[1, 1]", "b", "c[3]"]
    with pytest.raises(IndexError):
        place_name(inputs, 9)


def test_tokens_that_are_copied_on_purpose_are_odd_only(run: Run) -> None:
    task = language_model_task()
    copying = task.replace(train=(task.train[0],) * 2, causal=False)
    assert run(leaked_label, copying).status is Status.WARN
    padded = task.replace(
        train=(task.train[0], np.where(task.train[1] > 5, 0, task.train[1])), target=Tokens(12, pad=0)
    )
    assert run(leaked_label, padded).status is Status.PASS


def test_the_thresholds_move_the_verdict(run: Run) -> None:
    task = pixel(lambda y: np.where(np.random.default_rng(1).random(len(y)) < 0.03, 9 - y, y))
    assert run(leaked_label, task).status is Status.PASS
    assert run(leaked_label, task, wrong=0.06, between=0.8).status is Status.FAIL


def test_undeclared_targets_are_skipped(run: Run) -> None:
    assert run(leaked_label, HEALTHY["contrastive"](0)).status is Status.SKIP
    declared = digits_task(target=Binary()).replace(train=(digits_task().train[0][:10], np.ones(10)), test=None)
    assert run(leaked_label, declared).status is Status.SKIP
