"""Real inputs must beat blank ones; and what it is put down to where they do not."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.checks.skeleton.input_independent_baseline.check import HARDLY_AHEAD, _finding, _likely, _shown
from jaxrecipe.checks.skeleton.input_independent_baseline.race import Aftermath, Race
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo import broken
from tests.zoo.healthy import contrastive_task, digits_task, regression_task

Run = Callable[..., Result]


def learning_rate_huge() -> Task:
    return digits_task().replace(optimizer=optax.adam(3.0))


def flat_loss() -> Task:
    return digits_task().replace(loss=lambda logits, labels: jnp.round(0.0 * logits.sum(axis=1)))


BROKEN = [
    (broken.labels_shuffled, "data/labels-shuffled"),
    (broken.blank_inputs, "data/constant-inputs"),
    (broken.updates_thrown_away, "step/updates-thrown-away"),
    (learning_rate_huge, "optimizer/learning-rate-too-high"),
    (flat_loss, "model/no-gradient"),
]


@pytest.mark.parametrize(("make", "code"), BROKEN, ids=[make.__name__ for make, _ in BROKEN])
def test_the_cause_comes_first(run: Run, make: Callable[[], Task], code: str) -> None:
    result = run(input_independent_baseline, make())
    assert result.status is Status.FAIL, result.headline
    assert result.codes == ("data/inputs-do-not-help",)
    assert result.findings[0].causes[0].code == code


def test_a_healthy_set_up_stops_when_the_real_inputs_are_ahead(run: Run) -> None:
    result = run(input_independent_baseline, digits_task())
    assert result.status is Status.PASS
    assert result.measured["lead of the real inputs"] >= 4.0
    assert result.measured["steps"] < 400
    assert result.measured["held-out loss, constant predictor"] == pytest.approx(np.log(10), rel=0.02)


def test_a_lead_that_is_sure_but_small_is_a_warning(run: Run) -> None:
    assert run(input_independent_baseline, digits_task(), margin=2.0, steps=60).status is Status.WARN


def test_too_little_data_is_skipped_with_what_to_declare(run: Run) -> None:
    task = digits_task()
    x, y = task.train
    result = run(input_independent_baseline, task.replace(train=(x[:40], y[:40]), test=None, batch_size=32))
    assert result.status is Status.SKIP
    assert "test=" in result.summary


def test_without_test_data_some_training_data_are_held_back(run: Run) -> None:
    assert run(input_independent_baseline, digits_task().replace(test=None)).status is Status.PASS


def test_a_faint_signal_that_is_soon_memorized_is_no_failure(run: Run) -> None:
    """A fifth of the variance is in the inputs, and the model can memorize the noise of its training examples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 8)).astype(np.float32)
    y = (0.5 * x[:, :1] + rng.normal(size=(700, 1))).astype(np.float32)
    task = regression_task().replace(train=(x[:150], y[:150]), test=(x[150:], y[150:]))
    result = run(input_independent_baseline, task)
    assert result.status in (Status.PASS, Status.WARN), f"{result.headline} {result.hint}"


def lost(**changes: Any) -> Race:
    """A race that the real inputs did not win."""
    given = {"steps": [20], "real": [2.3], "blank": [2.3], "constant": 2.3, "lead": 0.0, "best_lead": 0.0}
    return Race(32, **{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({}, "FAIL", "data/inputs-do-not-help"),
        ({"lead": HARDLY_AHEAD + 0.1, "best_lead": HARDLY_AHEAD + 0.1}, "WARN", "data/inputs-do-not-help"),
        ({"lead": HARDLY_AHEAD, "best_lead": HARDLY_AHEAD}, "FAIL", "data/inputs-do-not-help"),
        ({"lead": 1.9, "best_lead": 3.1}, "WARN", "data/weak-signal"),
        ({"lead": 1.9, "best_lead": 3.0}, "FAIL", "data/inputs-do-not-help"),
        ({"lead": 2.2, "best_lead": 3.1}, "WARN", "data/inputs-do-not-help"),
        ({"real": [float("nan")]}, "FAIL", "optimizer/diverged"),
        ({"real": [2.0], "lead": 1.0}, "WARN", "data/inputs-do-not-help"),  # ahead, by what few examples cannot confirm
        ({"real": [2.2], "lead": 1.0}, "FAIL", "data/inputs-do-not-help"),
    ],
)
def test_both_sides_of_each_limit(changes: dict[str, Any], status: str, code: str) -> None:
    finding = _finding(lost(**changes), 3.0, ())
    assert (finding.severity.value, finding.code) == (status, code)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        (
            {"training_lead": HARDLY_AHEAD},
            "WARN",
        ),  # nor did it learn its training examples
        ({"training_lead": HARDLY_AHEAD + 0.1}, "FAIL"),
        ({"aftermath": "no gradient"}, "FAIL"),
    ],
)
def test_inputs_that_do_not_help_need_a_witness(changes: dict[str, Any], status: str) -> None:
    seen = aftermath(gradient=0.0) if "aftermath" in changes else aftermath()
    assert _finding(lost(**{**changes, "aftermath": seen}), 3.0, ()).severity.value == status


@pytest.mark.parametrize(("code", "targets"), [(Status.PASS, "random"), (Status.PASS, "zero")])
def test_blank_inputs_that_have_no_norm_give_way_to_those_of_others(run: Run, code: Status, targets: str) -> None:
    """Two views are compared by their cosine, which blank inputs do not have."""
    task = contrastive_task()

    def cosine(outputs: Any, _targets: Any) -> Any:
        a, b = (outputs[name] / jnp.linalg.norm(outputs[name], axis=1, keepdims=True) for name in "ab")
        scores = 10.0 * a @ b.T
        return optax.softmax_cross_entropy_with_integer_labels(scores, jnp.arange(scores.shape[0]))

    drawn = np.random.default_rng(0).normal(size=320).astype(np.float32) if targets == "random" else np.zeros(320, "f4")
    result = run(input_independent_baseline, task.replace(loss=cosine, train=(task.train[0], drawn)))
    assert result.status is code, result.headline
    assert np.isfinite(result.measured["held-out loss, shuffled inputs"])


def aftermath(**changes: Any) -> Aftermath:
    """A model that trained and learned nothing."""
    given = {"inputs_differ": True, "outputs_differ": (True, True), "gradient": 1.0, "moved": 0.5, "losses": (2.0, 1.0)}
    given["opens"] = False
    return Aftermath(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"inputs_differ": False}, "data/constant-inputs"),
        ({"gradient": 0.0}, "model/no-gradient"),
        ({"outputs_differ": (False, False)}, "model/input-ignored"),
        ({"outputs_differ": (False, False), "opens": True}, "model/dead-units"),
        ({"outputs_differ": (True, False)}, "optimizer/learning-rate-too-high"),
        ({"moved": 0.0}, "step/updates-thrown-away"),
        ({"moved": 0.0099}, "optimizer/learning-rate-too-low"),
        ({"losses": (2.0, 2.21)}, "optimizer/learning-rate-too-high"),
        ({"losses": (2.0, float("nan"))}, "optimizer/learning-rate-too-high"),
    ],
)
def test_what_training_did_gives_the_cause_away(changes: dict[str, Any], code: str) -> None:
    assert _shown(aftermath(**changes))[0].code == code
    assert _shown(aftermath()) == ()
    assert _shown(aftermath(moved=0.01, losses=(2.0, 2.19))) == ()


def test_what_to_think_of_where_the_model_trained() -> None:
    assert _likely(lost(training_lead=2.1))[0].code == "data/labels-shuffled"
    assert len(_likely(lost(training_lead=1.9))) == 5
    alone = lost()
    alone.batch_size = 1
    assert _likely(alone)[0].code == "optimizer/batch-too-small"
