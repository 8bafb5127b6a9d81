"""What output t sees, and whether its target is among it."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_time_dependencies import chart_time_dependencies
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Tokens
from jaxrecipe.task import Task
from tests.zoo import sequences as s
from tests.zoo.healthy import HEALTHY, digits_task

F, P, SKIP = Status.FAIL, Status.PASS, Status.SKIP


def unshifted(**changes: object) -> Task:
    """Inputs and targets are the same tokens."""
    return s.transformer_task(shift=0, **changes)


CASES = {
    "causal": (s.transformer_task, P, ""),
    "zero logits": (lambda: s.transformer_task(model=s.transformer(zero_out=True)), P, ""),
    "padded": (s.padded_task, P, ""),
    "recurrent": (lambda: s.transformer_task(model=s.recurrent()), P, ""),
    "shifted inside the loss": (lambda: unshifted(loss=s.shifting_loss), P, ""),
    "autoencoder": (lambda: unshifted(model=s.transformer(s.everything), causal=False), P, ""),
    "no mask": (lambda: s.transformer_task(model=s.transformer(s.everything)), F, "causal mask is missing"),
    "no mask, not declared": (
        lambda: s.transformer_task(model=s.transformer(s.everything), causal=False),
        F,
        "causal mask is missing",
    ),
    "mask off by one": (lambda: s.transformer_task(model=s.transformer(s.off_by_one)), F, "off by one"),
    "backwards": (lambda: s.transformer_task(model=s.recurrent(backwards=True)), F, "forwards"),
    "not shifted": (unshifted, F, "not shifted"),
    "not shifted, not declared": (lambda: unshifted(causal=False), F, "not shifted"),
    "not shifted, padded": (
        lambda: s.padded_task(loss=lambda o, t: s.padded_loss(o[:, 1:], t[:, :-1])),
        F,
        "not shifted",
    ),
    "shifted twice": (lambda: s.transformer_task(loss=s.shifting_loss), F, "shifted twice"),
    "shifted twice in the data": (lambda: s.transformer_task(shift=2), F, "shifted twice"),
    "no time": (digits_task, SKIP, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, hint = CASES[case]
    result = run(chart_time_dependencies, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint


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
