"""jmp, as its README trains: policy, scale, unscale, clip after unscaling, all_finite, adjust, select_tree over
everything.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jmp
import optax

from experiments.precision_peers import in_jax
from experiments.precision_peers.common import Options, Trainer


def scaling(options: Options) -> Any:
    """The loss scale asked for; by default the 2**15 of the README."""
    if options.static is not None:
        return jmp.StaticLossScale(options.static)  # pyright: ignore[reportArgumentType]  (as in the README)
    changes: dict[str, Any] = {}
    if options.growth_every is not None:
        changes["period"] = options.growth_every
    if options.floor is not None:
        changes["min_loss_scale"] = jnp.asarray(options.floor)
    # The README's `jmp.half_dtype()(2 ** 15)` raises in adjust (float16 against float32); the docstring's float32
    # does not.
    return jmp.DynamicLossScale(jnp.asarray(options.initial or 2.0**15), **changes)


def make(options: Options) -> Trainer:
    """See the module."""
    policy = jmp.get_policy(f"params=float32,compute={options.half},output=float32")
    # The README applies gradient clipping after unscaling, before the finite check; the optimizer proper comes
    # after it.
    clip = optax.clip(options.clip) if options.clip is not None else optax.identity()
    optimizer = in_jax.optimizer(Options(schedule=options.schedule))

    def begin() -> Any:
        params, stats = in_jax.start()
        return {"params": params, "stats": stats, "opt": optimizer.init(params), "scale": scaling(options)}

    def step(state: Any, rows: Any) -> tuple[Any, Any]:
        def scaled(params: Any) -> tuple[Any, Any]:
            params, inputs = policy.cast_to_compute((params, rows))
            loss = in_jax.loss(options, inputs @ params["w"])
            return state["scale"].scale(loss), in_jax.moved(state["stats"], rows)

        (loss, stats), grads = jax.value_and_grad(scaled, has_aux=True)(state["params"])
        grads = state["scale"].unscale(grads)
        loss = state["scale"].unscale(loss)
        grads, _ = clip.update(grads, clip.init(grads))
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        new = (optax.apply_updates(state["params"], updates), stats, opt)
        scale = state["scale"]
        if isinstance(scale, jmp.DynamicLossScale):
            finite = jmp.all_finite(grads)
            scale = scale.adjust(finite)
            new = jmp.select_tree(finite, new, (state["params"], state["stats"], state["opt"]))
        return {"params": new[0], "stats": new[1], "opt": new[2], "scale": scale}, loss

    return in_jax.trainer(
        begin,
        step,
        weights=lambda state: state["params"]["w"],
        stats=lambda state: state["stats"],
        scale=lambda state: state["scale"].loss_scale,
        rescaled=lambda state, static: {**state, "scale": scaling(Options(static=static))},
    )
