"""The data checks that look at one example at a time take data of any form that a task can have, and never crash on
it."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.class_balance import class_balance
from jaxrecipe.checks.data.data_order import data_order
from jaxrecipe.checks.data.finite_inputs import finite_inputs
from jaxrecipe.checks.data.labels import labels
from jaxrecipe.checks.data.outliers import outliers
from jaxrecipe.parts import Loop, Model
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Binary, Classes, MultiLabel, Tokens, Unspecified, Values
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task

Run = Callable[..., Result]
CHECKS = (finite_inputs, labels, class_balance, data_order, outliers)
N = 60
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, N).astype(np.int32)
TABLE = RNG.normal(size=(N, 5)).astype(np.float32)
BYTES = RNG.integers(0, 255, (N, 8, 8, 3)).astype(np.uint8)

INPUTS: dict[str, Any] = {
    "one number": TABLE[:, 0],
    "one integer": RNG.integers(0, 9, N),
    "yes and no": TABLE > 0,
    "half": TABLE.astype(np.float16),
    "bfloat16": jnp.asarray(TABLE, jnp.bfloat16),
    "on the device": jnp.asarray(TABLE),
    "complex": (TABLE + 1j).astype(np.complex64),
    "double": TABLE.astype(np.float64),
    "five axes": RNG.normal(size=(N, 2, 3, 4, 5)).astype(np.float32),
    "video": np.stack([BYTES] * 3, axis=1),
    "two channels": BYTES[..., :2],
    "tiny pictures": BYTES[:, :2, :2],
    "series with holes": np.where(RNG.random((N, 12, 2)) < 0.1, np.nan, 1.0).astype(np.float32),
    "all infinite": np.full((N, 3), np.inf, np.float32),
    "bytes of text": RNG.integers(-3, 3, (N, 30)).astype(np.int8),
    "unsigned text": RNG.integers(0, 3, (N, 30)).astype(np.uint64),
    "a tuple": (TABLE, RNG.integers(0, 50, (N, 20))),
    "a tree": {"a": {"b": TABLE}, "c": [RNG.integers(0, 9, N)]},
    "a leaf of no width": {"a": np.zeros((N, 0), np.float32), "b": TABLE},
}
TARGETS: dict[str, tuple[Any, Any]] = {
    "classes": (Y, Classes(3)),
    "none": (None, Unspecified()),
    "binary": (Y == 0, Binary()),
    "binary column": ((Y == 0).astype(np.float16)[:, None], Binary()),
    "multi-label": ((TABLE > 0).astype(np.int8), MultiLabel(5)),
    "doubles": (TABLE[:, 0].astype(np.float64), Values()),
    "bfloat16": (jnp.asarray(TABLE, jnp.bfloat16), Values()),
    "missing": (np.where(Y == 0, np.nan, 1.0).astype(np.float32), Values()),
    "pictures": (BYTES / np.float32(255), Values()),
    "masks": ((BYTES[..., 0] % 3).astype(np.uint8), Classes(3)),
    "tokens": (RNG.integers(0, 9, (N, 7)), Tokens(9)),
    "padded": (np.where(np.arange(7) < RNG.integers(1, 7, (N, 1)), 3, -1), Tokens(9, pad=-1)),
    "heads": ({"a": Y, "b": {"c": TABLE[:, 0]}}, {"a": Classes(3), "b": {"c": Values()}}),
    "undeclared tree": ({"a": Y}, Unspecified()),
    "a head that is not there": ({"a": Y}, {"z": Classes(3)}),
}


def constant_model() -> Model:
    """A model that looks at nothing."""

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return jnp.zeros((jax.tree.leaves(inputs)[0].shape[0], 1), jnp.float32) + params["w"], state

    return Model(lambda key, inputs: ({"w": jnp.zeros(1, jnp.float32)}, {}), apply)


class Items:
    """The same data, read one by one."""

    def __init__(self, arrays: Any) -> None:
        self.arrays = jax.tree.map(np.asarray, arrays)

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.arrays)[0])

    def __getitem__(self, index: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[index], self.arrays)


def made(x: Any, y: Any, target: Any, how: str, size: int) -> Task:
    x, y = jax.tree.map(lambda leaf: leaf[:size], (x, y))
    model = constant_model()

    def handed_out(epoch: int) -> Iterator[Any]:
        order = np.random.default_rng(epoch).permutation(size)
        for start in range(0, size, 7):
            yield jax.tree.map(lambda leaf: np.asarray(leaf)[order[start : start + 7]], (x, y))  # noqa: B023

    loop = Loop(
        init=lambda key: {},
        step=lambda state, inputs, targets, key: (state, {}),
        variables=lambda state: model.init(None, None),
        batches=handed_out,
    )
    return digits_task(
        train=Items((x, y)) if how == "items" else (x, y),
        test=(x, y),
        target=target,
        prepare=None,
        batch_size=8,
        model=model,
        loss=lambda outputs, targets: jnp.square(outputs).mean(axis=1),
        loop=loop if how == "loop" else None,
    )


PAIRS = [(name, "classes") for name in INPUTS] + [("on the device", name) for name in TARGETS]
FEW = [("half", "classes"), ("a tree", "heads"), ("video", "masks"), ("unsigned text", "padded")]
CASES = [(*pair, how, N) for pair in PAIRS for how in ("arrays", "loop")]
CASES += [(*pair, how, size) for pair in FEW for how, size in (("items", N), ("arrays", 2), ("loop", 3))]


@pytest.mark.parametrize(("inputs", "targets", "how", "size"), CASES)
def test_no_form_of_data_crashes_a_check(run: Run, inputs: str, targets: str, how: str, size: int) -> None:
    task = made(INPUTS[inputs], *TARGETS[targets], how, size)
    results = tuple(run(check, task) for check in CHECKS)
    crashed = [(result.name, result.headline) for result in results if result.status is Status.CRASHED]
    assert not crashed
    report = Report(task=task.name, results=results)
    assert len(Report.from_json(report.to_json()).results) == len(CHECKS)
    assert str(report)
