"""Faults that only an objective shows, each by the check that proves it, beside the healthy set-up."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.reference_step import reference_step
from jaxrecipe.objective import mean_cost
from jaxrecipe.parts import Costs, Loop
from jaxrecipe.report.result import Status
from jaxrecipe.task import Task
from tests.test_objective import by_token, ragged

P, W, F = Status.PASS, Status.WARN, Status.FAIL


def stepped(**changes: Any) -> Task:
    """The mean over tokens, trained by a loop of one's own that changes what the objective returns."""
    task = ragged()
    optimizer = task.optimizer

    @jax.jit
    def step(state: Any, inputs: Any, targets: Any, key: Any) -> Any:
        def cost(params: Any) -> Any:
            return mean_cost(replace(by_token(params, {}, inputs, targets, train=True, key=key), **changes))

        updates, inner = optimizer.update(jax.grad(cost)(state["params"]), state["inner"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "inner": inner}, {}

    def init(key: Any) -> Any:
        params = task.model.init(key, None)[0]
        return {"params": params, "inner": optimizer.init(params)}

    return task.replace(loop=Loop(init=init, step=step, variables=lambda state: (state["params"], {})))


@pytest.mark.parametrize(
    ("changes", "codes"),
    [({}, ()), ({"weights": None}, ("loss/weights-forgotten",)), ({"extra": None}, ("loss/term-forgotten",))],
    ids=["healthy", "mean of means", "penalty left out"],
)
def test_a_step_that_trains_another_mean(run, changes: dict[str, Any], codes: tuple[str, ...]) -> None:
    result = run(reference_step, stepped(**changes))
    assert (result.status, result.codes) == (F if codes else P, codes)


def gaussian(sign: float) -> Any:
    """The squared error of a draw, and the KL to a standard Gaussian of what it is drawn from."""

    def objective(params: Any, state: Any, inputs: Any, targets: Any, *, train: bool, key: Any) -> Costs:
        x, _ = inputs
        mean, log_variance = x[:, 0] * params["w"], -1.0 + x[:, 1] * params["v"]
        drawn = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        kl = 0.5 * (jnp.exp(log_variance) + jnp.square(mean) - 1 - log_variance).sum(axis=1)
        return Costs(losses=jnp.square(drawn - x[:, 0]).sum(axis=1) + sign * kl)

    return objective


def drawing(sign: float, optimizer: Any) -> Task:
    """A task around it."""
    task = ragged(gaussian(sign), optimizer=optimizer)
    init = lambda key, _: ({"w": jnp.zeros(4), "v": jnp.zeros(4)}, {})  # noqa: E731
    return task.replace(model=replace(task.model, init=init))


@pytest.mark.parametrize(
    ("sign", "optimizer", "status", "first"),
    [
        (1.0, optax.adam(1e-2), P, ""),
        (-20.0, optax.adam(3e-2), W, "loss/unbounded"),
        (-20.0, optax.sgd(1e-1), F, "optimizer/diverged"),
        (1.0, optax.sgd(1e-9), F, "model/does-not-memorize"),
        (1.0, optax.sgd(-1e-4), F, "model/does-not-memorize"),
    ],
    ids=["healthy", "KL of the wrong sign", "the same until infinity", "a tiny rate", "uphill"],
)
def test_the_cost_of_a_few_examples(run, sign: float, optimizer: Any, status: Status, first: str) -> None:
    result = run(overfit_one_batch, drawing(sign, optimizer))
    assert (result.status, (*result.codes, "")[0]) == (status, first)


def mixing(params: Any, state: Any, inputs: Any, targets: Any, *, train: bool, key: Any) -> Costs:
    """Losses relative to the batch's mean."""
    costs = by_token(params, state, inputs, targets, train=train, key=key)
    return replace(costs, losses=costs.losses / costs.losses.mean())


@pytest.mark.parametrize(("objective", "codes"), [(by_token, ()), (mixing, ("loss/mixes-examples",))])
def test_losses_that_see_other_examples(run, objective: Any, codes: tuple[str, ...]) -> None:
    result = run(chart_dependencies, ragged(objective))
    assert (result.status, result.codes) == (F if codes else P, codes)
    assert np.isfinite([one.value for one in result.measures]).all()
