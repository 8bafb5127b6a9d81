"""A training loop as people write it by hand, right as it stands; each part can be given another way, to plant a fault
in it.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe.parts import Loop
from jaxrecipe.task import Task

State = dict[str, Any]
"""`params`, `stats` (the model's state), `opt`, `step`, and what a changed part adds."""
Predict = Callable[[State, Any], Any]
Evaluate = Callable[[State, Any, Any, int], Mapping[str, float]]


def shuffled(epoch: int, size: int) -> np.ndarray:
    """Another order in each epoch."""
    return np.random.default_rng([17, epoch]).permutation(size)


def own_loop(
    task: Task,
    *,
    reduce: Callable[[Array], Array] = jnp.mean,
    draw: Callable[[State, PRNGKeyArray], PRNGKeyArray] = lambda _state, key: key,
    add: Callable[[State], State] = lambda state: state,
    gradients: Callable[[State, Any], tuple[State, Any]] = lambda state, grads: (state, grads),
    optimizer: optax.GradientTransformation | None = None,
    apply_updates: Callable[[Any, Any], Any] = optax.apply_updates,
    after: Callable[[State, State], State] = lambda _old, new: new,
    evaluated: Callable[[State], tuple[Any, Any]] = lambda state: (state["params"], state["stats"]),
    train_at_eval: bool = False,
    evaluate: Callable[[Task, Predict], Evaluate] | None = None,
    stored: Callable[[State], State] = lambda state: state,
    order: Callable[[int, int], np.ndarray] = shuffled,
) -> Loop:
    """A jitted optax step, an exact evaluation and checkpoints around a task's model, loss and optimizer.

    Args:
        task: its training data must be arrays.
        reduce: makes one number of the losses of a batch.
        draw: the key that the model gets in a step, from the state and the step's key.
        add: adds what a changed part needs to a fresh state.
        gradients: what is done to the gradients, and to the state, before the optimizer sees them.
        optimizer: another one than the task's.
        apply_updates: how parameters take updates.
        after: the state that a step returns, from the one it was given and the one it made.
        evaluated: the parameters and model state with which predictions are made.
        train_at_eval: leaves the model in training mode when it predicts.
        evaluate: makes the evaluation from the task and the prediction.
        stored: the part of a state that a checkpoint holds; the rest is taken from a fresh state.
        order: the order in which the examples come, from the number of the epoch and how many there are.
    """
    chosen: optax.GradientTransformation = task.optimizer if optimizer is None else optimizer

    def init(key: PRNGKeyArray) -> State:
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf[: task.batch_size]), task.train)
        inputs, _ = task.prepare(*first) if task.prepare else first
        params, stats = task.model.init(key, inputs)
        return add({"params": params, "stats": stats, "opt": chosen.init(params), "step": jnp.zeros((), jnp.int32)})

    @jax.jit
    def step(state: State, inputs: Any, targets: Any, key: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
        def total(params: Any) -> tuple[Float[Array, ""], Any]:
            outputs, stats = task.model.apply(params, state["stats"], inputs, train=True, key=draw(state, key))
            return reduce(task.loss(outputs, targets)), stats

        (loss, stats), grads = jax.value_and_grad(total, has_aux=True)(state["params"])
        new, grads = gradients(state, grads)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = chosen.update(grads, state["opt"], state["params"])
        params = apply_updates(state["params"], updates)
        new = {**new, "params": params, "stats": stats, "opt": opt, "step": state["step"] + 1}
        return after(state, new), {"loss": loss}

    @partial(jax.jit, static_argnums=2)
    def forward(variables: Any, inputs: Any, train: bool) -> Any:
        key = jax.random.key(0) if train else None
        return task.model.apply(*variables, inputs, train=train, key=key)[0]

    def predict(state: State, inputs: Any) -> Any:
        return forward(evaluated(state), inputs, train_at_eval)

    def save(state: State, directory: str) -> None:
        leaves = jax.tree.leaves(stored(state))
        np.savez(Path(directory) / "state.npz", *map(np.asarray, leaves))

    def restore(directory: str, template: State) -> State:
        kept = stored(template)
        with np.load(Path(directory) / "state.npz") as file:
            leaves = [jnp.asarray(file[f"arr_{index}"]) for index in range(len(jax.tree.leaves(kept)))]
        return {**template, **jax.tree.unflatten(jax.tree.structure(kept), leaves)}

    def loaded(epoch: int) -> Iterator[tuple[Any, Any]]:
        size = len(jax.tree.leaves(task.train)[0])
        chosen = order(epoch, size)
        for start in range(0, size - task.batch_size + 1, task.batch_size):
            rows = chosen[start : start + task.batch_size]
            yield jax.tree.map(lambda leaf, rows=rows: leaf[rows], task.train)

    return Loop(
        init=init,
        step=step,
        variables=lambda state: (state["params"], state["stats"]),
        evaluate=(evaluate or exact_evaluation)(task, predict),
        predict=predict,
        save=save,
        restore=restore,
        batches=loaded,
    )


def with_own_loop(task: Task, **parts: Any) -> Task:
    """The task with the loop above around it."""
    return task.replace(loop=own_loop(task, **parts), name=f"{task.name}, own loop")


def exact_evaluation(task: Task, predict: Predict) -> Evaluate:
    """Loss and metrics over everything that is given, each example once, summed in float64."""

    def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
        parts = [scores(task, predict(state, few), wanted) for few, wanted in batches(inputs, targets, batch_size)]
        return {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]}

    return evaluate


def batches(inputs: Any, targets: Any, size: int) -> list[tuple[Any, Any]]:
    """Everything in batches, in order; the last one may be smaller."""
    total = len(jax.tree.leaves(targets)[0])
    return [
        jax.tree.map(lambda leaf, start=start: leaf[start : start + size], (inputs, targets))
        for start in range(0, total, size)
    ]


def scores(task: Task, outputs: Any, targets: Any) -> dict[str, np.ndarray]:
    """Loss and metrics of each example of a batch, float64."""
    measures = {"loss": task.loss, **task.all_metrics}
    return {name: np.asarray(measure(outputs, targets), np.float64) for name, measure in measures.items()}
