"""Loops written by hand around a task, right unless told otherwise: the faults that people make in their own steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrecipe.checks.clocks import clocks, with_clocks
from jaxrecipe.task import Loop, Task

State = dict[str, Any]


def loop_with(task: Task, fault: str = "", **options: Any) -> Task:
    """The task with a loop of its own that has one fault, or none.

    The step holds its own key and derives dropout from it, as many do, so that the key that it is given is not the model's.
    """
    return task.replace(loop=make_loop(task, fault, **options))


def make_loop(task: Task, fault: str = "", *, every: int = 3, decay: float = 0.9) -> Loop:
    optimizer = task.optimizer

    def init(key: Any) -> State:
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf[: task.batch_size]), task.train)
        inputs, _ = task.prepare(*first) if task.prepare else first
        params, stats = task.model.init(key, inputs)
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {
            "params": params,
            "stats": stats,
            "opt": optimizer.init(params),
            "sum": zeros,
            "average": jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params),
            "step": jnp.zeros((), jnp.int32),
            "key": jax.random.key(11),
        }

    def gradients(state: State, inputs: Any, targets: Any, key: Any) -> Any:
        def loss_of(params: Any) -> Any:
            train = fault != "evaluation mode"
            outputs, stats = task.model.apply(params, state["stats"], inputs, train=train, key=key)
            losses = task.loss(outputs, targets)
            return (losses.sum() if fault == "sum" else losses.mean()), stats

        return jax.value_and_grad(loss_of, has_aux=True)(state["params"])

    @jax.jit
    def step(state: State, inputs: Any, targets: Any, key: Any) -> tuple[State, dict[str, Any]]:
        drop = jax.random.fold_in(jax.random.fold_in(state["key"], 5), state["step"])
        (loss, stats), grads = gradients(state, inputs, targets, drop)
        new = {**state, "step": state["step"] + 1, "stats": state["stats"] if fault == "stats lost" else stats}
        with jax.numpy_dtype_promotion("standard"):
            new |= _updated(optimizer, state, grads, fault, every)
            new["average"] = optax.incremental_update(new["params"], state["average"], 1 - decay)
        return new, {"loss": loss}

    variables: Callable[[State], Any] = lambda state: (state["params"], state["stats"])  # noqa: E731
    if fault == "average":
        variables = lambda state: (state["average"], state["stats"])  # noqa: E731
    if fault == "same batch":
        held = []

        def stuck(state: State, inputs: Any, targets: Any, key: Any) -> Any:
            held.append((inputs, targets))
            return step(state, *held[0], key)

        return Loop(init=init, step=stuck, variables=variables)
    return Loop(init=init, step=step, variables=variables)


def _updated(optimizer: Any, state: State, grads: Any, fault: str, every: int) -> State:
    """The parts of a state that an update changes."""
    params, opt = state["params"], state["opt"]
    total = jax.tree.map(jnp.add, state["sum"], grads)
    if fault in ("collects", "collects the sum"):
        mean = jax.tree.map(lambda leaf: leaf / (1 if fault == "collects the sum" else every), total)
        updates, after = optimizer.update(mean, opt, params)
        due = (state["step"] + 1) % every == 0
        pick = lambda new, old: jax.tree.map(lambda a, b: jnp.where(due, a, b), new, old)  # noqa: E731
        return {
            "params": pick(optax.apply_updates(params, updates), params),
            "opt": pick(after, opt),
            "sum": pick(jax.tree.map(jnp.zeros_like, total), total),
        }
    if fault == "accumulates":
        grads = total
    if fault == "scaled loss":
        grads = jax.tree.map(lambda leaf: leaf * 1024.0, grads)
    if fault == "clips":
        grads = optax.clip_by_global_norm(0.2).update(grads, optax.EmptyState())[0]
    if fault == "clips to nothing":
        grads = optax.clip_by_global_norm(1e-2).update(grads, optax.EmptyState())[0]
    updates, after = optimizer.update(grads, opt, params)
    if fault == "not carried":
        after = opt
    if fault == "tenth":
        updates = jax.tree.map(lambda leaf: 0.1 * leaf, updates)
    if fault == "rate of its own":
        updates = jax.tree.map(lambda leaf: leaf / (1.0 + state["step"]), updates)
    if fault == "opposite":
        updates = jax.tree.map(jnp.negative, updates)
    if fault == "decays":
        updates = jax.tree.map(lambda u, p: u - 1e-3 * p, updates, params)
    if fault == "decay swamps":
        updates = jax.tree.map(lambda u, p: u - 0.2 * p, updates, params)
    if fault == "noise":
        updates = jax.tree.map(lambda u: u * jnp.sin(jnp.arange(u.size, dtype=u.dtype)).reshape(u.shape), updates)
    if fault == "freezes":
        updates = {**updates, "hidden": jax.tree.map(jnp.zeros_like, updates["hidden"])}
    if fault == "schedule stands":
        after = with_clocks(after, clocks(after), 0)
    if fault == "counters stand":
        after = jax.tree.map(lambda new, old: old if jnp.issubdtype(new.dtype, jnp.integer) else new, after, opt)
    moved = params if fault == "thrown away" else optax.apply_updates(params, updates)
    return {"params": moved, "opt": after, "sum": total}
