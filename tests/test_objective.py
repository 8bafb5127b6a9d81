"""Objectives: one form for every loss, weighted as declared, in the step, in evaluation and in a Setup."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrecipe as jr
from jaxrecipe.data.batches import Batch
from jaxrecipe.objective import mean_cost, mean_cost_on_host, objective_of
from jaxrecipe.parts import Costs, Model
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from jaxrecipe.training.evaluation import evaluate
from jaxrecipe.training.step import make_train_step
from jaxrecipe.training.steps import new_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 5, 4)).astype(np.float32)
MASK = np.arange(5) < RNG.integers(1, 6, 20)[:, None]
Y = (X @ np.array([1.0, -2.0, 0.5, 0.0], np.float32)).astype(np.float32)


def init(key: Any, inputs: Any) -> tuple[Any, Any]:
    return {"w": 0.1 * jax.random.normal(key, (4,))}, {}


def squared(params: Any, inputs: Any, targets: Any) -> Any:
    """Squared errors of the positions, 0 where there is none, and how many there are."""
    x, mask = inputs
    errors = jnp.where(mask, jnp.square(x @ params["w"].astype(x.dtype) - targets.astype(x.dtype)), 0)
    return errors.astype(jnp.float32).sum(axis=1), mask.sum(axis=1).astype(jnp.float32)


def by_token(params: Any, state: Any, inputs: Any, targets: Any, *, train: bool, key: Any) -> Costs:
    """The mean over all tokens of a batch, and a penalty."""
    total, count = squared(params, inputs, targets)
    penalty = 0.1 * jnp.square(params["w"]).sum()
    return Costs(losses=total / count, weights=count, extra={"penalty": penalty}, aux={"tokens": count.sum()})


def ragged(objective: Any = by_token, **changes: Any) -> Task:
    facts = {"train": ((X, MASK), Y), "test": ((X, MASK), Y), "model": Model(init), "optimizer": optax.sgd(0.1)}
    return Task(**{**facts, "objective": objective, "batch_size": 8, **changes})


def oracle(params: Any, rows: np.ndarray) -> float:
    """The mean over tokens and the penalty, in float64."""
    w = np.asarray(params["w"], np.float64)
    errors = np.square(X[rows].astype(np.float64) @ w - Y[rows])
    return float(errors[MASK[rows]].mean() + 0.1 * np.square(w).sum())


@given(weighted=st.booleans(), masked=st.booleans(), extra=st.booleans(), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=12)
def test_the_mean_is_what_its_definition_says(weighted: bool, masked: bool, extra: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses, weights = rng.normal(size=6).astype(np.float32), rng.integers(0, 3, 6).astype(np.float32)
    weights[0] = 1.0
    mask = np.arange(6) < (4 if masked else 6)
    costs = Costs(
        losses=jnp.asarray(losses),
        weights=weights if weighted else None,
        extra={"a": 1.5, "b": -2.0} if extra else None,
    )
    counted = np.where(mask, weights if weighted else 1.0, 0.0)
    wanted = np.average(losses.astype(np.float64), weights=counted) - 0.5 * extra
    assert float(mean_cost(costs, jnp.asarray(mask) if masked else None)) == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    if not masked:
        assert mean_cost_on_host(costs) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_nan_of_weight_zero_counts_nothing_and_nothing_is_divided_by_nothing() -> None:
    costs = Costs(losses=jnp.array([jnp.nan, 2.0]), weights=jnp.array([0.0, 3.0]))
    assert float(mean_cost(costs)) == mean_cost_on_host(costs) == 2.0
    nothing = replace(costs, weights=jnp.zeros(2))
    assert float(mean_cost(nothing)) == mean_cost_on_host(nothing) == 0.0
    slopes = jax.grad(lambda losses: mean_cost(replace(costs, losses=losses)))(jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(slopes, [0.0, 1.0])


def test_a_step_follows_the_mean_over_tokens_of_the_examples_that_count() -> None:
    task = ragged()
    state, rows = new_state(task), np.arange(6)
    batch = Batch((X[:8], MASK[:8]), Y[:8], jnp.arange(8) < 6)
    after, metrics = jax.jit(make_train_step(task))(state, batch)
    w = np.asarray(state.params["w"], np.float64)
    errors = (X[rows].astype(np.float64) @ w - Y[rows]) * MASK[rows]
    slope = 2 * (errors[..., None] * X[rows]).sum(axis=(0, 1)) / MASK[rows].sum() + 0.2 * w
    np.testing.assert_allclose(after.params["w"], w - 0.1 * slope, rtol=1e-5, atol=1e-6)
    assert float(metrics["loss"]) == pytest.approx(oracle(state.params, rows), rel=1e-5)
    assert float(metrics["penalty"]) == pytest.approx(0.1 * np.square(w).sum(), rel=1e-5)
    assert float(metrics["tokens"]) == MASK[:8].sum()


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_evaluation_is_the_mean_over_all_tokens_whatever_the_batch_size(batch_size: int) -> None:
    task = ragged()
    params = new_state(task).params
    found = evaluate(task, params, {}, batch_size=batch_size)
    assert found.loss == pytest.approx(oracle(params, np.arange(20)), rel=1e-6)
    assert found["loss"].low < found.loss < found["loss"].high
    assert found.weights is not None
    np.testing.assert_array_equal(found.weights, MASK.sum(axis=1))
    assert found.losses.shape == (20,)


def test_a_setup_has_the_same_mean_gradient_and_losses() -> None:
    setup = make_setup(ragged())
    (x, mask), targets = setup.batch
    costs = setup.costs(*setup.variables, *setup.batch)
    np.testing.assert_allclose(costs.losses * costs.weights, squared(setup.params, (x, mask), targets)[0], rtol=1e-6)
    loss, gradient = setup.gradients(*setup.variables, *setup.batch, key=setup.key)
    assert setup.mean_loss(*setup.variables, *setup.batch) == pytest.approx(float(loss), rel=1e-5)
    other = jax.grad(lambda p: mean_cost(by_token(p, {}, (x, mask), targets, train=True, key=None)))(setup.params)
    np.testing.assert_allclose(gradient["w"], other["w"], rtol=1e-5)
    with pytest.raises(jr.MissingPartError):
        setup.losses(costs.outputs, targets)


def test_the_short_form_is_an_objective_too() -> None:
    model = Model(init, lambda params, state, x, *, train, key: (x[0] @ params["w"], state))
    task = ragged(None, model=model, loss=lambda outputs, targets: jnp.square(outputs - targets).mean(axis=1))
    costs = objective_of(task)({"w": jnp.ones(4)}, {}, (X, MASK), Y, train=True, key=None)
    np.testing.assert_allclose(costs.losses, np.square(X.sum(axis=2) - Y).mean(axis=1), rtol=1e-5)
    assert costs.weights is None
    assert costs.outputs.shape == (20, 5)


def test_a_policy_casts_what_goes_in_and_counts_in_float32() -> None:
    seen: dict[str, Any] = {}

    def watched(params: Any, state: Any, inputs: Any, targets: Any, *, train: bool, key: Any) -> Costs:
        seen.update(params=params["w"].dtype, inputs=inputs[0].dtype)
        return replace(by_token(params, state, inputs, targets, train=train, key=key), outputs=inputs[0])

    task = ragged(watched, policy="bfloat16")
    params = {"w": jnp.ones(4)}
    costs = objective_of(task)(params, {}, (X, MASK), Y, train=True, key=None)
    assert seen == {"params": jnp.bfloat16, "inputs": jnp.bfloat16}
    assert costs.outputs.dtype == mean_cost(costs).dtype == jnp.float32


def test_fit_trains_an_objective_whose_model_has_no_apply() -> None:
    done = jr.fit(ragged(), epochs=10)
    assert done.history["loss"][-1] < 0.2 * done.history["loss"][0]
    assert done.evaluation is not None
    assert set(done.history) >= {"penalty", "tokens"}


def returns(**changes: Any) -> Callable[..., Any]:
    def objective(*arguments: Any, **options: Any) -> Costs:
        return replace(by_token(*arguments, **options), **changes)

    return objective


def stateful(key: Any, inputs: Any) -> tuple[Any, Any]:
    return init(key, inputs)[0], {"mean": jnp.zeros(3)}


WRONG: list[tuple[str, Any, dict[str, Any], str]] = [
    ("None", lambda *a, **k: None, {}, "task.objective, train=True"),
    ("a pair", lambda *a, **k: (jnp.zeros(8), {}), {}, "task.objective, train=True"),
    ("a scalar", returns(losses=jnp.zeros(())), {}, "task.objective, train=True, losses"),
    ("losses of positions", returns(losses=jnp.zeros((8, 5))), {}, "task.objective, train=True, losses"),
    ("integers", returns(losses=jnp.zeros(8, jnp.int32)), {}, "task.objective, train=True, losses"),
    ("too few weights", returns(weights=jnp.ones(5)), {}, "task.objective, train=True, weights"),
    ("an extra term each", returns(extra=jnp.zeros(8)), {}, "task.objective, train=True, extra"),
    ("an aux of a batch", returns(aux={"a": jnp.zeros(8)}), {}, "task.objective, train=True, aux"),
    ("a list of extra terms", returns(extra=[jnp.zeros(())]), {}, "task.objective, train=True, extra"),
    ("a name that is taken", returns(aux={"loss": jnp.zeros(())}), {}, "task.objective, train=True, aux"),
    (
        "no outputs for metrics",
        by_token,
        {"metrics": {"a": lambda o, t: t[:, 0]}},
        "task.objective, train=True, outputs",
    ),
    ("a forgotten state", by_token, {"model": Model(stateful)}, "task.objective, train=True, model_state"),
    (
        "a state of another form",
        returns(model_state={"n": jnp.zeros(())}),
        {},
        "task.objective, train=True, model_state",
    ),
    ("both", by_token, {"loss": lambda outputs, targets: outputs}, "task.objective"),
    ("a class", Costs, {}, "task.objective"),
    ("a negative weight", returns(weights=-jnp.ones(8)), {}, "task.objective, weights"),
    ("NaN", returns(losses=jnp.full(8, jnp.nan)), {}, "task.objective"),
    ("an infinite penalty", returns(extra={"penalty": jnp.array(jnp.inf)}), {}, "task.objective"),
]


@pytest.mark.parametrize(("objective", "changes", "where"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_malformed_objectives_are_refused_by_name(objective: Any, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(jr.InvalidTaskError) as told:
        jr.validate(ragged(objective, **changes))
    found = told.value.problems
    assert [problem.where for problem in found if problem.severity == "error"] == [where]
    assert all(problem.got and problem.wanted and problem.fix for problem in found)


def test_a_loss_alone_needs_a_model_that_gives_outputs() -> None:
    with pytest.raises(jr.InvalidTaskError) as told:
        jr.validate(ragged(None, loss=lambda outputs, targets: outputs))
    assert [problem.where for problem in told.value.problems] == ["task.model"]


def test_what_is_right_raises_no_word() -> None:
    assert jr.validate(ragged()) == []
    kept = returns(model_state={"mean": jnp.zeros(3)})
    assert jr.validate(ragged(kept, model=Model(stateful))) == []


def test_checks_that_need_no_outputs_run_and_the_others_say_what_they_lack() -> None:
    report = jr.check(ragged(optimizer=optax.adam(1e-2)), only=["skeleton", "precision"])
    found = {result.name: result for result in report.results}
    assert not [name for name, result in found.items() if result.status in (jr.Status.FAIL, jr.Status.CRASHED)]
    ran = {name for name, result in found.items() if result.status is jr.Status.PASS}
    assert ran >= {"fix_random_seed", "updates", "reference_step", "checkpoint_round_trip"}
    assert found["loss_at_init"].status is jr.Status.SKIP
    assert "jr.Model(init, apply)" in found["loss_at_init"].summary
