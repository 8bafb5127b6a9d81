"""jaxrecipe: a Task, its training step, and `fit` for a whole run."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrecipe as jr
from experiments.precision_peers import in_jax
from experiments.precision_peers.common import ROWS, Options, Trainer
from jaxrecipe.data import Batch
from jaxrecipe.training import init_state


def scaling(options: Options) -> Any:
    """The loss scale asked for."""
    if options.static is not None:
        return jr.static_loss_scale(options.static)
    given = {
        "init_scale": options.initial,
        "min_scale": options.floor,
        "growth_interval": options.growth_every,
    }
    return jr.dynamic_loss_scale(**{name: value for name, value in given.items() if value is not None})


def task(options: Options, batch: np.ndarray) -> jr.Task:
    """The small problem as a task."""

    def init(_key: Any, _inputs: Any) -> tuple[Any, Any]:
        params, stats = in_jax.start()
        return params, {"mean": stats}

    def apply(params: Any, state: Any, inputs: Any, **_: Any) -> tuple[Any, Any]:
        return inputs @ params["w"], {"mean": in_jax.moved(state["mean"], inputs)}

    def loss(outputs: Any, _targets: Any) -> Any:
        dtype = jnp.float16 if options.half_loss else jnp.float32
        return outputs.astype(dtype) * dtype(options.gain) + dtype(options.offset)

    return jr.Task(
        model=jr.Model(init, apply),
        loss=loss,
        optimizer=in_jax.optimizer(options),
        train=(batch, np.zeros(len(batch), np.float32)),
        batch_size=ROWS,
        policy=options.half,
        loss_scale=scaling(options),
    )


def make(options: Options) -> Trainer:
    """See the module."""
    given = task(options, np.zeros((ROWS, 3), np.float32))
    train_step = jr.make_train_step(given)

    def step(state: Any, rows: Any) -> tuple[Any, Any]:
        state, metrics = train_step(state, Batch(rows, jnp.zeros(ROWS), jnp.ones(ROWS, bool)))
        return state, metrics["loss"]

    def run(steps: int, batch: np.ndarray) -> None:
        jr.fit(task(options, batch), steps=steps)

    return in_jax.trainer(
        lambda: init_state(given, jax.random.key(0), jnp.zeros((ROWS, 3))),
        step,
        weights=lambda state: state.params["w"],
        stats=lambda state: state.model_state["mean"],
        scale=lambda state: state.loss_scale.scale,
        rescaled=lambda state, static: replace(state, loss_scale=jr.static_loss_scale(static)),
        run=run,
    )
