"""Splits that are scaled, arranged or labelled differently are found and named; mild and natural shifts are not
failures."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.split_shift import split_shift
from jaxrecipe.report.evidence import Matrix
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Classes, Values
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, language_model_task, multi_label_task, regression_task

Run = Callable[..., Result]


def split_changed(task: Task, inputs: Any = lambda x: x, targets: Any = lambda y: y) -> Task:
    """Something done to the inputs or the targets of the test split."""
    x, y = task.test
    return task.replace(test=(inputs(x), targets(y)))


def colors(seed: int = 0, *, same_mean: bool = False) -> Task:
    """Images of 16×16 whose upper part is bluish and whose lower part is greenish, each tinted anew; the label is how
    bright they are."""
    rng = np.random.default_rng(seed)
    tint = np.linspace(0, 1, 16)[:, None, None] * np.array([0.0, 0.2, -0.1]) + np.array([0.4, 0.4, 0.5])
    x = tint + 0.1 * rng.normal(size=(500, 1, 1, 3)) + 0.1 * rng.normal(size=(500, 16, 16, 3))
    y = (x.mean(axis=(1, 2, 3)) > 0.43).astype(np.int32)
    x = np.clip(255 * x, 0, 255).astype(np.uint8)
    base = digits_task(prepare=lambda a, b: (a.astype(jnp.float32) / 255.0, b), target=Classes(2))
    return base.replace(train=(x[:400], y[:400]), test=(x[400:], y[400:]), name="colors")


def table(seed: int = 0, features: int = 6) -> Task:
    """Numbers in their own units."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, features)) * 10.0 ** rng.uniform(-1, 2, size=features) + rng.normal(size=features)
    y = np.tanh(x[:, :1] / x[:, :1].std()) + 0.1 * rng.normal(size=(600, 1))
    data = x.astype(np.float32), y.astype(np.float32)
    return regression_task().replace(
        train=tuple(part[:480] for part in data), test=tuple(part[480:] for part in data), name="table"
    )


def drifting() -> Task:
    """A split by time of a table with a trend in two of six columns: a warning at most."""
    task = table()
    (x, _), (x_test, y_test) = task.train, task.test
    x_test = x_test.copy()
    x_test[:, :2] += 2.0 * x[:, :2].std(axis=0)
    return task.replace(test=(x_test, y_test))


def sorted_by_class() -> Task:
    task = digits_task()
    splits = [(x[np.argsort(y)], np.sort(y)) for x, y in (task.train, task.test)]
    return task.replace(train=splits[0], test=splits[1])


def other_classes() -> Task:
    """Digits up to 7 in training, 8 and 9 (and nothing else) in the test: a hard test, not a wrong one."""
    task = digits_task()
    (x, y), (x_test, y_test) = task.train, task.test
    return task.replace(train=(x[y < 8], y[y < 8]), test=(x_test[y_test >= 8], y_test[y_test >= 8]))


def few_test_examples() -> Task:
    return split_changed(digits_task(), lambda x: x[:30], lambda y: y[:30])


def hard_labels() -> Task:
    """Rare positives that a simple predictor never names."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 6)).astype(np.float32)
    y = (rng.random(800) < 0.05 + 0.1 * (x[:, 0] > 1)).astype(np.int32)
    return digits_task(prepare=None).replace(target=Classes(2), train=(x[:600], y[:600]), test=(x[600:], y[600:]))


PASSING = [*HEALTHY.values(), colors, table, lambda seed: sorted_by_class(), lambda seed: few_test_examples()]
PASSING += [lambda seed: hard_labels()]


@pytest.mark.parametrize("make", PASSING)
def test_random_splits_pass(run: Run, make: Callable[[int], Task]) -> None:
    result = run(split_shift, make(0))
    assert result.status is Status.PASS, f"{result.headline} {result.measured}"


def test_classes_that_training_never_has_are_named(run: Run) -> None:
    result = run(split_shift, other_classes())
    assert result.codes[0] == "data/split-shift"
    assert result.findings[0].causes[0].code == "data/class-missing"


@pytest.mark.parametrize("make", [drifting, other_classes])
def test_natural_shifts_are_no_failures(run: Run, make: Callable[[], Task]) -> None:
    result = run(split_shift, make())
    assert result.status in (Status.PASS, Status.WARN), result.headline


def scaled_already(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32) - 4.9) / 6.0


def swap_two(y: np.ndarray) -> np.ndarray:
    return np.where(y == 3, 5, np.where(y == 5, 3, y)).astype(y.dtype)


SCALED, AXES, MAPPED = (
    "data/split-scaled-differently",
    "data/split-axes-swapped",
    "data/split-labels-mapped-differently",
)
TARGETS, DISAGREE = "data/split-targets-differ", "data/splits-disagree"
SHIFTED = [
    ("test scaled once more", lambda: split_changed(digits_task(), scaled_already), SCALED),
    (
        "train scaled, test not",
        lambda: digits_task(prepare=None).replace(
            train=(scaled_already(digits_task().train[0]), digits_task().train[1])
        ),
        SCALED,
    ),
    ("divided by 255", lambda: split_changed(digits_task(), lambda x: x / np.float32(255)), SCALED),
    ("table not scaled", lambda: split_changed(table(), lambda x: x / x.std(axis=0) / 7), SCALED),
    ("not centered", lambda: split_changed(regression_task(), lambda x: x + np.float32(3)), SCALED),
    ("channels", lambda: split_changed(colors(), lambda x: x[..., ::-1]), AXES),
    ("height and width", lambda: split_changed(colors(), lambda x: x.swapaxes(1, 2)), AXES),
    ("upside down", lambda: split_changed(digits_task(), lambda x: x[:, ::-1]), AXES),
    ("transposed digits", lambda: split_changed(digits_task(), lambda x: x.swapaxes(1, 2)), AXES),
    ("columns reversed", lambda: split_changed(table(), lambda x: x[:, ::-1]), AXES),
    ("columns alike but for the target", lambda: split_changed(regression_task(), lambda x: x[:, ::-1]), AXES),
    ("labels by one", lambda: split_changed(digits_task(), targets=lambda y: (y + 1) % 10), MAPPED),
    ("two labels swapped", lambda: split_changed(digits_task(), targets=swap_two), MAPPED),
    (
        "training labels by one",
        lambda: digits_task().replace(train=(digits_task().train[0], (digits_task().train[1] + 1) % 10)),
        MAPPED,
    ),
    ("one of several labels", lambda: split_changed(multi_label_task(), targets=lambda y: 1 - y), MAPPED),
    ("values not scaled", lambda: split_changed(regression_task(), targets=lambda y: 5 * y + 200), TARGETS),
    ("values of other sign", lambda: split_changed(regression_task(), targets=lambda y: -y), TARGETS),
    (
        "tokens not shifted",
        lambda: language_model_task().replace(test=(language_model_task().test[0],) * 2),
        TARGETS,
    ),
]


@pytest.mark.parametrize(("make", "code"), [case[1:] for case in SHIFTED], ids=[case[0] for case in SHIFTED])
def test_shifted_splits_fail_and_are_named(run: Run, make: Callable[[], Task], code: str) -> None:
    result = run(split_shift, make())
    named = result.findings[0].causes[0].code if result.findings else ""
    assert (result.status, named) == (Status.FAIL, code), f"{result.codes} {result.headline} {result.measured}"


def test_the_shift_of_the_labels_is_shown(run: Run) -> None:
    result = run(split_shift, split_changed(digits_task(), targets=lambda y: (y + 1) % 10))
    assert result.measured["labels that are mapped to other ones"] == 10
    matrix = next(e for e in result.evidence if isinstance(e, Matrix))
    assert np.trace(np.roll(matrix.values, -1, axis=1)) > 0.9 * matrix.values.sum()


def test_two_swapped_labels_are_counted(run: Run) -> None:
    result = run(split_shift, split_changed(digits_task(), targets=swap_two))
    assert result.measured["labels that are mapped to other ones"] == 2


def test_rescaling_that_repairs_nothing_is_no_failure(run: Run) -> None:
    """Louder recordings of other persons, whose labels follow from what scaling does not touch."""
    task = digits_task(prepare=None, target=Classes(2))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 12)).astype(np.float32)
    y = (x[:, :4].sum(axis=1) > 0).astype(np.int32)
    x[600:] *= 3.0
    result = run(split_shift, task.replace(train=(x[:600], y[:600]), test=(x[600:], y[600:])))
    assert result.status is Status.WARN, f"{result.headline} {result.measured}"
    assert SCALED in result.codes


def test_what_prepare_mends_is_no_shift(run: Run) -> None:
    """One split is stored as bytes and the other as numbers up to 1, and `prepare` knows."""
    task = split_changed(digits_task(), lambda x: x / np.float32(16))

    def prepare(x: Any, y: Any) -> Any:
        return (x.astype(jnp.float32) / 16.0 if x.dtype == jnp.uint8 else x), y

    assert run(split_shift, task.replace(prepare=prepare)).status is Status.PASS


def test_shuffled_test_labels_are_a_warning(run: Run) -> None:
    shuffled = split_changed(digits_task(), targets=lambda y: np.random.default_rng(0).permutation(y))
    result = run(split_shift, shuffled)
    assert (result.status, result.codes) == (Status.WARN, ("data/split-shift",))
    assert "data/labels-shuffled" in [cause.code for cause in result.findings[0].causes]


def test_measured_spread_and_shift_are_those_of_a_loop(run: Run) -> None:
    task = split_changed(regression_task(), lambda x: 0.5 * x + 1)
    (x, _), (x_test, _) = task.train, task.test
    shifts = [
        abs(x_test[:, j].mean() - x[:, j].mean()) / np.sqrt((x_test[:, j].var() + x[:, j].var()) / 2) for j in range(8)
    ]
    measured = run(split_shift, task).measured
    assert measured["inputs: shift in standard deviations"] == pytest.approx(np.median(shifts), rel=1e-4)
    assert measured["inputs: ratio of the spreads, test to train"] == pytest.approx(0.5, rel=0.2)


def test_both_sides_of_the_scale(run: Run) -> None:
    task = split_changed(regression_task(), lambda x: 2 * x)
    ratio = run(split_shift, task).measured["inputs: ratio of the spreads, test to train"]
    assert run(split_shift, task, scale_ratio=0.99 * ratio).codes[0] == SCALED
    assert SCALED not in run(split_shift, task, scale_ratio=1.01 * ratio).codes
    assert SCALED not in run(split_shift, task, scale_ratio=1.5, standard_errors=1e3).codes


def test_both_sides_of_the_shift(run: Run) -> None:
    task = split_changed(regression_task(), lambda x: x + np.float32(0.8))
    shift = run(split_shift, task).measured["inputs: shift in standard deviations"]
    assert run(split_shift, task, mean_shift=0.99 * shift).codes[0] == SCALED
    assert SCALED not in run(split_shift, task, mean_shift=1.01 * shift).codes


def test_both_sides_of_the_moments(run: Run) -> None:
    task = split_changed(colors(), lambda x: x[..., ::-1])
    apart = run(split_shift, task).measured["inputs: moments of the splits apart"]
    assert AXES in run(split_shift, task, moments_apart=0.99 * apart).codes
    assert AXES not in run(split_shift, task, moments_apart=1.01 * apart).codes


def test_both_sides_of_telling_apart(run: Run) -> None:
    apart = run(split_shift, drifting()).measured["probability of telling the splits apart"]
    code = "data/split-inputs-differ"
    assert code in run(split_shift, drifting(), distinguishable=0.99 * apart).codes
    assert code not in run(split_shift, drifting(), distinguishable=1.01 * apart).codes


@pytest.mark.parametrize(("factor", "status"), [(5.0, Status.WARN), (20.0, Status.FAIL)])
def test_one_number_may_drift_but_not_by_a_factor_of_ten(run: Run, factor: float, status: Status) -> None:
    task = table(features=1)
    result = run(split_shift, split_changed(task, lambda x: (x - x.mean()) * np.float32(factor) + x.mean()))
    code = "data/drifting-feature" if status is Status.WARN else SCALED
    assert (result.status, result.codes[0]) == (status, code), result.measured


def test_several_heads_and_undeclared_targets(run: Run) -> None:
    task = HEALTHY["heads"](0)
    x, y = task.test
    broken = task.replace(test=(x, {**y, "digit": (y["digit"] + 1) % 10}))
    result = run(split_shift, broken)
    assert result.status is Status.FAIL
    assert result.findings[0].measures[0].name.startswith("digit: ")
    undeclared = run(split_shift, HEALTHY["contrastive"](0))
    assert undeclared.status is Status.PASS


def test_segmentation(run: Run) -> None:
    """A mask of three classes; in one split the classes are numbered in another way."""
    (x, _), (x_test, _) = digits_task().train, digits_task().test
    masks = [np.digitize(images[..., 0], [5, 11]).astype(np.int32) for images in (x, x_test)]
    task = digits_task(target=Classes(3)).replace(train=(x, masks[0]), test=(x_test, masks[1]))
    assert run(split_shift, task).status is Status.PASS
    result = run(split_shift, task.replace(test=(x_test, (masks[1] + 1) % 3)))
    assert result.status is Status.FAIL, result.headline
    assert result.codes[0] == MAPPED


def test_skips(run: Run) -> None:
    assert run(split_shift, digits_task(test=None)).status is Status.SKIP


@pytest.mark.parametrize(("size", "skipped"), [(19, True), (20, False)])
def test_both_sides_of_too_few_examples(run: Run, size: int, skipped: bool) -> None:
    result = run(split_shift, split_changed(digits_task(), lambda x: x[:size], lambda y: y[:size]))
    assert (result.status is Status.SKIP) is skipped


def test_values_declared_for_dense_targets_are_left_alone(run: Run) -> None:
    task = HEALTHY["autoencoder"](0)
    assert isinstance(task.target, Values)
    assert run(split_shift, task).status is Status.PASS


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_broken_and_constant_numbers_are_another_question(run: Run, bad: float) -> None:
    rng = np.random.default_rng(0)
    task = regression_task()
    x, y = task.train
    holes = np.where(rng.random(x.shape) < 0.02, np.float32(bad), x)
    gaps = np.where(rng.random(y.shape) < 0.02, np.float32(np.nan), y)
    assert run(split_shift, task.replace(train=(holes, gaps))).status is not Status.CRASHED
    constant = task.replace(train=(np.ones_like(x), y), test=(np.ones_like(task.test[0]), task.test[1]))
    assert run(split_shift, constant).status is Status.PASS


def test_many_labels_and_long_rows_of_tokens(run: Run) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 8)).astype(np.float32), rng.integers(0, 900, size=3000).astype(np.int32)
    task = digits_task(prepare=None, target=Classes(900)).replace(train=(x[:2400], y[:2400]), test=(x[2400:], y[2400:]))
    assert run(split_shift, task).status is Status.PASS
