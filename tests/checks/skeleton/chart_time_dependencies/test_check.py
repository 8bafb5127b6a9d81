"""What output t sees, and whether its target is among it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_time_dependencies import chart_time_dependencies
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Tokens
from jaxrecipe.task import Task
from tests.zoo import sequences as s
from tests.zoo.healthy import HEALTHY, digits_task

F, P, SKIP = Status.FAIL, Status.PASS, Status.SKIP


def unshifted(**changes: object) -> Task:
    """Inputs and targets are the same tokens."""
    return s.transformer_task(shift=0, **changes)


def backwards_loss(logits: Any, tokens: Any) -> Any:
    """Output t against token t - 1."""
    return s.token_loss(logits[:, 1:], tokens[:, :-1])


def mixed_positions() -> Task:
    """Positions and features are exchanged by a reshape behind the attention."""
    task = s.transformer_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        logits, state = model.apply(params, state, inputs, train=train, key=key)
        batch, time, width = logits.shape
        heads = logits.reshape(batch, time, 2, width // 2).transpose(0, 2, 1, 3)
        return heads.reshape(batch, time, width), state

    return task.replace(model=Model(model.init, apply))


def half_precision() -> Task:
    """A model that computes in bfloat16 whatever the policy says."""
    task = s.transformer_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        with jax.numpy_dtype_promotion("standard"):
            logits, state = model.apply(half, state, inputs, train=train, key=key)
        return logits.astype(jnp.float32), state

    return task.replace(model=Model(model.init, apply))


def in_a_mapping() -> Task:
    """The same fault with targets, outputs and declaration under one name."""
    task = unshifted()
    model, named = task.model, lambda pair: (pair[0], {"next": pair[1]})

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        logits, state = model.apply(params, state, inputs, train=train, key=key)
        return {"next": logits}, state

    return task.replace(
        model=Model(model.init, apply),
        loss=lambda outputs, targets: s.token_loss(outputs["next"], targets["next"]),
        train=named(task.train),
        test=named(task.test),
        target={"next": Tokens(s.TOKENS)},
    )


CASES = {
    "causal": (s.transformer_task, P, ""),
    "zero logits": (lambda: s.transformer_task(model=s.transformer(zero_out=True)), P, ""),
    "padded": (s.padded_task, P, ""),
    "recurrent": (lambda: s.transformer_task(model=s.recurrent()), P, ""),
    "shifted inside the loss": (lambda: unshifted(loss=s.shifting_loss), P, ""),
    "autoencoder": (lambda: unshifted(model=s.transformer(s.everything), causal=False), P, ""),
    "no mask": (lambda: s.transformer_task(model=s.transformer(s.everything)), F, "model/causal-mask-missing"),
    "no mask, not declared": (
        lambda: s.transformer_task(model=s.transformer(s.everything), causal=False),
        F,
        "model/causal-mask-missing",
    ),
    "mask off by one": (
        lambda: s.transformer_task(model=s.transformer(s.off_by_one)),
        F,
        "model/causal-mask-off-by-one",
    ),
    "backwards": (lambda: s.transformer_task(model=s.recurrent(backwards=True)), F, "model/causal-mask-missing"),
    "not shifted": (unshifted, F, "loss/target-not-shifted"),
    "not shifted, not declared": (lambda: unshifted(causal=False), F, "loss/target-not-shifted"),
    "not shifted, padded": (
        lambda: s.padded_task(loss=lambda o, t: s.padded_loss(o[:, 1:], t[:, :-1])),
        F,
        "loss/target-not-shifted",
    ),
    "shifted twice": (lambda: s.transformer_task(loss=s.shifting_loss), F, "loss/target-shifted-twice"),
    "shifted twice in the data": (lambda: s.transformer_task(shift=2), F, "loss/target-shifted-twice"),
    "shifted backwards": (lambda: s.transformer_task(shift=0, loss=backwards_loss), F, "loss/target-shifted-backwards"),
    "positions mixed": (mixed_positions, F, "model/positions-mixed"),
    "half precision": (half_precision, P, ""),
    "one target in a mapping": (in_a_mapping, F, "loss/target-not-shifted"),
    "no time": (digits_task, SKIP, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, code = CASES[case]
    result = run(chart_time_dependencies, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes == ((code,) if code else ())
    assert not code or result.findings[0].causes[0].code == code


@pytest.mark.parametrize("seed", [0, 1])
def test_the_small_language_model_is_healthy(run: Callable[..., Result], seed: int) -> None:
    assert run(chart_time_dependencies, HEALTHY["language_model"](seed)).status is P


def test_the_chart_is_the_mask(run: Callable[..., Result]) -> None:
    """Oracle: with one block of attention what an output sees is the mask itself."""
    result = run(chart_time_dependencies, s.transformer_task(model=s.transformer(s.off_by_one)), positions=s.LENGTH)
    np.testing.assert_array_equal(result.evidence[0].values > 0, s.off_by_one(s.LENGTH))
    assert result.measured["outputs that see the future"] == s.LENGTH - 1


def test_repetitive_rows_are_no_leak(run: Callable[..., Result]) -> None:
    """Where every token equals its neighbours the target is visible whatever one does."""
    constant = np.repeat(s.rows()[:, :1], s.LENGTH, axis=1)
    task = s.transformer_task(train=(constant, constant), test=None, target=Tokens(s.TOKENS))
    assert run(chart_time_dependencies, task).status is P


def test_a_leak_and_a_copy_are_both_kept(run: Callable[..., Result]) -> None:
    result = run(chart_time_dependencies, unshifted(model=s.transformer(s.everything)))
    assert set(result.codes) == {"model/causal-mask-missing", "loss/target-not-shifted"}


def test_both_sides_of_the_thresholds(run: Callable[..., Result]) -> None:
    """How irregular a view of the future must be, and how many targets must equal an input."""
    assert run(chart_time_dependencies, mixed_positions(), irregular=0.9).codes[0] == "model/causal-mask-missing"
    noisy = s.transformer_task(shift=0)
    x, y = noisy.train
    other = np.where(np.random.default_rng(0).random(y.shape) < 0.1, (y + 1) % s.TOKENS, y).astype(np.int32)
    noisy = noisy.replace(train=(x, other), test=None)
    assert run(chart_time_dependencies, noisy, match=0.8).codes == ("loss/target-not-shifted",)
    assert run(chart_time_dependencies, noisy, match=0.99).status is P
