"""A training loop as people write it by hand, in the form that the checks can exercise: to plant bugs in."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe.task import Loop, Task

State = dict[str, Any]
"""`params`, `model_state` and `opt_state`."""


def plain_loop(
    task: Task,
    *,
    apply_updates: Callable[[Any, Any], Any] = optax.apply_updates,
    drop_last: bool = False,
) -> Loop:
    """A jitted optax step and an evaluation in batches around a task's model, loss and optimizer, sharing no code with `fit`.

    Args:
        task: its training data must be arrays.
        apply_updates: how the parameters take the optimizer's updates.
        drop_last: whether the evaluation leaves out a last batch that is not full.
    """

    def init(key: PRNGKeyArray) -> State:
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf[: task.batch_size]), task.train)
        inputs, _ = task.prepare(*first) if task.prepare else first
        params, model_state = task.model.init(key, inputs)
        return {"params": params, "model_state": model_state, "opt_state": task.optimizer.init(params)}

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, inputs: Any, targets: Any, key: PRNGKeyArray) -> tuple[State, Mapping[str, Array]]:
        def loss(params: Any) -> tuple[Float[Array, ""], Any]:
            outputs, model_state = task.model.apply(params, state["model_state"], inputs, train=True, key=key)
            return task.loss(outputs, targets).mean(), model_state

        (value, model_state), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
        updates, opt_state = task.optimizer.update(grads, state["opt_state"], state["params"])
        params = apply_updates(state["params"], updates)
        return {"params": params, "model_state": model_state, "opt_state": opt_state}, {"loss": value}

    @jax.jit
    def predict(state: State, inputs: Any) -> Any:
        return task.model.apply(state["params"], state["model_state"], inputs, train=False, key=None)[0]

    def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
        size = len(targets)
        starts = range(0, size - size % batch_size if drop_last else size, batch_size)
        rows: dict[str, list[np.ndarray]] = {"loss": [], **{name: [] for name in task.all_metrics}}
        for start in starts:
            few, wanted = jax.tree.map(lambda leaf: leaf[start : start + batch_size], (inputs, targets))  # noqa: B023
            outputs = predict(state, few)
            for name, measure in {"loss": task.loss, **task.all_metrics}.items():
                rows[name].append(np.asarray(measure(outputs, wanted), np.float64))
        return {name: float(np.concatenate(values).mean()) for name, values in rows.items()}

    return Loop(
        init=init,
        step=step,
        variables=lambda state: (state["params"], state["model_state"]),
        evaluate=evaluate,
        predict=predict,
    )
