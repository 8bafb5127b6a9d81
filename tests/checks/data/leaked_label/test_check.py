"""Copies of the label among the inputs are found in any form; easy tasks and natural keys are no failures."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.leaked_label import leaked_label
from jaxrecipe.report.evidence import Matrix, Table
from jaxrecipe.report.result import Result, Status
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
    """Three sensors, each of which answers to one kind of thing, with a spread: the label follows from them, and one
    needs all."""
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
    assert result.codes in ((), (SUFFICES,)), result.headline


LEAK, SUFFICES = "data/leaked-label", "data/single-feature-suffices"
SAME, BEFORE = "loss/target-not-shifted", "loss/target-shifted-backwards"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: pixel(lambda y: y), LEAK),
        (lambda: pixel(permuted), LEAK),
        (lambda: pixel(noisy), LEAK),
        (lambda: pixel(lambda y: y / 9.0), LEAK),
        (lambda: both(digits_task(prepare=None), one_hot_columns), LEAK),
        (lambda: both(digits_task(prepare=None), as_leaf), LEAK),
        (one_hot_in_prepare, LEAK),
        (lambda: both(digits_task(), stamped), LEAK),
        (lambda: both(regression_task(), column_of_target), LEAK),
        (lambda: both(binary_task(), column_of_target), LEAK),
        (lambda: language_model_task().replace(train=(language_model_task().train[0],) * 2), SAME),
        (lambda: both(language_model_task(), lambda x, y: (y[:, 1:], y[:, :-1])), BEFORE),
    ],
)
def test_leaks_fail_and_are_named(run: Run, make: Callable[[], Task], code: str) -> None:
    result = run(leaked_label, make())
    assert (result.status, result.codes[0]) == (Status.FAIL, code), result.measured
    assert result.findings[0].causes[0].code == code


def test_the_number_is_named_and_mapped(run: Run) -> None:
    result = run(leaked_label, pixel(lambda y: y))
    assert result.measured["error of the best number alone"] == 0
    table = next(e for e in result.evidence if isinstance(e, Table))
    assert table.rows[0][0] == "inputs[0, 0, 0]"
    heat = next(e for e in result.evidence if isinstance(e, Matrix))
    assert heat.values.shape == (8, 8)
    assert heat.values[0, 0] == pytest.approx(1.0)
    assert heat.values.ravel()[1:].max() < 0.9
    of_leaf = run(leaked_label, both(digits_task(prepare=None), as_leaf))
    assert next(e for e in of_leaf.evidence if isinstance(e, Table)).rows[0][0] == "index"


def test_tokens_that_are_copied_on_purpose_are_a_warning_only(run: Run) -> None:
    task = language_model_task()
    copying = task.replace(train=(task.train[0],) * 2, causal=False)
    result = run(leaked_label, copying)
    assert (result.status, result.codes) == (Status.WARN, (SAME,))
    padded = task.replace(
        train=(task.train[0], np.where(task.train[1] > 5, 0, task.train[1])), target=Tokens(12, pad=0)
    )
    assert run(leaked_label, padded).status is Status.PASS


def test_both_sides_of_each_threshold_for_labels(run: Run) -> None:
    task = pixel(lambda y: np.where(np.random.default_rng(1).random(len(y)) < 0.03, 9 - y, y))
    error = run(leaked_label, task).measured["error of the best number alone"]
    assert run(leaked_label, task, wrong=0.99 * error).status is Status.PASS
    assert run(leaked_label, task, wrong=1.01 * error).codes == (LEAK,)
    easy = run(leaked_label, task, wrong=1.01 * error).measured["error of all other numbers together"]
    assert run(leaked_label, task, wrong=1.01 * error, others=max(1.01 * easy, 0.5)).status is Status.PASS


@pytest.mark.parametrize(("few", "code"), [(12, LEAK), (13, SUFFICES)])
def test_both_sides_of_how_few_numbers_are_natural(run: Run, few: int, code: str) -> None:
    def copied(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([x[:, :4, 2, 0], x[:, :7, 4, 0], y[:, None]], axis=1).astype(np.float32), y

    assert run(leaked_label, both(digits_task(prepare=None), copied), few=few).codes == (code,)


@pytest.mark.parametrize(("between", "code"), [(0.6, LEAK), (0.7, SUFFICES)])
def test_both_sides_of_the_variance_between_labels(run: Run, between: float, code: str) -> None:
    """The sign of a normal number has 0.64 of its variance between the labels."""
    assert run(leaked_label, keyed(8), between=between).codes == (code,)


def test_both_sides_of_the_unexplained_variance(run: Run) -> None:
    def noisy_column(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, spread = x.copy(), y.std()
        x[:, 2] = y.reshape(len(y)) + 0.03 * spread * np.random.default_rng(len(y)).normal(size=len(y))
        return x, y

    task = both(regression_task(), noisy_column)
    left = run(leaked_label, task).measured["unexplained variance of the best number alone"]
    assert run(leaked_label, task, unexplained=1.01 * left).codes == (LEAK,)
    assert run(leaked_label, task, unexplained=0.99 * left).codes == (SUFFICES,)
    assert run(leaked_label, task, unexplained=0.0101 * left).codes == (SUFFICES,)
    assert run(leaked_label, task, unexplained=0.0099 * left).status is Status.PASS


def test_heads_in_a_mapping_are_checked_as_alone(run: Run) -> None:
    task = language_model_task()
    tokens = task.train[0]
    mapped = task.replace(
        train=(tokens, {"next": tokens}),
        test=None,
        target={"next": task.target},
        loss=lambda outputs, targets: task.loss(outputs, targets["next"]),
    )
    assert run(leaked_label, mapped).codes == (SAME,)


def test_undeclared_targets_are_skipped(run: Run) -> None:
    assert run(leaked_label, HEALTHY["contrastive"](0)).status is Status.SKIP
    declared = digits_task(target=Binary()).replace(train=(digits_task().train[0][:10], np.ones(10)), test=None)
    assert run(leaked_label, declared).status is Status.SKIP
