"""Broken set-ups about modes and updates, one thing each."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrecipe.catalogue import evaluation, model, step
from jaxrecipe.parts import Loop, Model
from jaxrecipe.task import Task
from tests.zoo.broken import with_init
from tests.zoo.healthy import batch_norm_task, digits_task, dropout_task


def dropout_on_outputs() -> Task:
    """In training half of the logits are thrown away."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        logits, state = model.apply(params, state, inputs, train=train, key=key)
        if train:
            logits = jnp.where(jax.random.bernoulli(key, 0.5, logits.shape), 2.0 * logits, 0.0)
        return logits, state

    return task.replace(model=Model(model.init, apply, model.name))


def dropout_at_eval() -> Task:
    return evaluation.dropout_at_eval(dropout_task())


def statistics_moved_at_eval() -> Task:
    """Normalises with the stored statistics at evaluation, but moves them there too."""
    task = batch_norm_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, _ = model.apply(params, state, inputs, train=train, key=key)
        return outputs, model.apply(params, state, inputs, train=True, key=key)[1]

    return task.replace(model=Model(model.init, apply))


def statistics_never_move() -> Task:
    """The model normalises with the batch in training but hands back the statistics it was given."""
    task = batch_norm_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return model.apply(params, state, inputs, train=train, key=key)[0], state

    return task.replace(model=Model(model.init, apply))


def hand_loop(task: Task, *, keep_statistics: bool = True, apply_updates: bool = True, predict: Any = None) -> Task:
    """A hand-written loop around a task, right unless told otherwise."""
    optimizer = task.optimizer

    def init(key: Any) -> dict[str, Any]:
        params, stats = task.model.init(key, None)
        return {"params": params, "stats": stats, "opt": optimizer.init(params)}

    @jax.jit
    def step(state: dict[str, Any], inputs: Any, targets: Any, key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        def mean_loss(params: Any) -> Any:
            outputs, stats = task.model.apply(params, state["stats"], inputs, train=True, key=key)
            return task.loss(outputs, targets).mean(), stats

        (loss, stats), grads = jax.value_and_grad(mean_loss, has_aux=True)(state["params"])
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates) if apply_updates else state["params"]
        return {"params": params, "stats": stats if keep_statistics else state["stats"], "opt": opt}, {"loss": loss}

    return task.replace(loop=Loop(init=init, step=step, variables=lambda s: (s["params"], s["stats"]), predict=predict))


def predict_in_mode(*, train: bool) -> Task:
    task = batch_norm_task()

    def predict(state: Any, inputs: Any) -> Any:
        return task.model.apply(state["params"], state["stats"], inputs, train=train, key=None)[0]

    return hand_loop(task, predict=predict)


def frozen_layer() -> Task:
    mask = {"hidden": True, "logits": False}
    return digits_task().replace(optimizer=optax.chain(optax.adam(2e-3), optax.masked(optax.set_to_zero(), mask)))


def detached_layer() -> Task:
    """The first layer is cut off by a stop_gradient, the input still gets through."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return model.apply(
            {**params, "hidden": jax.lax.stop_gradient(params["hidden"])}, state, inputs, train=train, key=key
        )

    return task.replace(model=Model(model.init, apply))


def constant_init() -> Task:
    return model.constant_init(digits_task())


def dead_units() -> Task:
    change = lambda p: {**p, "hidden": {**p["hidden"], "bias": p["hidden"]["bias"].at[:40].set(-100.0)}}  # noqa: E731
    return with_init(digits_task(), change)


def clipped_to_nothing() -> Task:
    return step.clip_norm_tiny(digits_task())


def declared_but_moving() -> Task:
    return digits_task().replace(frozen=("hidden/*",))


def declared_and_frozen() -> Task:
    return frozen_layer().replace(frozen=("hidden/*",))


def blank_model() -> Task:
    return model.image_ignored(digits_task())
