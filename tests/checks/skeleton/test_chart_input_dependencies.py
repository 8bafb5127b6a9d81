"""What of the inputs and parameters counts, and that padding does not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_input_dependencies import chart_input_dependencies
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Tokens
from jaxrecipe.task import Model, Task
from tests.zoo import sequences as s
from tests.zoo.broken import before_model, with_init
from tests.zoo.healthy import batch_norm_task, digits_task, flat, heads_task, regression_task
from tests.zoo.modes import detached_layer

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def keep(mask: Any) -> Callable[[Any], Any]:
    """Only those features get through."""
    return lambda x: flat(x) * mask.astype(jnp.float32)


def zero_logits(params: Any) -> Any:
    return {**params, "logits": jax.tree.map(jnp.zeros_like, params["logits"])}


def unused_parameter() -> Task:
    task = digits_task()
    model = task.model

    def init(key: Any, inputs: Any) -> Any:
        params, state = model.init(key, inputs)
        return {**params, "unused": jnp.ones(3, jnp.float32)}, state

    return task.replace(model=Model(init, model.apply))


def with_index(task: Task) -> Task:
    """A number of each example rides along and is not used."""
    (x, y), model = task.train, task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, inputs["x"].astype(jnp.float32), train=train, key=key)

    return task.replace(
        model=Model(model.init, apply), train=({"x": x, "index": np.arange(len(x))}, y), test=None, prepare=None
    )


def masked_targets(*, use_mask: bool) -> Task:
    """Values of which some are missing, marked by a mask among the targets."""
    task = regression_task()
    x, y = task.train
    known = np.random.default_rng(0).random(y.shape) < 0.7

    def loss(outputs: Any, targets: Any) -> Any:
        weight = targets["mask"].astype(jnp.float32) if use_mask else 1.0
        return (jnp.square(outputs - targets["y"]) * weight).mean(axis=1)

    return task.replace(train=(x, {"y": y, "mask": known}), test=None, loss=loss)


CASES = {
    "digits": (digits_task, P, ""),
    "heads": (heads_task, P, ""),
    "batch_norm": (batch_norm_task, P, ""),
    "zero logits": (lambda: with_init(digits_task(), zero_logits), P, ""),
    "an argmax has no gradient": (
        lambda: before_model(digits_task(), lambda x: (flat(x) > 0).astype(jnp.float32)),
        P,
        "",
    ),
    "a border of pixels": (lambda: before_model(digits_task(), lambda x: x.at[:, 7].set(0.0)), P, ""),
    "padded": (s.padded_task, P, ""),
    "padded, shifted in the loss": (
        lambda: s.padded_task(loss=lambda logits, tokens: s.padded_loss(logits[:, :-1], tokens[:, 1:])),
        P,
        "",
    ),
    "masked mean": (s.masked_sum_task, P, ""),
    "masked mean, true is padding": (lambda: s.masked_sum_task(polarity=False), P, ""),
    "masked targets": (lambda: masked_targets(use_mask=True), P, ""),
    "an array is ignored": (
        lambda: before_model(heads_task(), lambda x: {**x, "top": jnp.zeros_like(x["top"])}),
        F,
        "top never reaches",
    ),
    "an index is ignored": (lambda: with_index(digits_task()), W, "index never reaches"),
    "one column": (
        lambda: before_model(regression_task(), lambda x: x.at[:, 3].set(0.0)),
        W,
        "Columns 3 of the inputs",
    ),
    "half the columns": (lambda: before_model(regression_task(), keep(jnp.arange(8) < 4)), F, "Columns 4, 5, 6, 7"),
    "one row of pixels": (lambda: before_model(digits_task(), lambda x: x.at[:, 1:].set(0.0)), F, "crop, slice"),
    "padding counts": (lambda: s.padded_task(loss=s.token_loss), F, "padding mask is ignored (targets equal to 0)"),
    "padding counts, not declared": (
        lambda: s.padded_task(loss=s.token_loss, target=Tokens(s.TOKENS)),
        W,
        "looks like padding",
    ),
    "mask ignored": (lambda: s.masked_sum_task(use_mask=False), F, "mask"),
    "mask of the targets ignored": (
        lambda: masked_targets(use_mask=False),
        F,
        "padding mask is ignored (the targets' mask)",
    ),
    "a layer that is not called": (unused_parameter, W, "unused"),
    "a layer that is cut off": (detached_layer, W, "hidden/kernel"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, hint = CASES[case]
    result = run(chart_input_dependencies, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint


def test_the_share_is_what_was_left_out(run: Callable[..., Result]) -> None:
    mask = jnp.asarray(np.random.default_rng(0).random(8) < 0.6)
    result = run(chart_input_dependencies, before_model(regression_task(), keep(mask)))
    assert result.measured["least share of an input's features with influence"] == pytest.approx(float(mask.mean()))


def test_thresholds_move_the_verdict(run: Callable[..., Result]) -> None:
    task = before_model(regression_task(), lambda x: x.at[:, 3].set(0.0))
    assert run(chart_input_dependencies, task, ignored_features=0.1).status is F


def test_declared_frozen_parameters_need_no_gradient(run: Callable[..., Result]) -> None:
    assert run(chart_input_dependencies, unused_parameter().replace(frozen=("unused",))).status is P
