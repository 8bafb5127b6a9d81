"""Which examples a loss depends on, and what makes them mix."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Matrix, Result, Status
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.healthy import HEALTHY, batch_norm_task, digits_task, flat, regression_task, three_parameters_task

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def zero_logits(params: Any) -> Any:
    return {**params, "logits": jax.tree.map(jnp.zeros_like, params["logits"])}


def always_training() -> Task:
    """BatchNorm that normalises with the batch at hand at evaluation too."""
    task = batch_norm_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, inputs, train=True, key=key)

    return task.replace(model=Model(model.init, apply))


def mixed_in_training() -> Task:
    """A batch mean in training mode only, with no state to explain it."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, inputs - inputs.mean(axis=0) if train else inputs, train=train, key=key)

    return task.replace(model=Model(model.init, apply))


def one_hot_selection(x: Any) -> Any:
    """Each example picks itself out of the batch by a product with zeros and a one."""
    return jnp.eye(len(x), dtype=x.dtype) @ flat(x)


def masked(share: float) -> Task:
    """Some examples have no weight in the loss."""
    task = three_parameters_task()
    (x, y), keep = task.train, np.arange(240) % 10 >= 10 * share
    return task.replace(
        train=(x, {"y": y, "keep": keep}),
        test=None,
        loss=lambda outputs, t: jnp.where(t["keep"], jnp.square(outputs - t["y"]), 0.0),
    )


def partly_clipped() -> Task:
    """Every other example's loss is a constant that is not zero."""
    task = three_parameters_task()
    (x, y), flat_loss = task.train, np.arange(240) % 2 == 0
    return task.replace(
        train=(x, {"y": y, "flat": flat_loss}),
        test=None,
        loss=lambda outputs, t: jnp.where(t["flat"], 1.0, jnp.square(outputs - t["y"])),
    )


def half_precision() -> Task:
    """A model that computes in bfloat16 whatever the policy says."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, inputs))
        outputs, state = model.apply(half[0], state, half[1], train=train, key=key)
        return outputs.astype(jnp.float32), state

    return task.replace(model=Model(model.init, apply))


def summed_over_batch(outputs: Any, values: Any) -> Any:
    return jnp.square(outputs - values)[:, 0] + 0.1 * jnp.abs(outputs).mean()


SKIP = Status.SKIP
CASES = {
    "logits that start at zero": (lambda: broken.with_init(digits_task(), zero_logits), P, ""),
    "batch norm": (batch_norm_task, P, ""),
    "declared": (lambda: broken.batch_mean_leak().replace(mixes_examples=True), SKIP, ""),
    "one example": (lambda: digits_task(batch_size=1), SKIP, ""),
    "some without weight": (lambda: masked(0.5), P, ""),
    "half precision": (half_precision, P, ""),
    "zero times NaN": (lambda: broken.before_model(digits_task(), one_hot_selection), W, "model/spreads-nan"),
    "in training only": (mixed_in_training, W, "model/mixes-examples"),
    "batch norm at evaluation": (always_training, F, "model/batch-statistics-at-eval"),
    "reshape": (broken.reshape_for_transpose, F, "model/reshape-for-transpose"),
    "batch mean": (broken.batch_mean_leak, F, "model/normalizes-over-batch"),
    "batch mean in half precision": (
        lambda: broken.before_model(half_precision(), lambda x: x - x.mean(axis=0)),
        F,
        "model/normalizes-over-batch",
    ),
    "softmax in the loss": (broken.batch_softmax, F, "loss/softmax-over-batch"),
    "softmax in the model": (
        lambda: broken.after_model(digits_task(), lambda x: jax.nn.softmax(x, axis=0)),
        F,
        "loss/softmax-over-batch",
    ),
    "broadcasting": (broken.column_against_row, F, "loss/broadcast"),
    "a mean in the loss": (lambda: regression_task().replace(loss=summed_over_batch), F, "loss/mixes-examples"),
    "far away in the batch": (
        lambda: broken.before_model(digits_task(), lambda x: x.at[0].add(0.1 * x[-1])),
        F,
        "model/reshape-for-transpose",
    ),
    "blind": (broken.blind_model, F, "model/input-ignored"),
    "partly blind": (partly_clipped, W, "loss/flat"),
    "tokens reversed": (
        lambda: broken.before_model(HEALTHY["language_model"](0), lambda x: x[::-1]),
        F,
        "model/reshape-for-transpose",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, code = CASES[case]
    result = run(chart_dependencies, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes == ((code,) if code else ())
    if code and case != "in training only":
        assert result.findings[0].causes[0].code == code


def test_all_that_is_found_is_kept(run: Callable[..., Result]) -> None:
    """A model that mixes examples under a loss that is flat for some of them."""
    task = broken.before_model(partly_clipped(), lambda x: x - x.mean(axis=0))
    assert set(run(chart_dependencies, task).codes) == {"model/normalizes-over-batch", "loss/flat"}


def test_the_tolerance_decides_what_counts_as_rounding(run: Callable[..., Result]) -> None:
    """A leak of a millionth, by gradient alone: below what finite values show."""
    task = broken.before_model(three_parameters_task(), lambda x: x + 3e-6 * jnp.roll(x, -1, axis=0))
    assert run(chart_dependencies, task, tolerance=1e-7).measured["mixed pairs in evaluation"] > 0
    assert run(chart_dependencies, task, tolerance=1e-2).measured["mixed pairs in evaluation"] == 0


def test_the_chart_is_the_mixing_matrix(run: Callable[..., Result]) -> None:
    """Oracle: where each example also sees the next one, the chart is an identity and its shift."""
    task = broken.before_model(three_parameters_task(), lambda x: x + jnp.roll(x, -1, axis=0))
    result = run(chart_dependencies, task, examples=8)
    chart = next(one for one in result.evidence if isinstance(one, Matrix))
    np.testing.assert_array_equal(chart.values > 0, np.eye(8, 16) + np.eye(8, 16, 1) > 0)
