"""Each broken set-up is found by the check that should find it, with a hint that names the cause."""

import sys
from collections.abc import Callable

import pytest

from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.overfit_one_batch.explain import UNKNOWN, Cause
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo import broken

F = Status.FAIL

BROKEN = [
    (input_independent_baseline, broken.labels_shuffled, F, "do not belong"),
    (input_independent_baseline, broken.blank_inputs, F, "blank or ignored"),
    (input_independent_baseline, broken.updates_thrown_away, F, "thrown away"),
    (overfit_one_batch, broken.softmax_in_model, F, "Return logits from the model"),
    (overfit_one_batch, broken.softmax_in_loss, F, "Give it the logits"),
    (overfit_one_batch, broken.relu_on_logits, F, "never negative"),
    (overfit_one_batch, broken.learning_rate_tiny, F, "learning rate is too small"),
    (overfit_one_batch, broken.learning_rate_huge, F, "learning rate is too high"),
    (overfit_one_batch, broken.updates_thrown_away, F, "thrown away"),
    (overfit_one_batch, broken.sign_flipped, F, "sign of the loss is flipped"),
    (overfit_one_batch, broken.blank_inputs, F, "same output"),
]


def case(check: Callable[..., Result], make: Callable[[], Task]) -> str:
    return f"{check.__name__}-{getattr(make, '__name__', 'task')}"


@pytest.mark.parametrize(("check", "make", "status", "hint"), BROKEN, ids=[case(c, m) for c, m, _, _ in BROKEN])
def test_broken_set_up_is_found_and_named(
    run: Callable[..., Result], check: Callable[..., Result], make: Callable[[], Task], status: Status, hint: str
) -> None:
    result = run(check, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint, result.hint




def test_a_run_that_stalls_just_short_of_the_lowest_loss_for_no_known_reason_is_only_odd(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(overfit_one_batch, broken.softmax_in_model(), nearly=0.1).status is Status.FAIL
    module = sys.modules[overfit_one_batch.__module__]
    monkeypatch.setattr(module, "cause", lambda *_: Cause(UNKNOWN, known=False))
    assert run(overfit_one_batch, broken.softmax_in_model()).status is Status.FAIL
    result = run(overfit_one_batch, broken.softmax_in_model(), nearly=0.1)
    assert result.status is Status.WARN
    assert "of the gap closed" in result.headline
