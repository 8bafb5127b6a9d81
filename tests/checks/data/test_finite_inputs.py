"""Inputs that are no measurements are found and told apart; what preparation repairs or a loss masks is no finding."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.data.finite_inputs import finite_inputs
from jaxrecipe.data.datasets import digits
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, flat, language_model_task, linear, mlp_model, regression_task

Run = Callable[..., Result]
RNG = np.random.default_rng(8)
TABLE = RNG.normal(size=(400, 6)).astype(np.float32)
HALF = np.arange(400) % 2 == 0
IMAGES = digits()[0][0][:400]
COLOUR = np.repeat(RNG.integers(0, 256, size=(400, 16, 16, 1)), 3, axis=-1).astype(np.uint8)


def given(x: Any, prepare: Any = None, **changes: Any) -> Task:
    """A regression of which only the inputs matter."""
    leaf = jax.tree.leaves(x)[0]
    y = np.linspace(-1, 1, len(leaf), dtype=np.float32)[:, None]
    model = mlp_model(int(leaf[0].size), 8, 1)
    return regression_task().replace(train=(x, y), test=None, prepare=prepare, **{"model": model, **changes})


def with_column(column: np.ndarray, number: int = 2) -> np.ndarray:
    changed = TABLE.astype(column.dtype if column.dtype == np.float64 else np.float32)
    changed[:, number] = column
    return changed


def scaled(x: Any, y: Any) -> Any:
    return x.astype(jnp.float32) / 16, y


FLOATS = IMAGES.astype(np.float32)
EDGED = np.zeros((400, 40, 40, 1), np.uint8)
EDGED[:, 16:24, 16:24] = IMAGES
COUNTS = (RNG.random((400, 50)) < 0.02).astype(np.float32) * (np.arange(50) > 5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_inputs_pass(run: Run, name: str, seed: int) -> None:
    result = run(finite_inputs, HEALTHY[name](seed))
    assert result.status is Status.PASS, result.headline


@pytest.mark.parametrize(
    "task",
    [
        given(TABLE),
        given(TABLE * np.array([1, 1e3, 1e-3, 1, 1, 1e6], np.float32)),
        given(np.exp(2 * TABLE)),
        given(with_column(np.ones(400))),  # an intercept
        given(with_column(np.where(HALF, 0.0, 1.0).astype(np.float32))),
        given(with_column(np.where(RNG.random(400) < 0.9, 0, 5e4 + 1e3 * RNG.random(400)).astype(np.float32))),
        given(COUNTS),
        given(FLOATS),
        given(EDGED, scaled),
        given(EDGED.reshape(400, -1), scaled),
        given(np.concatenate([COLOUR, np.full_like(COLOUR[..., :1], 255)], axis=-1), scaled),
        given(
            {"x": TABLE, "mask": np.ones((400, 3), bool), "start": np.zeros((400, 2), np.float32)}, model=mlp_model()
        ),
        given(TABLE[:12] * 0),  # too few to say
        given(TABLE.astype(jnp.bfloat16)),
        given(FLOATS / np.maximum(FLOATS.max(axis=(1, 2, 3), keepdims=True), 1)),
        given(IMAGES > 8, lambda x, y: (x.astype(jnp.float32), y)),
    ],
)
def test_inputs_as_people_have_them_pass(run: Run, task: Task) -> None:
    if isinstance(task.train[0], dict):
        base = task.model
        apply = lambda p, s, x, *, train, key: (linear(p["hidden"], jnp.pad(x["x"], ((0, 0), (0, 58))))[:, :1], s)  # noqa: E731
        task = task.replace(model=Model(base.init, apply))
    result = run(finite_inputs, task)
    assert result.status is Status.PASS, result.headline


MIXED = np.where(HALF[:, None, None, None], FLOATS / 16, FLOATS)
BYTES = np.where(HALF[:, None, None, None], COLOUR / np.float32(255), COLOUR).astype(np.float32)
STAMPS = 1.7e9 + np.arange(400)
BROKEN: dict[str, tuple[Task, Status, str]] = {
    "not a number": (given(with_column(np.where(np.arange(400) == 9, np.nan, 1))), Status.FAIL, "data/not-finite"),
    "infinite": (given(with_column(np.where(np.arange(400) == 9, np.inf, 1))), Status.FAIL, "data/not-finite"),
    "made by prepare": (
        given(np.where(np.arange(400)[:, None] == 7, 0, TABLE), lambda x, y: (x / x.std(axis=1, keepdims=True), y)),
        Status.FAIL,
        "data/not-finite-after-prepare",
    ),
    "uninitialised": (given(with_column(np.where(np.arange(400) == 9, 1e30, 1))), Status.FAIL, "data/huge-values"),
    "code": (
        given(with_column(np.where(np.arange(400) % 9 == 0, -999, TABLE[:, 2]))),
        Status.FAIL,
        "data/missing-value-code",
    ),
    "code of nines": (given(with_column(np.where(HALF, 9999, TABLE[:, 2]))), Status.FAIL, "data/missing-value-code"),
    "code among large numbers": (
        given(with_column(np.where(np.arange(400) % 9 == 0, -999, 1e5 * RNG.random(400)))),
        Status.WARN,
        "data/missing-value-code",
    ),
    "other code": (
        given(with_column(np.where(np.arange(400) % 9 == 0, 777, TABLE[:, 2]))),
        Status.WARN,
        "data/missing-value-code",
    ),
    "code in pictures": (
        given(np.where((np.arange(400) % 50 == 0)[:, None, None, None], np.float32(-999), FLOATS)),
        Status.FAIL,
        "data/missing-value-code",
    ),
    "two scales": (given(MIXED), Status.FAIL, "data/mixed-scale"),
    "two scales of bytes": (given(BYTES), Status.FAIL, "data/mixed-scale"),
    "a tenth on another scale": (
        given(np.where(np.arange(400)[:, None] % 10 == 0, TABLE * 1000, TABLE + 9)),
        Status.WARN,
        "data/mixed-scale",
    ),
    "all the same": (given(np.broadcast_to(TABLE[:1], TABLE.shape).copy()), Status.FAIL, "data/constant-inputs"),
    "all zero": (given(TABLE * 0), Status.FAIL, "data/constant-inputs"),
    "blanked by prepare": (given(TABLE, lambda x, y: (x * 0, y)), Status.FAIL, "data/constant-inputs"),
    "a lost column": (given(with_column(np.full(400, 3.0))), Status.WARN, "data/constant-feature"),
    "a zero column": (given(with_column(np.zeros(400))), Status.WARN, "data/constant-feature"),
    "a lost channel": (given(COLOUR * np.array([1, 0, 1], np.uint8), scaled), Status.WARN, "data/constant-feature"),
    "ids of 64 bits": (given(RNG.integers(2**40, 2**50, size=(400, 6))), Status.FAIL, "data/integers-overflow"),
    "time stamps": (given(with_column(STAMPS)), Status.WARN, "data/rounded-away"),
    "signed bytes": (given(COLOUR.view(np.int8), scaled), Status.WARN, "data/bytes-read-as-signed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_inputs_that_are_wrong_are_named(run: Run, name: str) -> None:
    task, status, code = BROKEN[name]
    result = run(finite_inputs, task)
    assert result.status is status, (result.headline, result.hint)
    assert result.codes[0] == code


REPAIRED: dict[str, Task] = {
    "holes filled": given(
        with_column(np.where(HALF, np.nan, TABLE[:, 2])), lambda x, y: (jnp.nan_to_num(x, nan=0.0), y)
    ),
    "codes replaced": given(
        with_column(np.where(HALF, -999, TABLE[:, 2])), lambda x, y: (jnp.where(x == -999, 0.0, x), y)
    ),
    "each scaled by itself": given(MIXED, lambda x, y: (x / x.max(axis=(1, 2, 3), keepdims=True), y)),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_preparation_repairs_is_no_finding(run: Run, name: str) -> None:
    result = run(finite_inputs, REPAIRED[name])
    assert result.status is Status.PASS, result.headline


def test_what_the_model_masks_is_no_finding(run: Run) -> None:
    task = given(with_column(np.where(HALF, np.nan, TABLE[:, 2])))
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, jnp.where(jnp.isnan(inputs), 0.0, inputs), train=train, key=key)

    result = run(finite_inputs, task.replace(model=Model(model.init, apply)))
    assert result.status is Status.PASS
    assert result.measured["examples stored with NaN or infinity"] == 200


def test_every_example_of_data_that_are_no_arrays_is_read(run: Run) -> None:
    items = [(row, np.float32([0.5])) for row in TABLE]
    items[133] = (np.full(6, np.nan, np.float32), np.float32([0.5]))
    result = run(finite_inputs, given(TABLE).replace(train=items))
    assert result.status is Status.FAIL
    assert result.measured["train: examples that reach the model with NaN or infinity"] == 1


def test_the_test_split_is_read_too(run: Run) -> None:
    task = regression_task()
    x, y = task.test
    result = run(finite_inputs, task.replace(test=(np.where(np.arange(len(x))[:, None] == 3, np.nan, x), y)))
    assert result.status is Status.FAIL
    assert result.measured["test: examples that reach the model with NaN or infinity"] == 1


def test_the_table_says_what_a_loop_finds(run: Run) -> None:
    task = digits_task()
    table = run(finite_inputs, task).evidence[0]
    assert isinstance(table, Table)
    x = task.train[0]
    constant = sum(len({int(image[i, j, 0]) for image in x}) == 1 for i in range(8) for j in range(8))
    assert table.rows[0][:7] == ("train", "inputs", "uint8", "[8, 8, 1]", 0, 16, 0)
    assert table.rows[0][7] == pytest.approx(constant / 64)


def embedded(rows: int, tokens: np.ndarray) -> Task:
    """A model of tokens whose embedding has a number of rows."""

    def init(key: Any, inputs: Any) -> Any:
        return {"embedding": 0.1 * jax.random.normal(key, (rows, 12), jnp.float32)}, {}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return params["embedding"][inputs], state

    return language_model_task().replace(
        model=Model(init, apply), train=(tokens, np.clip(tokens, 0, 11)), test=None, prepare=None
    )


TOKENS = RNG.integers(0, 12, size=(300, 8)).astype(np.int32)


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (embedded(12, TOKENS), False),
        (embedded(100, TOKENS), False),
        (embedded(10, TOKENS), True),
        (embedded(12, TOKENS - 1), True),
    ],
)
def test_ids_that_the_embedding_does_not_have_are_found(run: Run, task: Task, found: bool) -> None:
    result = run(finite_inputs, task)
    assert (result.status is Status.FAIL) is found, result.headline
    assert ("data/token-outside-embedding" in result.codes) is found


def convolved(x: np.ndarray, kernel: tuple[int, ...], numbers: tuple[str, str, str]) -> Task:
    def init(key: Any, inputs: Any) -> Any:
        return {"kernel": 0.1 * jax.random.normal(key, kernel, jnp.float32)}, {}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        out = jax.lax.conv_general_dilated(inputs, params["kernel"], (1, 1), "SAME", dimension_numbers=numbers)
        return flat(out).mean(axis=1, keepdims=True), state

    return given(x, lambda x, y: (x.astype(jnp.float32) / 255, y)).replace(
        model=Model(init, apply), optimizer=optax.sgd(0.1)
    )


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (convolved(COLOUR, (3, 3, 3, 4), ("NHWC", "HWIO", "NHWC")), False),
        (convolved(np.moveaxis(COLOUR, -1, 1), (4, 3, 3, 3), ("NCHW", "OIHW", "NCHW")), False),
        (convolved(np.moveaxis(COLOUR, -1, 1), (3, 3, 16, 4), ("NHWC", "HWIO", "NHWC")), True),
        (given(np.moveaxis(COLOUR, -1, 1), scaled), False),
    ],
)
def test_channels_first_is_told_only_where_the_model_reads_channels_last(run: Run, task: Task, found: bool) -> None:
    result = run(finite_inputs, task)
    assert (result.status is Status.WARN) is found, result.headline
    assert ("data/channels-first" in result.codes) is found


def test_a_threshold_can_be_moved(run: Run) -> None:
    x = np.where(np.arange(400)[:, None] % 40 == 0, TABLE * 1e4, TABLE + 9)
    assert run(finite_inputs, given(x), mixed=0.01).status is Status.WARN
    assert run(finite_inputs, given(x), mixed=0.1).status is Status.PASS
