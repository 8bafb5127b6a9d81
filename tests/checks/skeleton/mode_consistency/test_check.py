"""What is for training only is off at evaluation, and what training collects is kept."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.checks.skeleton.mode_consistency import mode_consistency
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo import modes
from tests.zoo.healthy import batch_norm_task, digits_task, dropout_task

F, P = Status.FAIL, Status.PASS


def training_mode_always() -> Task:
    """BatchNorm that uses and moves batch statistics at evaluation too."""
    task = batch_norm_task()
    model = task.model
    return task.replace(model=Model(model.init, lambda *given, train, key: model.apply(*given, train=True, key=key)))


def noisy_at_evaluation(size: float) -> Task:
    task = digits_task()
    model = task.model

    def apply(params: object, state: object, inputs: object, *, train: bool, key: jax.Array) -> tuple[object, object]:
        outputs, state = model.apply(params, state, inputs, train=train, key=key)
        dropped = jnp.where(jax.random.bernoulli(key, 0.5, outputs.shape), outputs, 0.0)
        return outputs + size * dropped, state

    return task.replace(model=Model(model.init, apply))


CASES = {
    "dropout": (dropout_task, P, ""),
    "batch norm": (batch_norm_task, P, ""),
    "a hand-written loop": (lambda: modes.hand_loop(batch_norm_task()), P, ""),
    "predict": (lambda: modes.predict_in_mode(train=False), P, ""),
    "dropout on the outputs": (modes.dropout_on_outputs, F, "model/dropout-on-outputs"),
    "dropout at evaluation": (modes.dropout_at_eval, F, "evaluation/training-mode"),
    "statistics moved at evaluation": (modes.statistics_moved_at_eval, F, "evaluation/state-changed"),
    "batch statistics used and moved": (training_mode_always, F, "model/batch-statistics-at-eval"),
    "statistics thrown away": (
        lambda: modes.hand_loop(batch_norm_task(), keep_statistics=False),
        F,
        "step/statistics-thrown-away",
    ),
    "statistics never move": (modes.statistics_never_move, F, "step/statistics-thrown-away"),
    "predict in training mode": (lambda: modes.predict_in_mode(train=True), F, "evaluation/training-mode"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, code = CASES[case]
    result = run(mode_consistency, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes == ((code,) if code else ())
    assert not code or result.findings[0].causes[0].code == code


def test_both_sides_of_the_tolerance(run: Callable[..., Result]) -> None:
    assert run(mode_consistency, noisy_at_evaluation(1e-3), tolerance=1e-1).status is P
    assert run(mode_consistency, noisy_at_evaluation(1e-3), tolerance=1e-5).status is F


def test_both_sides_of_the_tolerance_of_predict(run: Callable[..., Result]) -> None:
    task = batch_norm_task()

    def predict(state: dict, inputs: jax.Array) -> jax.Array:
        return 1.01 * task.model.apply(state["params"], state["stats"], inputs, train=False, key=None)[0]

    near = modes.hand_loop(task, predict=predict)
    assert run(mode_consistency, near, predict_tolerance=0.05).status is P
    assert run(mode_consistency, near, predict_tolerance=0.005).codes == ("evaluation/other-predictions",)


def test_everything_found_is_kept(run: Callable[..., Result]) -> None:
    """Statistics that evaluation moves, under a step that does not keep them."""
    lost = modes.hand_loop(modes.statistics_moved_at_eval(), keep_statistics=False)
    assert set(run(mode_consistency, lost).codes) == {"evaluation/state-changed", "step/statistics-thrown-away"}
