"""The library's own training, evaluation and checkpoints in the form of a user's loop: a Loop like any other."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.data.batches import Batch
from jaxrecipe.data.sources import Source
from jaxrecipe.parts import Loop
from jaxrecipe.task import Task
from jaxrecipe.training.checkpoints import checkpoint_writer, restore_checkpoint
from jaxrecipe.training.evaluation import evaluate
from jaxrecipe.training.state import TrainState, init_state
from jaxrecipe.training.step import make_train_step, prepare_batch

Forward = Callable[..., tuple[Any, Any]]
"""`forward(params, model_state, inputs, key, *, train) -> (outputs, model_state)` under the task's policy."""


def library_loop(task: Task, train: Source, shown: Int[np.ndarray, "batch"], forward: Forward) -> Loop:
    """The loop that trains a task which brings none of its own.

    Args:
        task: the training set-up.
        train: its training data.
        shown: which examples `init` is shown.
        forward: the model, compiled; `predict` uses it.
    """
    ready = task.replace(prepare=None, augment=None)  # a loop is given batches that are prepared already
    train_step = make_train_step(ready)

    initial = jax.jit(lambda key, inputs: init_state(task, key, inputs))

    def init(key: PRNGKeyArray) -> TrainState:
        inputs, _ = prepare_batch(task, *jax.device_put(train.gather(shown)))
        try:
            return replace(initial(key, inputs), loss_scale=task.loss_scale)
        except jax.errors.JAXTypeError:  # an init that looks at values cannot be compiled
            return init_state(task, key, inputs)

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, inputs: Any, targets: Any, key: PRNGKeyArray) -> tuple[TrainState, Any]:
        mask = jnp.ones(trees.leading_size(inputs), bool)
        return train_step(replace(state, key=key), Batch(inputs, targets, mask))

    def predict(state: TrainState, inputs: Any) -> Any:
        return forward(state.params, state.model_state, inputs, None, train=False)[0]

    return Loop(
        init=init,
        step=step,
        variables=lambda state: (state.params, state.model_state),
        with_params=lambda state, params: replace(state, params=params),
        evaluate=_evaluation(ready),
        predict=predict if task.has_apply else None,
        save=_save,
        restore=_restore,
    )


def _evaluation(ready: Task) -> Callable[[TrainState, Any, Any, int], dict[str, float]]:
    """`evaluate` of a task whose data are prepared already, in the form that a loop has."""

    def scored(state: TrainState, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
        data = jax.tree.map(np.asarray, (inputs, targets))
        found = evaluate(ready, state.params, state.model_state, data, batch_size=batch_size)
        return {name: float(estimate.value) for name, estimate in found.values.items()}

    return scored


def _save(state: TrainState, directory: str) -> None:
    """The whole state, as `fit` saves it."""
    with checkpoint_writer(directory) as write:
        write(int(state.step), state)


def _restore(directory: str, template: TrainState) -> TrainState:
    """What `_save` wrote."""
    found = restore_checkpoint(directory, template)
    if found is None:
        raise FileNotFoundError(f"there is no checkpoint in {directory}")
    return found.state
