"""Examples that stand apart are found by what stands apart in them; data without any pass, and the extremes are shown all the same."""

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.outliers import outliers
from jaxrecipe.checks.data.outliers.attributes import attributes, bounds, kind_of
from jaxrecipe.data.sources import as_source
from jaxrecipe.report.result import Histogram, Images, Result, Status, Table
from jaxrecipe.targets import Classes, Tokens, Unspecified, Values
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, regression_task

Run = Callable[..., Result]
RNG = np.random.default_rng(2)


def changed(task: Task, rows: list[int], change: Callable[[np.ndarray], np.ndarray]) -> Task:
    """Something done to the inputs of a few training examples."""
    x, y = task.train
    x = x.copy()
    x[rows] = change(x[rows])
    return task.replace(train=(x, y))


def colours(n: int = 600) -> np.ndarray:
    """Smooth coloured pictures with more red than blue."""
    grid = np.linspace(0, 3, 16)
    phase = RNG.normal(size=(n, 1, 1, 1))
    waves = np.sin(grid[:, None, None] * (1 + RNG.random((n, 1, 1, 1))) + grid[None, :, None] + phase)
    return np.clip(120 + 60 * waves + np.array([30, 0, -30]) + 5 * RNG.normal(size=(n, 16, 16, 3)), 0, 255).astype(
        np.uint8
    )


COLOURS = digits_task(train=(colours(), RNG.integers(0, 10, 600).astype(np.int32)), test=None)
LENGTHS = RNG.integers(15, 50, 500)
TEXT = np.where(np.arange(64) < LENGTHS[:, None], RNG.integers(1, 1000, (500, 64)), 0).astype(np.int32)
TEXTS = digits_task(train=(TEXT, RNG.integers(0, 2, 500).astype(np.int32)), test=None, prepare=None, target=Classes(2))
SERIES = np.cumsum(RNG.normal(size=(500, 30, 2)), axis=1).astype(np.float32)
TABLE = regression_task()
MASKS = (RNG.random((400, 12, 12)) < RNG.uniform(0.3, 0.5, (400, 1, 1))).astype(np.int32)
SEGMENTED = digits_task(
    train=(RNG.normal(size=(400, 12, 12, 1)).astype(np.float32), MASKS), test=None, target=Classes(2)
)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_data_pass(run: Run, name: str, seed: int) -> None:
    result = run(outliers, HEALTHY[name](seed))
    assert result.status is Status.PASS, result.headline


@pytest.mark.parametrize(
    "task",
    [
        COLOURS,
        TEXTS,
        SEGMENTED,
        regression_task().replace(train=(np.exp(RNG.normal(size=(500, 8))).astype(np.float32), TABLE.train[1])),
        regression_task().replace(train=((RNG.random((500, 8)) < 0.01).astype(np.float32), TABLE.train[1])),
        regression_task().replace(train=(RNG.poisson(0.3, (500, 40)).astype(np.float32), TABLE.train[1])),
        regression_task().replace(train=(SERIES, TABLE.train[1])),
        regression_task().replace(train=(TABLE.train[0][:20], TABLE.train[1][:20])),
    ],
)
def test_data_as_people_have_them_pass(run: Run, task: Task) -> None:
    result = run(outliers, task.replace(test=None))
    assert result.status is Status.PASS, result.headline


def first_value(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[:, :1] * 0 + 1000, x[:, 1:]], axis=1)


def noise(x: np.ndarray) -> np.ndarray:
    return RNG.integers(0, 256, size=x.shape).astype(x.dtype)


BROKEN: dict[str, tuple[Task, list[int], str, str]] = {
    "black": (changed(digits_task(), [7, 900], lambda x: x * 0), [7, 900], "one colour", "could not be read"),
    "white": (changed(COLOURS, [5], lambda x: x * 0 + 255), [5], "one colour", "could not be read"),
    "overexposed": (changed(digits_task(), [3], lambda x: x // 2 + 9), [3], "brightness", "overexposed"),
    "inverted": (
        changed(digits_task(), list(range(0, 60, 2)), lambda x: 16 - x),
        list(range(0, 60, 2)),
        "brightness",
        "inverted",
    ),
    "noise": (changed(COLOURS, [11], noise), [11], "edges", "strides"),
    "grey": (
        changed(COLOURS, [9], lambda x: x.mean(axis=-1, keepdims=True).repeat(3, -1).astype(np.uint8)),
        [9],
        "colour",
        "grey",
    ),
    "swapped colours": (changed(COLOURS, [4, 5], lambda x: x[..., ::-1]), [4, 5], "red over blue", "BGR"),
    "another unit": (changed(TABLE, [77], lambda x: x * 1000), [77], "norm", "another unit"),
    "a digit too many": (changed(TABLE, [77], first_value), [77], "largest deviation", "decimal point"),
    "a label": (
        TABLE.replace(
            train=(TABLE.train[0], np.where(np.arange(500)[:, None] == 8, 100, TABLE.train[1]).astype(np.float32))
        ),
        [8],
        "target: value",
        "typed wrongly",
    ),
    "an empty text": (changed(TEXTS, [30], lambda x: x * 0), [30], "texts are empty", "leaves nothing"),
    "one word": (changed(TEXTS, [31], lambda x: x * 0 + 7), [31], "commonest token", "again and again"),
    "a dead sensor": (
        changed(regression_task().replace(train=(SERIES, TABLE.train[1]), test=None), [5], lambda x: x * 0),
        [5],
        "roughness",
        "sensor",
    ),
    "a full mask": (
        SEGMENTED.replace(train=(SEGMENTED.train[0], np.where((np.arange(400) == 6)[:, None, None], 1, MASKS))),
        [6],
        "size of the label",
        "inverted",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_stands_apart_is_found_and_named(run: Run, name: str) -> None:
    task, rows, attribute, hint = BROKEN[name]
    result = run(outliers, task.replace(test=None))
    assert result.status is Status.WARN, result.headline
    table = next(e for e in result.evidence if isinstance(e, Table) and e.title == "The most extreme examples")
    assert table.rows[0][1] in rows
    told = [(result.headline, result.hint)]
    if isinstance(result.evidence[0], Table) and result.evidence[0].title == "Everything found":
        told = [(str(row[1]), str(row[2])) for row in result.evidence[0].rows]
    assert any(attribute in text and hint in advice for text, advice in told), told
    assert any(re.search(rf"(first|examples) .*\b({'|'.join(map(str, rows))})\b", text) for text, _ in told)


def test_the_extremes_are_shown_even_where_nothing_is_odd(run: Run) -> None:
    task = digits_task()
    result = run(outliers, task)
    pictures = next(e for e in result.evidence if isinstance(e, Images))
    assert 4 <= len(pictures.images) <= 24
    brightest = int(task.train[0].reshape(1438, -1).mean(axis=1).argmax())
    assert any(caption.startswith(f"{brightest}: ") for caption in pictures.captions)
    assert any(isinstance(e, Histogram) for e in result.evidence)


def test_nothing_but_missing_numbers_is_no_crash(run: Run) -> None:
    x = np.full((60, 3), np.nan, np.float32)
    result = run(outliers, regression_task().replace(train=(x, TABLE.train[1][:60]), test=None))
    assert result.status is not Status.CRASHED, result.evidence


def test_thresholds_can_be_moved(run: Run) -> None:
    assert run(outliers, digits_task(), chance=0.9).status is Status.WARN
    black = changed(digits_task(), [7, 900], lambda x: x * 0).replace(test=None)
    far = run(outliers, black, chance=1e-60, blank_warn=0.01)
    assert "one colour" not in far.headline


# The attributes themselves, against loops.


def attribute(x: Any, y: Any, target: Any, name: str) -> np.ndarray:
    source = as_source((x, y))
    return attributes(source, target, np.arange(source.size))[name]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_attributes_of_pictures_are_those_of_a_loop(dtype: Any) -> None:
    x = colours(5).astype(dtype)
    y = np.zeros(5, np.int32)
    for name, one in {
        "brightness": lambda p: p.mean(),
        "contrast": lambda p: p.std(),
        "edges": lambda p: (np.abs(p[1:] - p[:-1]).mean() + np.abs(p[:, 1:] - p[:, :-1]).mean()) / 2,
        "colour": lambda p: np.mean([max(v) - min(v) for row in p for v in row]),
        "red over blue": lambda p: np.mean([v[0] - v[2] for row in p for v in row]),
    }.items():
        found = attribute(x, y, Classes(2), f"inputs: {name}")
        assert found == pytest.approx([one(p) for p in x.astype(np.float64)], rel=1e-4), name


def test_attributes_of_text_are_those_of_a_loop() -> None:
    y = np.zeros(500, np.int32)
    small = TEXT % 9
    for row, length, different, commonest in zip(
        small,
        attribute(small, y, Classes(2), "inputs: length"),
        attribute(small, y, Classes(2), "inputs: different tokens"),
        attribute(small, y, Classes(2), "inputs: commonest token"),
        strict=True,
    ):
        words = [int(word) for word in row if word != 0]
        assert length == len(words)
        assert different == pytest.approx(len(set(words)) / len(words))
        assert commonest == pytest.approx(max(words.count(word) for word in set(words)) / len(words))


def test_attributes_of_tables_targets_and_half_precision() -> None:
    x, y = TABLE.train
    assert attribute(x, y, Values(), "inputs: norm") == pytest.approx(np.linalg.norm(x.astype(np.float64), axis=1))
    deviation = np.abs((x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64))
    assert attribute(x, y, Values(), "inputs: largest deviation") == pytest.approx(deviation.max(axis=1), rel=1e-5)
    assert attribute(x, y, Values(), "target: value") == pytest.approx(y[:, 0])
    holes = np.where(np.arange(8) < np.arange(500)[:, None] % 3, np.nan, x)
    assert attribute(holes, y, Values(), "inputs: missing") == pytest.approx(np.arange(500) % 3 / 8)
    assert attribute(TEXT, TEXT, Tokens(1000, pad=0), "target: length") == pytest.approx(LENGTHS)
    assert attribute(x.astype(jnp.bfloat16), y, Unspecified(), "inputs: norm").dtype == np.float64


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (np.zeros((5, 28, 28, 1), np.uint8), "picture"),
        (np.zeros((5, 28, 28), np.float32), "picture"),
        (np.zeros((5, 30, 20), np.uint8), "picture"),
        (np.zeros((5, 30, 20), np.float32), "series"),
        (np.zeros((5, 64), np.int32), "text"),
        (np.zeros((5, 64), np.uint8), "table"),
        (np.zeros((5, 8), np.int64), "table"),
        (np.zeros((5,), np.float32), "table"),
    ],
)
def test_what_an_input_looks_like(x: np.ndarray, kind: str) -> None:
    assert kind_of(x) == kind


@pytest.mark.parametrize("size", [100, 1400, 30_000])
@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform", "poisson", "two humps"])
def test_bounds_hold_all_of_ordinary_distributions_and_not_what_is_far_out(draw: str, size: int) -> None:
    rng = np.random.default_rng(size)
    drawn = {
        "normal": rng.normal(size=size),
        "exponential": rng.exponential(size=size),
        "uniform": rng.random(size),
        "poisson": rng.poisson(20, size).astype(np.float64),
        "two humps": rng.normal(size=size) + 8 * (rng.random(size) < 0.3),
    }[draw]
    found = bounds(drawn, 1e-6)
    assert found.low < drawn.min()
    assert drawn.max() < found.high
    spread = drawn.std()
    assert found.high < drawn.mean() + 40 * spread
    assert bounds(np.append(drawn, drawn.mean() + 60 * spread), 1e-6).high < drawn.mean() + 60 * spread


def test_a_group_behind_a_gap_is_beyond_the_bounds() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=970), rng.normal(15, 1, size=30)])
    assert (values > bounds(values, 1e-6).high).sum() == 30
    assert bounds(rng.normal(size=40), 1e-6).high == np.inf
