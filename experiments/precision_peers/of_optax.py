"""optax.apply_if_finite around the whole optimizer, clipping included: it skips, and has no loss scale."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.precision_peers import in_jax
from experiments.precision_peers.common import NotOfferedError, Options, Trainer


def make(options: Options) -> Trainer:
    """See the module."""
    if any(value is not None for value in (options.initial, options.floor, options.growth_every, options.static)):
        raise NotOfferedError("no loss scale")
    optimizer = optax.apply_if_finite(in_jax.optimizer(options), max_consecutive_errors=options.patience)
    half = jnp.dtype(options.half)

    def begin() -> Any:
        params, stats = in_jax.start()
        return {"params": params, "stats": stats, "opt": optimizer.init(params)}

    def step(state: Any, rows: Any) -> tuple[Any, Any]:
        def plain(params: Any) -> tuple[Any, Any]:
            outputs = rows.astype(half) @ params["w"].astype(half)
            return in_jax.loss(options, outputs), in_jax.moved(state["stats"], rows)

        (loss, stats), grads = jax.value_and_grad(plain, has_aux=True)(state["params"])
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "stats": stats, "opt": opt}, loss

    def scale(_: Any) -> float:
        raise NotOfferedError("no loss scale")

    def stats(_: Any) -> Any:
        raise NotOfferedError("it is given updates only, no model state")

    def compute_dtype() -> str:
        raise NotOfferedError("it has no compute dtype; that is the model's")

    made = in_jax.trainer(
        begin,
        step,
        weights=lambda state: state["params"]["w"],
        stats=stats,
        scale=scale,
        told=lambda state: f"{int(state['opt'].notfinite_count)} bad updates in a row counted in its state",
    )
    return replace(made, compute_dtype=compute_dtype)
