"""How one part of a task is replaced and everything else stays as it is: what plants are made of."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import optax

from jaxrecipe.task import Task

ChangeData = Callable[[Any, Any], tuple[Any, Any]]


def on_outputs(task: Task, change: Callable[[Any], Any]) -> Task:
    """The task with something done to the model's outputs."""
    apply = task.model.apply

    def changed(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, state = apply(params, state, inputs, train=train, key=key)
        return change(outputs), state

    return task.replace(model=replace(task.model, apply=changed))


def on_inputs(task: Task, change: Callable[[Any], Any]) -> Task:
    """The task with something done to the inputs inside the model."""
    apply = task.model.apply

    def changed(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return apply(params, state, change(inputs), train=train, key=key)

    return task.replace(model=replace(task.model, apply=changed))


def on_params(task: Task, change: Callable[[Any], Any]) -> Task:
    """The task with something done to the initial parameters."""
    init = task.model.init

    def changed(key: Any, inputs: Any) -> tuple[Any, Any]:
        params, state = init(key, inputs)
        return change(params), state

    return task.replace(model=replace(task.model, init=changed))


def on_kernels(task: Task, change: Callable[[Any], Any]) -> Task:
    """The task with something done to each initial kernel."""

    def change_leaf(path: Any, leaf: Any) -> Any:
        return change(leaf) if jax.tree_util.keystr(path[-1:], simple=True) == "kernel" else leaf

    return on_params(task, lambda params: jax.tree_util.tree_map_with_path(change_leaf, params))


def on_train(task: Task, change: ChangeData) -> Task:
    """The task with something done to its training data."""
    return task.replace(train=change(*task.train))


def on_test(task: Task, change: ChangeData) -> Task:
    """The task with something done to its test data."""
    return task.replace(test=change(*task.test))


def on_both(task: Task, change: ChangeData) -> Task:
    """The task with the same done to both splits."""
    return on_test(on_train(task, change), change)


def frozen(optimizer: optax.GradientTransformation, *layers: str) -> optax.GradientTransformation:
    """The optimizer for all parameters but those of some layers."""

    def labels(params: Any) -> Any:
        return {
            name: jax.tree.map(lambda _, name=name: "frozen" if name in layers else "trained", leaves)
            for name, leaves in params.items()
        }

    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)
