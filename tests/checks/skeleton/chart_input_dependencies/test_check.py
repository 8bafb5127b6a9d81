"""What of the inputs and parameters counts, and that padding does not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_input_dependencies import chart_input_dependencies
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Tokens
from jaxrecipe.task import Task
from tests.zoo import sequences as s
from tests.zoo.broken import before_model, with_init
from tests.zoo.healthy import (
    batch_norm_task,
    dense,
    digits_task,
    flat,
    heads_task,
    linear,
    regression_task,
    stateless,
    three_parameters_task,
)
from tests.zoo.modes import detached_layer

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def keep(mask: Any) -> Callable[[Any], Any]:
    """Only those features get through."""
    return lambda x: flat(x) * mask.astype(jnp.float32)


def zero_logits(params: Any) -> Any:
    return {**params, "logits": jax.tree.map(jnp.zeros_like, params["logits"])}


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
        "model/input-ignored",
    ),
    "an index is ignored": (lambda: with_index(digits_task()), W, "model/input-ignored"),
    "one column": (
        lambda: before_model(regression_task(), lambda x: x.at[:, 3].set(0.0)),
        W,
        "model/input-partly-ignored",
    ),
    "half the columns": (
        lambda: before_model(regression_task(), keep(jnp.arange(8) < 4)),
        F,
        "model/input-partly-ignored",
    ),
    "one row of pixels": (
        lambda: before_model(digits_task(), lambda x: x.at[:, 1:].set(0.0)),
        F,
        "model/input-partly-ignored",
    ),
    "padding counts": (lambda: s.padded_task(loss=s.token_loss), F, "loss/padding-counted"),
    "padding counts, not declared": (
        lambda: s.padded_task(loss=s.token_loss, target=Tokens(s.TOKENS)),
        W,
        "data/padding-undeclared",
    ),
    "mask ignored": (lambda: s.masked_sum_task(use_mask=False), F, "model/padding-seen"),
    "mask of the targets ignored": (
        lambda: masked_targets(use_mask=False),
        F,
        "loss/padding-counted",
    ),
    "parameters without gradient are the affair of updates": (detached_layer, P, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, code = CASES[case]
    result = run(chart_input_dependencies, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes == ((code,) if code else ())


def test_the_share_is_what_was_left_out(run: Callable[..., Result]) -> None:
    mask = jnp.asarray(np.random.default_rng(0).random(8) < 0.6)
    result = run(chart_input_dependencies, before_model(regression_task(), keep(mask)))
    assert result.measured["the inputs: share with influence"] == pytest.approx(float(mask.mean()))
    assert result.measured["the inputs: share of features ignored"] == pytest.approx(1 - float(mask.mean()))


def test_thresholds_move_the_verdict(run: Callable[..., Result]) -> None:
    task = before_model(regression_task(), lambda x: x.at[:, 3].set(0.0))
    assert run(chart_input_dependencies, task, ignored_features=0.1).status is F


def lines_cut_off(lines: int) -> Task:
    """Pictures of which the model sees the first rows only."""
    return before_model(digits_task(), lambda x: x.at[:, 8 - lines :].set(0.0))


@pytest.mark.parametrize(
    ("thresholds", "status"),
    [
        ({"ignored_pixels_warn": 0.9}, P),
        ({"ignored_pixels_warn": 0.1}, W),
        ({"ignored_pixels": 0.3}, F),
        ({"ignored_pixels": 0.7}, W),
    ],
)
def test_both_sides_of_the_thresholds_of_pixels(run: Callable[..., Result], thresholds: Any, status: Status) -> None:
    assert run(chart_input_dependencies, lines_cut_off(4), **thresholds).status is status


@pytest.mark.parametrize(
    ("thresholds", "status"),
    [({"ignored_channels_warn": 0.6}, P), ({"ignored_channels_warn": 0.4}, W), ({"ignored_channels": 0.4}, F)],
)
def test_both_sides_of_the_thresholds_of_channels(run: Callable[..., Result], thresholds: Any, status: Status) -> None:
    """Features along time, half of which never reach the outputs."""
    mask = jnp.asarray([1.0, 0.0, 1.0, 0.0])
    task = before_model(s.masked_sum_task(), lambda inputs: {**inputs, "x": inputs["x"] * mask})
    others = {"ignored_pixels_warn": 1.0, "ignored_channels": 0.9}
    assert run(chart_input_dependencies, task, **(others | thresholds)).status is status


def test_everything_found_is_kept(run: Callable[..., Result]) -> None:
    """An array that is ignored beside another of which half is."""
    blind = lambda x: {"top": x["top"].at[:, :16].set(0.0), "bottom": jnp.zeros_like(x["bottom"])}  # noqa: E731
    result = run(chart_input_dependencies, before_model(heads_task(), blind))
    assert set(result.codes) == {"model/input-ignored", "model/input-partly-ignored"}


def equal_tokens() -> Task:
    """Integers of which only equalities count, as segment ids."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, size=(240, 6)).astype(np.int32)
    equal = (ids[:, :, None] == ids[:, None, :]).sum(axis=(1, 2)).astype(np.float32)

    def forward(params: Any, inputs: Any) -> Any:
        same = (inputs[:, :, None] == inputs[:, None, :]).astype(jnp.float32).sum(axis=(1, 2))
        return linear(params, same[:, None])[:, 0]

    model = stateless(lambda key: dense(key, 1, 1), forward)
    return three_parameters_task().replace(model=model, train=(ids, equal), test=None)


def test_equalities_between_integers_are_seen(run: Callable[..., Result]) -> None:
    assert run(chart_input_dependencies, equal_tokens(), parts=1).status is P
