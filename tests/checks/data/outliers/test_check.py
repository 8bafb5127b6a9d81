"""Examples that stand apart are found by what stands apart in them; data without any pass, and the extremes are shown
all the same."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.data.outliers import outliers
from jaxrecipe.report.evidence import Histogram, Images, Table
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Classes
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


def colors(n: int = 600) -> np.ndarray:
    """Smooth colored images with more red than blue."""
    grid = np.linspace(0, 3, 16)
    phase = RNG.normal(size=(n, 1, 1, 1))
    waves = np.sin(grid[:, None, None] * (1 + RNG.random((n, 1, 1, 1))) + grid[None, :, None] + phase)
    return np.clip(120 + 60 * waves + np.array([30, 0, -30]) + 5 * RNG.normal(size=(n, 16, 16, 3)), 0, 255).astype(
        np.uint8
    )


COLORS = digits_task(train=(colors(), RNG.integers(0, 10, 600).astype(np.int32)), test=None)
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
        COLORS,
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


BROKEN: dict[str, tuple[Task, list[int], str, str, str]] = {
    "black": (
        changed(digits_task(), [7, 900], lambda x: x * 0),
        [7, 900],
        "edges",
        "data/blank-examples",
        "data/blank-examples",
    ),
    "white": (changed(COLORS, [5], lambda x: x * 0 + 255), [5], "edges", "data/blank-examples", "data/blank-examples"),
    "overexposed": (
        changed(digits_task(), [3], lambda x: x // 2 + 9),
        [3],
        "brightness",
        "data/outliers",
        "data/mixed-image-processing",
    ),
    "inverted": (
        changed(digits_task(), list(range(0, 60, 2)), lambda x: 16 - x),
        list(range(0, 60, 2)),
        "brightness",
        "data/outliers",
        "data/mixed-image-processing",
    ),
    "noise": (changed(COLORS, [11], noise), [11], "edges", "data/outliers", "data/garbled-images"),
    "gray": (
        changed(COLORS, [9], lambda x: x.mean(axis=-1, keepdims=True).repeat(3, -1).astype(np.uint8)),
        [9],
        "color",
        "data/outliers",
        "data/mixed-colors",
    ),
    "swapped colors": (
        changed(COLORS, [4, 5], lambda x: x[..., ::-1]),
        [4, 5],
        "red over blue",
        "data/outliers",
        "data/mixed-colors",
    ),
    "another unit": (changed(TABLE, [77], lambda x: x * 1000), [77], "norm", "data/outliers", "data/wrong-unit"),
    "a digit too many": (
        changed(TABLE, [77], first_value),
        [77],
        "largest deviation",
        "data/outliers",
        "data/wrong-unit",
    ),
    "a label": (
        TABLE.replace(
            train=(TABLE.train[0], np.where(np.arange(500)[:, None] == 8, 100, TABLE.train[1]).astype(np.float32))
        ),
        [8],
        "value",
        "data/target-outliers",
        "data/target-outliers",
    ),
    "an empty text": (changed(TEXTS, [30], lambda x: x * 0), [30], "length", "data/empty-rows", "data/empty-rows"),
    "one word": (
        changed(TEXTS, [31], lambda x: x * 0 + 7),
        [31],
        "commonest token",
        "data/outliers",
        "data/repeated-tokens",
    ),
    "a dead sensor": (
        changed(regression_task().replace(train=(SERIES, TABLE.train[1]), test=None), [5], lambda x: x * 0),
        [5],
        "roughness",
        "data/outliers",
        "data/failed-sensor",
    ),
    "a full mask": (
        SEGMENTED.replace(train=(SEGMENTED.train[0], np.where((np.arange(400) == 6)[:, None, None], 1, MASKS))),
        [6],
        "size of the label",
        "data/outliers",
        "data/wrong-masks",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_stands_apart_is_found_and_named(run: Run, name: str) -> None:
    task, rows, attribute, code, cause = BROKEN[name]
    result = run(outliers, task.replace(test=None))
    assert result.status is Status.WARN
    table = next(e for e in result.evidence if isinstance(e, Table) and e.title == "The most extreme examples")
    assert table.rows[0][1] in rows
    found = [(one.code, one.causes[0].code, one.measures[0].name) for one in result.findings]
    assert any((one, first) == (code, cause) and attribute in measure for one, first, measure in found), found


def test_the_extremes_are_shown_even_where_nothing_stands_apart(run: Run) -> None:
    task = digits_task()
    result = run(outliers, task)
    images = next(e for e in result.evidence if isinstance(e, Images))
    assert 4 <= len(images.images) <= 24
    brightest = int(task.train[0].reshape(1438, -1).mean(axis=1).argmax())
    assert any(caption.startswith(f"{brightest}: ") for caption in images.captions)
    assert any(isinstance(e, Histogram) for e in result.evidence)


def test_nothing_but_missing_numbers_is_no_crash(run: Run) -> None:
    x = np.full((60, 3), np.nan, np.float32)
    result = run(outliers, regression_task().replace(train=(x, TABLE.train[1][:60]), test=None))
    assert result.status is not Status.CRASHED, result.evidence


def test_thresholds_can_be_moved(run: Run) -> None:
    assert run(outliers, digits_task(), chance=0.9).status is Status.WARN
    black = changed(digits_task(), [7, 900], lambda x: x * 0).replace(test=None)
    far = run(outliers, black, chance=1e-60, blank_warn=0.01)
    assert "data/blank-examples" not in far.codes


@pytest.mark.parametrize(("share", "blank"), [(1.99 / 1438, True), (2.01 / 1438, False)])
def test_both_sides_of_the_share_of_blank_examples(run: Run, share: float, blank: bool) -> None:
    black = changed(digits_task(), [7, 900], lambda x: x * 0).replace(test=None)
    assert ("data/blank-examples" in run(outliers, black, blank_warn=share).codes) is blank


def test_all_that_stands_apart_is_counted_once_and_its_bounds_are_told(run: Run) -> None:
    result = run(outliers, changed(TABLE, [77, 78], lambda x: x * 1000).replace(test=None))
    assert result.measured["train: examples that stand apart"] == 2
    assert len(result.codes) >= 2
    assert all(one.measures[0].verdict is not None for one in result.findings)
