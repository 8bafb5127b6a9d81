"""What the JAX libraries share: model, loss, optimizer, a jitted step around a state, and saving it by orbax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from experiments.precision_peers.common import WIDTH, Options, Trainer, looped


def optimizer(options: Options) -> optax.GradientTransformation:
    """Gradient descent with learning rate 1, halved at every step if asked for; clipped if asked for."""
    rate = optax.exponential_decay(1.0, 1, 0.5) if options.schedule else 1.0
    parts = [optax.sgd(rate)]
    return optax.chain(optax.clip(options.clip), *parts) if options.clip is not None else parts[0]


def start() -> tuple[dict[str, jax.Array], jax.Array]:
    """Fresh weights and statistics."""
    return {"w": jnp.zeros(WIDTH)}, jnp.zeros(WIDTH)


def moved(stats: Any, rows: Any) -> Any:
    """The running mean after a batch, as BatchNorm moves it: float32, decay 0.9."""
    return 0.9 * stats + 0.1 * rows.astype(jnp.float32).mean(axis=0)


def loss(options: Options, outputs: Any) -> Any:
    """The mean in float32, or in float16 if the loss is asked to be."""
    dtype = jnp.float16 if options.half_loss else jnp.float32
    return outputs.astype(dtype).mean() * dtype(options.gain) + dtype(options.offset)


def dtype_of_product(function: Callable[..., Any], *args: Any) -> str:
    """Dtype of the first matrix product that a function contains."""

    def find(jaxpr: Any) -> str | None:
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                return equation.outvars[0].aval.dtype.name
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            found = find(getattr(inner, "jaxpr", inner)) if inner is not None else None
            if found:
                return found
        return None

    return find(jax.make_jaxpr(function)(*args).jaxpr) or "no product"


def trainer(
    make: Callable[[], Any],
    step: Callable[[Any, Any], tuple[Any, Any]],
    *,
    weights: Callable[[Any], Any],
    stats: Callable[[Any], Any],
    scale: Callable[[Any], float],
    rescaled: Callable[[Any, float], Any] | None = None,
    run: Callable[[int, np.ndarray], None] | None = None,
    told: Callable[[Any], str] = lambda _: "",
) -> Trainer:
    """A trainer around `step(state, rows) -> (state, loss)`; the step is jitted once."""
    jitted = jax.jit(step)

    def around(state: Any) -> Trainer:
        now = [state]

        def forward(batch: np.ndarray) -> float:
            now[0], value = jitted(now[0], jnp.asarray(batch))
            return float(value)

        def reload(directory: str) -> Trainer:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                checkpointer.save(directory, args=ocp.args.StandardSave(now[0]))
                template = jax.tree.map(jnp.asarray, make())
                return around(checkpointer.restore(directory, args=ocp.args.StandardRestore(template)))

        def with_scale(static: float) -> None:
            now[0] = rescaled(now[0], static) if rescaled else now[0]

        return Trainer(
            step=forward,
            weights=lambda: np.asarray(weights(now[0]), np.float32),
            stats=lambda: np.asarray(stats(now[0]), np.float32),
            scale=lambda: float(scale(now[0])),
            compute_dtype=lambda: dtype_of_product(step, now[0], jnp.ones((8, WIDTH))),
            reload=reload,
            run=run or looped(forward),
            with_scale=with_scale if rescaled else None,
            told=lambda: told(now[0]),
        )

    return around(make())
