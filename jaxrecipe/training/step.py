"""One training step: forward in the policy's precision, gradients in float32, an update that a bad step cannot
spoil.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32

from jaxrecipe import trees
from jaxrecipe.data.batches import Batch
from jaxrecipe.objective import mean_cost, objective_of, told_beside
from jaxrecipe.parts import Costs
from jaxrecipe.precision import loss_scale as scaling
from jaxrecipe.training.state import TrainState

if TYPE_CHECKING:
    from jaxrecipe.task import Task

Metrics = Mapping[str, Array]
_Changing = tuple[Any, Any, Any]
"""Parameters, model state and optimizer state: what a skipped step leaves alone."""
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def masked_mean(values: Float[Array, "batch"], mask: Bool[Array, "batch"]) -> Float[Array, ""]:
    """Mean of the examples that count, in float32; what stands at masked positions, NaN included, has no influence."""
    kept = jnp.where(mask, values.astype(jnp.float32), 0.0)
    return kept.sum() / jnp.maximum(mask.sum(), 1).astype(jnp.float32)


def prepare_batch(task: "Task", inputs: Any, targets: Any) -> tuple[Any, Any]:
    """The task's deterministic preparation, or the batch as it is."""
    return task.prepare(inputs, targets) if task.prepare else (inputs, targets)


def make_train_step(task: "Task") -> TrainStep:
    """The training step of a task: `step(state, batch) -> (state, metrics)`, pure and not yet jitted.

    Order: prepare, augment, forward and loss, backward on the scaled loss, unscale in float32, finite check, optimizer
    (clipping belongs to it, so it sees unscaled gradients). With a loss scale, a step whose gradients are not finite
    leaves parameters, model state and optimizer state as they were; only step, scale and key use move on.
    Without one nothing is skipped, so that a NaN stays loud.

    Metrics are float32 scalars on the device: `loss`, `grad_norm`, `param_norm`, `update_norm`, `count`, the task's
    metrics on this batch in training mode, the extra terms and the `aux` of an objective by their names and, with a
    loss scale, `loss_scale`, `skipped`, `skipped_in_a_row`, `last_bad`.
    """
    objective = objective_of(task)
    metrics = task.all_metrics

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        inputs, targets = prepare_batch(task, batch.inputs, batch.targets)
        if task.augment:
            inputs, targets = task.augment(augment_key, inputs, targets)

        def scaled_loss(params: Any) -> tuple[Float[Array, ""], tuple[Costs, Array]]:
            costs = objective(params, state.model_state, inputs, targets, train=True, key=model_key)
            loss = mean_cost(costs, batch.mask)
            return scaling.scale_loss(state.loss_scale, loss), (costs, loss)

        scaled_grads, (costs, loss) = jax.grad(scaled_loss, has_aux=True)(state.params)
        grads = scaling.unscale(state.loss_scale, scaled_grads)
        updated, update_norm = _update(task.optimizer, state, grads, costs.model_state)
        measured = {
            "loss": loss,
            "grad_norm": trees.global_norm(grads),
            "param_norm": trees.global_norm(updated.params),
            "update_norm": update_norm,
            "count": batch.mask.sum().astype(jnp.float32),
            **told_beside(costs),
            **_metrics(metrics, costs.outputs, targets, batch.mask),
            **_telemetry(updated.loss_scale),
        }
        return updated, measured

    return step


def _metrics(metrics: Mapping[str, Any], outputs: Any, targets: Any, mask: Bool[Array, "batch"]) -> dict[str, Array]:
    """The mean of each metric; none where an objective tells no outputs."""
    if outputs is None:
        return {}
    return {name: masked_mean(metric(outputs, targets), mask) for name, metric in metrics.items()}


def _update(
    optimizer: optax.GradientTransformation, state: TrainState, grads: Any, model_state: Any
) -> tuple[TrainState, Float[Array, ""]]:
    """The next state and the norm of the change; nothing but step and scale moves when the gradients are not finite."""
    grads = jax.tree.map(lambda grad, param: grad.astype(param.dtype), grads, state.params)

    def taken() -> tuple[_Changing, Float[Array, ""]]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself; ours stays strict
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return (optax.apply_updates(state.params, updates), model_state, opt_state), trees.global_norm(updates)

    if state.loss_scale.kind == "none":
        (params, model_state, opt_state), update_norm = taken()
        loss_scale = state.loss_scale
    else:
        bad = _first_bad(_watched(grads, model_state))
        old = (state.params, state.model_state, state.opt_state)
        (params, model_state, opt_state), update_norm = _taken_if(bad < 0, taken, old)
        loss_scale = scaling.update(state.loss_scale, bad < 0, bad)
    moved = TrainState(state.step + 1, params, model_state, opt_state, loss_scale, state.key)
    return moved, update_norm


# The same decision is written in two ways, each quick where the other is slow (experiments/loss_scale_overhead.py).
# On the CPU a
# choice between old and new arrays made XLA copy Adam's moments first: 30 % of a step that does little else. On a GPU
# the choice is
# part of the kernel that updates, while a branch would wait for the host.


def _first_bad(watched: Any) -> Int32[Array, ""]:
    """`trees.first_nonfinite`. On the CPU it reads the leaves one by one only when their norm, needed anyway, is not
    finite.
    """

    def quickly() -> Int32[Array, ""]:
        # A finite norm proves every number finite; one that is not may also come of squares that overflow.
        finite = jnp.isfinite(trees.global_norm(watched))
        return jax.lax.cond(finite, lambda: jnp.int32(-1), lambda: trees.first_nonfinite(watched))

    return jax.lax.platform_dependent(cpu=quickly, default=lambda: trees.first_nonfinite(watched))


def _taken_if(
    finite: Bool[Array, ""], taken: Callable[[], tuple[_Changing, Float[Array, ""]]], old: _Changing
) -> tuple[_Changing, Float[Array, ""]]:
    """The step that `taken` takes, or `old` and a change of 0."""

    def branch() -> tuple[_Changing, Float[Array, ""]]:
        def go() -> tuple[_Changing, Float[Array, ""]]:
            new, norm = taken()
            return trees.select(True, new, old), norm  # chooses nothing, but names the leaves that do not fit

        return jax.lax.cond(finite, go, lambda: (jax.tree.map(jnp.asarray, old), jnp.float32(0)))

    def choice() -> tuple[_Changing, Float[Array, ""]]:
        new, norm = taken()
        return trees.select(finite, new, old), jnp.where(finite, norm, 0.0)

    return jax.lax.platform_dependent(cpu=branch, default=choice)


def _watched(grads: Any, model_state: Any) -> dict[str, Any]:
    """What must be finite for a step to count, under the names in which an offender is reported."""
    return {"gradients": grads, "model_state": model_state}


def last_bad_path(state: TrainState) -> str | None:
    """Path of the first leaf that was not finite on the last skipped step ("gradients/Dense_0/kernel"), or None.
    Syncs.
    """
    return bad_path(state, int(state.loss_scale.last_bad))


def bad_path(state: TrainState, last_bad: int) -> str | None:
    """The path that a number under "last_bad" in the metrics stands for, or None for -1."""
    return trees.paths(_watched(state.params, state.model_state))[last_bad] if last_bad >= 0 else None


def _telemetry(loss_scale: scaling.LossScale) -> dict[str, Any]:
    """What the progress shows of the loss scale; nothing when there is none."""
    if loss_scale.kind == "none":
        return {}
    return {
        "loss_scale": loss_scale.scale,
        "skipped": loss_scale.skipped.astype(jnp.float32),
        "skipped_in_a_row": loss_scale.skipped_in_a_row.astype(jnp.float32),
        "last_bad": loss_scale.last_bad.astype(jnp.float32),
    }
