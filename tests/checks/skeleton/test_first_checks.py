"""Each broken set-up is found by the check that should find it, with a hint that names the cause."""

import sys
from collections.abc import Callable

import pytest

from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.checks.skeleton.fix_random_seed import fix_random_seed
from jaxrecipe.checks.skeleton.init_well import init_well
from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.checks.skeleton.loss_at_init import loss_at_init
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.overfit_one_batch.explain import UNKNOWN, Cause
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.healthy import binary_task

F, W = Status.FAIL, Status.WARN

BROKEN = [
    (fix_random_seed, broken.unseeded_init, F, "unseeded"),
    (fix_random_seed, broken.unseeded_data, F, "same example for the same index"),
    (fix_random_seed, lambda: broken.dropout_loop(reuse_key=True), F, "fold_in"),
    (loss_at_init, broken.wild_init, F, "last layer starts small"),
    (loss_at_init, broken.inputs_not_scaled, F, "inputs are scaled"),
    (loss_at_init, broken.label_leaked_into_outputs, F, "label among the inputs"),
    (loss_at_init, broken.sign_flipped, F, "sign"),
    (loss_at_init, broken.negative_squared_error, F, "sign"),
    (loss_at_init, broken.squared_error_for_classes, W, "cross entropy"),
    (loss_at_init, broken.logits_into_probability_loss, F, "given logits"),
    (loss_at_init, broken.not_finite_loss, F, "log of a negative"),
    (init_well, broken.mean_not_in_bias, F, "logits/bias"),
    (init_well, broken.wrong_final_bias, W, "logits/bias"),
    (init_well, lambda: binary_task(positives=0.02, prior=False), W, "bias"),
    (init_well, lambda: binary_task(positives=0.1, prior=False), W, "bias"),
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
    (chart_dependencies, broken.reshape_for_transpose, F, "reshape where a transpose"),
    (chart_dependencies, broken.batch_softmax, F, "softmax"),
    (chart_dependencies, broken.batch_mean_leak, F, "axis 0"),
    (chart_dependencies, broken.column_against_row, F, "(N, 1) against (N,)"),
    (chart_dependencies, broken.blind_model, F, "never reaches the loss"),
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


def test_a_loop_that_folds_its_key_by_step_is_healthy(run: Callable[..., Result]) -> None:
    assert run(fix_random_seed, broken.dropout_loop(reuse_key=False)).status is Status.PASS


def test_the_offered_bias_removes_the_cost(run: Callable[..., Result]) -> None:
    """The shift in the evidence, added to the bias, makes the same check pass."""
    task = broken.wrong_final_bias()
    table = run(init_well, task).evidence[0]
    shift = [row[3] for row in table.rows]

    def add(params: dict) -> dict:
        return {
            **params,
            "logits": {**params["logits"], "bias": params["logits"]["bias"] + broken.jnp.asarray(shift, "float32")},
        }

    mended = run(init_well, broken.with_init(task, add))
    assert mended.status is Status.PASS
    assert mended.measured["cost of the bias"] < 0.1


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
