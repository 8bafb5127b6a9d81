"""The one form in which a task costs a batch: its own objective, or its model and loss as one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxrecipe.parts import Costs, LossFn, Objective
from jaxrecipe.precision.policy import (
    Policy,
    apply_policy,
    cast_inputs,
    cast_outputs,
    cast_params,
    keep_state,
    matmul_precision,
)

if TYPE_CHECKING:
    from jaxrecipe.task import Task


def objective_of(task: "Task", policy: Policy | None = None) -> Objective:
    """How a task costs a batch under a policy, its own by default."""
    return make_objective(task.model.apply, task.loss, task.objective, task.precision if policy is None else policy)


def make_objective(apply: Callable[..., Any], loss: LossFn, objective: Objective | None, policy: Policy) -> Objective:
    """An objective under a policy, or a model and its loss made into one.

    A policy casts what goes into an objective of the user's own (parameters and floating inputs), its outputs, and
    nothing inside of it; losses, weights and extra terms count in float32, whatever they are computed in.
    """
    return _short_form(apply_policy(apply, policy), loss) if objective is None else _under_policy(objective, policy)


def _short_form(apply: Callable[..., Any], loss: LossFn) -> Objective:
    """Every example counts alike, and costs what its outputs do."""

    def costs(
        params: Any, model_state: Any, inputs: Any, targets: Any, *, train: bool, key: PRNGKeyArray | None
    ) -> Costs:
        outputs, model_state = apply(params, model_state, inputs, train=train, key=key)
        return Costs(losses=loss(outputs, targets), outputs=outputs, model_state=model_state)

    return costs


def _under_policy(objective: Objective, policy: Policy) -> Objective:
    def costs(
        params: Any, model_state: Any, inputs: Any, targets: Any, *, train: bool, key: PRNGKeyArray | None
    ) -> Costs:
        params, inputs = cast_params(policy, params), cast_inputs(policy, inputs)
        with matmul_precision(policy):
            found = objective(params, model_state, inputs, targets, train=train, key=key)
        if not isinstance(found, Costs):
            raise TypeError(
                f"task.objective gave a {type(found).__name__}; wanted jr.Costs. "
                "End it with `return jr.Costs(losses=losses)`, losses being one number an example."
            )
        after = model_state if found.model_state is None else found.model_state
        if policy.casts:
            after = keep_state(model_state, after)
        return replace(found, outputs=cast_outputs(policy, found.outputs), model_state=after)

    return costs


def mean_cost(costs: Costs, mask: Bool[Array, "batch"] | None = None) -> Float[Array, ""]:
    """What is trained, float32: the weighted mean of the examples that count, and the terms of no example.

    What stands at positions that are masked or of weight 0, NaN included, has no influence.
    """
    losses = costs.losses.astype(jnp.float32)
    if costs.weights is None and mask is None:
        return losses.mean() + extra_cost(costs)
    weights = jnp.ones_like(losses) if costs.weights is None else costs.weights.astype(jnp.float32)
    counted = weights != 0 if mask is None else (weights != 0) & mask
    weights = jnp.where(counted, weights, 0.0)
    total = weights.sum()
    mean = (jnp.where(counted, losses, 0.0) * weights).sum() / jnp.where(total == 0, 1.0, total)
    return mean + extra_cost(costs)


def extra_cost(costs: Costs) -> Float[Array, ""] | float:
    """The sum of the terms of no example, float32; 0.0 where there is none."""
    return sum((term.astype(jnp.float32) for term in extra_terms(costs).values()), 0.0)


def extra_terms(costs: Costs) -> dict[str, Array]:
    """The terms of no example by name; a single one is called "extra"."""
    if costs.extra is None:
        return {}
    found = costs.extra if isinstance(costs.extra, Mapping) else {"extra": costs.extra}
    return {name: jnp.asarray(term) for name, term in found.items()}


def told_beside(costs: Costs) -> dict[str, Array]:
    """What is reported beside the loss, float32: the terms of no example and the objective's `aux`, by name."""
    aux = {name: jnp.asarray(value) for name, value in (costs.aux or {}).items()}
    return {name: value.astype(jnp.float32) for name, value in {**extra_terms(costs), **aux}.items()}


def mean_cost_on_host(costs: Costs) -> float:
    """The same as `mean_cost` without a mask, averaged in float64 on the host."""
    losses, weights, extra = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64), (costs.losses, costs.weights, extra_terms(costs))
    )
    mean = float(losses.mean()) if weights is None else weighted_mean(losses, weights)
    return mean + sum(float(term) for term in extra.values())


def weighted_mean(values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"]) -> float:
    """The mean of what has a weight, in float64; 0 where nothing has."""
    counted = weights != 0
    return float(np.average(values[counted], weights=weights[counted])) if counted.any() else 0.0
