"""Everything that training changes, as one pytree."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxrecipe.precision.policy import storage_params

if TYPE_CHECKING:
    from jaxrecipe.task import Task


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The whole state of a training run; saving it and the data's seed is enough to continue bit for bit.

    Attributes:
        step: int32 scalar, training steps taken, skipped ones included; the next step's randomness and batch follow
            from it.
        params: what the optimizer trains, in the policy's parameter dtype (float32 master weights).
        model_state: what a forward pass changes (batch statistics), always float32.
        opt_state: optax's state; it does not advance on a step that was skipped.
        loss_scale: the loss scale and its counters.
        key: the run's base key, a typed PRNG key. Step s uses `fold_in(key, s)`, so any step can be repeated alone.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    loss_scale: Any
    key: Any


def init_state(task: "Task", key: PRNGKeyArray, inputs: Any) -> TrainState:
    """A fresh state: parameters and model state from `task.model`, the optimizer's state, step 0.

    Args:
        task: the training set-up.
        key: seeds the parameters and, folded with the step, everything random during training.
        inputs: one prepared batch of inputs, for the shapes; its values are not used by ordinary models.
    """
    init_key, run_key = jax.random.split(key)
    params, model_state = task.model.init(init_key, inputs)
    params = storage_params(task.precision, jax.tree.map(_with_strong_type, params))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=jax.tree.map(_with_strong_type, model_state),
        opt_state=task.optimizer.init(params),
        loss_scale=task.loss_scale,
        key=run_key,
    )


def _with_strong_type(leaf: Any) -> Array:
    """A jax array that is its own: no weak type (which would compile the step a second time), no shared buffer."""
    array = jnp.asarray(leaf)
    return jnp.array(array, dtype=array.dtype, copy=True)
