"""mpx (mixed_precision_for_JAX), as its README trains: filter_value_and_grad and optimizer_update around Equinox."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import mpx

from experiments.precision_peers import in_jax
from experiments.precision_peers.common import NotOfferedError, Options, Trainer


def make(options: Options) -> Trainer:
    """See the module."""
    if options.static is not None:
        raise NotOfferedError("no static scale")
    mpx.set_half_precision_datatype(options.half if options.dtype_as_text else getattr(jnp, options.half))
    optimizer = in_jax.optimizer(options)

    def begin() -> Any:
        params, _ = in_jax.start()
        largest: Any = mpx.FLOAT16_MAX  # pyright: ignore[reportAttributeAccessIssue]
        # The README: the largest float16 number to begin with, a floor of 1, growth every 2000 steps.
        scaling = mpx.DynamicLossScaling(
            jnp.asarray(largest if options.initial is None else options.initial, jnp.float32),
            jnp.asarray(1.0 if options.floor is None else options.floor, jnp.float32),
            period=options.growth_every or 2000,
        )
        return {"params": params, "opt": optimizer.init(params), "scale": scaling}

    def forward(params: Any, rows: Any) -> tuple[Any, Any]:
        # The mean in float32, as the README forces it.
        return in_jax.loss(options, rows @ params["w"]), None

    def step(state: Any, rows: Any) -> tuple[Any, Any]:
        (loss, _), scaling, finite, grads = mpx.filter_value_and_grad(forward, scaling=state["scale"], has_aux=True)(
            state["params"], rows
        )
        params, opt = mpx.optimizer_update(state["params"], optimizer, state["opt"], grads, finite)
        return {"params": params, "opt": opt, "scale": scaling}, loss

    def stats(_: Any) -> Any:
        raise NotOfferedError("optimizer_update keeps parameters and optimizer state; nothing is shown for model state")

    return in_jax.trainer(
        begin,
        eqx.filter_jit(step),
        weights=lambda state: state["params"]["w"],
        stats=stats,
        scale=lambda state: state["scale"].loss_scaling,
    )
