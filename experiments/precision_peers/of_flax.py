"""Flax's DynamicScale, as Flax's own ImageNet example trains: TrainState, value_and_grad, select on parameters and
optimizer.
"""

import functools
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from flax.training import train_state
from flax.training.dynamic_scale import DynamicScale
from jax import tree_util

from experiments.precision_peers import in_jax
from experiments.precision_peers.common import NotOfferedError, Options, Trainer


class TrainState(train_state.TrainState):
    """That of the example."""

    batch_stats: Any
    dynamic_scale: DynamicScale


def make(options: Options) -> Trainer:
    """See the module."""
    if options.static is not None:
        raise NotOfferedError("no static scale")
    given = {"scale": options.initial, "minimum_scale": options.floor, "growth_interval": options.growth_every}
    optimizer = in_jax.optimizer(options)
    half = jnp.dtype(options.half)

    def begin() -> TrainState:
        params, stats = in_jax.start()
        scale = DynamicScale(**{name: value for name, value in given.items() if value is not None})
        return TrainState.create(
            apply_fn=lambda params, rows: rows.astype(half) @ params["w"].astype(half),
            params=params,
            tx=optimizer,
            batch_stats=stats,
            dynamic_scale=scale,
        )

    def step(state: TrainState, rows: Any) -> tuple[TrainState, Any]:
        def loss_fn(params: Any) -> tuple[Any, Any]:
            return in_jax.loss(options, state.apply_fn(params, rows)), in_jax.moved(state.batch_stats, rows)

        scale, finite, (loss, stats), grads = state.dynamic_scale.value_and_grad(loss_fn, has_aux=True)(state.params)
        new = state.apply_gradients(grads=grads, batch_stats=stats)
        select = functools.partial(jnp.where, finite)
        new = new.replace(
            opt_state=tree_util.tree_map(select, new.opt_state, state.opt_state),
            params=tree_util.tree_map(select, new.params, state.params),
            dynamic_scale=scale,
        )
        return new, loss

    def compute_dtype() -> str:
        raise NotOfferedError("it has no compute dtype; that is the modules' own")

    made = in_jax.trainer(
        begin,
        step,
        weights=lambda state: state.params["w"],
        stats=lambda state: state.batch_stats,
        scale=lambda state: state.dynamic_scale.scale,
    )
    return replace(made, compute_dtype=compute_dtype)
