"""What a few steps say about every parameter."""

from collections.abc import Callable
from typing import Any

import jax
import optax
import pytest

from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.task import Task
from tests.zoo import modes
from tests.zoo.broken import learning_rate_huge, learning_rate_tiny, with_init
from tests.zoo.healthy import digits_task, linear, mlp_model, regression_task, stateless, three_parameters_task

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def zero_init() -> Task:
    return with_init(digits_task(), lambda params: jax.tree.map(lambda leaf: 0 * leaf, params))


def difference_of_two(*, cut_off: bool = False) -> Task:
    """Two examples are compared by the difference of their scores, where the final bias cancels; or it is cut off."""

    def forward(params: Any, x: jax.Array) -> jax.Array:
        bias = jax.lax.stop_gradient(params["logits"]["bias"]) if cut_off else params["logits"]["bias"]

        def score(x: jax.Array) -> jax.Array:
            return jax.nn.relu(linear(params["hidden"], x)) @ params["logits"]["kernel"] + bias

        return score(x) if cut_off else score(x) - score(x[:, ::-1])

    return regression_task().replace(model=stateless(lambda key: mlp_model(8, 32, 1).init(key, None)[0], forward))


CASES: list[tuple[Callable[[], Task], Status, str]] = [
    (digits_task, P, ""),
    (difference_of_two, P, ""),
    (lambda: difference_of_two(cut_off=True), F, "model/unused-parameters"),
    (modes.declared_and_frozen, P, ""),
    (modes.frozen_layer, F, "optimizer/unintended-freeze"),
    (modes.detached_layer, F, "model/unused-parameters"),
    (zero_init, F, "model/zero-initialization"),
    (modes.constant_init, F, "model/identical-units"),
    (modes.dead_units, W, "model/dead-units"),
    (modes.clipped_to_nothing, W, "optimizer/clipping-too-tight"),
    (
        lambda: digits_task(optimizer=optax.adam(optax.linear_schedule(0.0, 2e-3, 10**6))),
        W,
        "optimizer/warm-up-too-long",
    ),
    (lambda: digits_task(optimizer=optax.adam(1e-8)), W, "optimizer/learning-rate-too-low"),
    (lambda: regression_task().replace(optimizer=optax.sgd(1e6)), W, "optimizer/diverged"),
    (learning_rate_huge, W, "optimizer/learning-rate-too-high"),
    (modes.declared_but_moving, F, "optimizer/declared-frozen-moves"),
    (lambda: modes.hand_loop(digits_task(), apply_updates=False), F, "step/updates-thrown-away"),
    (modes.blank_model, F, "model/unused-parameters"),
]


@pytest.mark.parametrize(("make", "status", "code"), CASES, ids=range(len(CASES)))
def test_the_status_and_the_cause(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, code: str
) -> None:
    result = run(updates, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert list(result.codes[:1]) == [code] * bool(code), result.headline


def test_thresholds_move_the_verdict(run: Callable[..., Result]) -> None:
    assert run(updates, learning_rate_tiny(), small=1e-9).status is P
    assert run(updates, learning_rate_tiny(), small=1e-2).status is W
    assert run(updates, digits_task(), large_warn=1e-9).status is W
    assert run(updates, modes.dead_units(), dead_share=0.99).status is P
    assert run(updates, modes.dead_units(), dead_fail=0.1).status is F


def test_the_numbers_are_those_of_plain_gradient_descent(run: Callable[..., Result]) -> None:
    """One step on three parameters: the change is the learning rate times the gradient."""
    result = run(updates, three_parameters_task().replace(optimizer=optax.sgd(0.05)), steps=1)
    rows = [row for table in result.evidence if isinstance(table, Table) for row in table.rows]
    for _, gradient, _, change, *_ in rows:
        assert float(change) == pytest.approx(0.05 * float(gradient), rel=1e-4)


def test_a_blank_input_is_among_the_two_likeliest_causes(run: Callable[..., Result]) -> None:
    """With zero biases a blank input leaves every ReLU at its kink, without gradient, as a dead unit is."""
    (finding,) = run(updates, modes.blank_model()).findings
    assert {one.code for one in finding.causes[:2]} == {"model/input-ignored", "model/dead-units"}


@pytest.mark.parametrize(
    ("rate", "every", "status", "codes"),
    [
        (optax.linear_schedule(0.0, 0.1, 2), 16, P, ()),
        (lambda count: 0.1 * (count >= 500), 1, W, ("optimizer/warm-up-too-long",)),
        (0.0, 1, F, ("step/updates-thrown-away",)),
    ],
    ids=["a warm-up from 0 in updates of 16 steps", "a rate of 0 at the start", "a rate of 0 for ever"],
)
def test_a_declared_rate_of_zero_is_no_frozen_step(run, rate, every: int, status: Status, codes: tuple) -> None:
    optimizer = optax.MultiSteps(optax.sgd(rate), every_k_schedule=every).gradient_transformation()
    result = run(updates, three_parameters_task().replace(optimizer=optimizer))
    assert (result.status, result.codes) == (status, codes)
