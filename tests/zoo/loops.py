"""Loops written by hand around a task, right unless told otherwise: the faults that people make in their own steps."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from flax.training.train_state import TrainState

from jaxrecipe import trees
from jaxrecipe.parts import Loop
from jaxrecipe.probes.schedules import schedule_counters, with_counters
from jaxrecipe.task import Task

State = dict[str, Any]


def loop_with(task: Task, fault: str = "", **options: Any) -> Task:
    """The task with a loop of its own that has one fault, or none.

    The step holds its own key and derives dropout from it, as many do, so that the key that it is given is not the
    model's.
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
        after = with_counters(after, schedule_counters(after), 0)
    if fault == "counters stand":
        after = jax.tree.map(lambda new, old: old if jnp.issubdtype(new.dtype, jnp.integer) else new, after, opt)
    moved = params if fault == "thrown away" else optax.apply_updates(params, updates)
    return {"params": moved, "opt": after, "sum": total}


def evaluating(task: Task, fault: str = "", *, named: str = "loss") -> Task:
    """The task with a right loop whose evaluation has one fault, or none."""
    loop = make_loop(task)
    first = loop.init(jax.random.key(0))
    draws = [0]

    @partial(jax.jit, static_argnames="train")
    def forward(state: State, inputs: Any, key: Any, *, train: bool) -> Any:
        return task.model.apply(state["params"], state["stats"], inputs, train=train, key=key)[0]

    @jax.jit
    def score(outputs: Any, targets: Any) -> dict[str, Any]:
        return {
            "loss": task.loss(outputs, targets),
            **{name: metric(outputs, targets) for name, metric in task.all_metrics.items()},
        }

    def rows(state: State, inputs: Any, targets: Any) -> dict[str, np.ndarray]:
        if fault == "stale parameters":
            state = first
        if fault == "average":
            state = {**state, "params": state["average"]}
        if fault == "random":
            draws[0] += 1
        key = jax.random.key(draws[0])
        outputs = forward(state, inputs, key, train=fault in ("training mode", "random"))
        return {name: np.asarray(values, np.float64) for name, values in score(outputs, targets).items()}

    def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, Any]:
        if fault in ("training split", "test split"):
            inputs, targets = map(jnp.asarray, task.train if fault == "training split" else task.test)
            if task.prepare:
                inputs, targets = task.prepare(inputs, targets)
        if fault == "augments" and task.augment:
            inputs, targets = task.augment(jax.random.key(5), inputs, targets)
        size = len(jax.tree.leaves(inputs)[0])
        parts, counts = [], []
        for start in range(0, size, batch_size):
            batch = jax.tree.map(lambda leaf: leaf[start : start + batch_size], (inputs, targets))  # noqa: B023
            count = len(jax.tree.leaves(batch)[0])
            if fault == "refuses" and count < batch_size:
                raise ValueError(f"{count} examples do not fill a batch")
            if fault == "drops" and count < batch_size:
                continue
            if fault.startswith("pads") and count < batch_size:
                batch = jax.tree.map(lambda leaf: jnp.resize(leaf, (batch_size, *leaf.shape[1:])), batch)
            parts.append(rows(state, *batch))
            if fault == "pads right":
                parts[-1] = {name: values[:count] for name, values in parts[-1].items()}
            counts.append(count)
        found = (
            {name: _reduced([part[name] for part in parts], fault, batch_size) for name in parts[0]} if parts else {}
        )
        if fault == "per cent":
            found["accuracy"] *= 100
        if fault == "batch-wise":
            found = {"spread": float(np.mean([part["loss"].std() for part in parts])), **found}
        return {("eval_" + name if named == "prefixed" else name): value for name, value in found.items()}

    return task.replace(loop=replace(loop, evaluate=evaluate))


def _reduced(parts: list[np.ndarray], fault: str, batch_size: int) -> float:
    """The number of an evaluation from the values of its batches."""
    everything = np.concatenate(parts)
    match fault:
        case "batch means":
            return float(np.mean([part.mean() for part in parts]))
        case "wrong count":
            return float(everything.sum() / (len(parts) * batch_size))
        case "last batch":
            return float(parts[-1].mean())
        case "float16" | "bfloat16":
            total = jnp.zeros((), fault)
            for part in parts:
                total = total + jnp.asarray(part.sum(), fault)
            return float(total) / len(everything)
        case "sum":
            return float(everything.sum())
        case "other loss":
            return float(np.square(everything).mean())
    return float(everything.mean())


LOST = {"parameters": "params/", "statistics": "stats/", "optimizer": "opt/", "step": "step", "key": "key"}
"""What a checkpoint can leave out, and the start of the paths under which it stands in the state."""


def saving(task: Task, fault: str = "") -> Task:
    """The task with a right loop that saves its state with numpy, with one fault or none."""
    loop = make_loop(task)
    calls = [0]

    def plain(leaf: Any) -> np.ndarray:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    def save(state: State, directory: str) -> None:
        arrays = {path: plain(leaf) for path, leaf in trees.named_leaves(state).items()}
        if fault in LOST:
            arrays = {path: array for path, array in arrays.items() if not path.startswith(LOST[fault])}
        if fault == "half":
            arrays = {
                path: array.astype(np.float16) if array.dtype == np.float32 else array for path, array in arrays.items()
            }
        np.savez(Path(directory) / "state.npz", **arrays)

    def restore(directory: str, template: State) -> State:
        if fault == "raises":
            raise KeyError("opt")
        stored = np.load(Path(directory) / "state.npz")

        def one(path: str, leaf: Any) -> Any:
            if path not in stored:
                return leaf
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(jnp.asarray(stored[path]))
            if fault == "python counter" and path == "step":
                return int(stored[path])
            return jnp.asarray(stored[path])

        leaves = [one(path, leaf) for path, leaf in trees.named_leaves(template).items()]
        if fault == "structure":
            return dict(enumerate(leaves))
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def restless(state: State, inputs: Any, targets: Any, key: Any) -> Any:
        calls[0] += 1
        state, metrics = loop.step(state, inputs, targets, key)
        return {**state, "step": state["step"] + calls[0]}, metrics

    step = restless if fault == "restless" else loop.step
    if fault == "restore missing":
        return task.replace(loop=replace(loop, save=save))
    return task.replace(loop=replace(loop, step=step, save=save, restore=restore))


def train_state_in_init(task: Task, *, keep_moments: bool = True) -> Task:
    """A loop whose `init` makes a Flax TrainState, so that two states hold other closures of the same optimizer."""

    def init(key: Any) -> TrainState:
        params, _ = task.model.init(key, None)
        return TrainState.create(apply_fn=task.model.apply, params=params, tx=optax.adam(2e-3))

    @jax.jit
    def step(state: TrainState, inputs: Any, targets: Any, key: Any) -> tuple[TrainState, dict[str, Any]]:
        def mean_loss(params: Any) -> Any:
            return task.loss(state.apply_fn(params, {}, inputs, train=True, key=key)[0], targets).mean()

        loss, grads = jax.value_and_grad(mean_loss)(state.params)
        with jax.numpy_dtype_promotion("standard"):
            return state.apply_gradients(grads=grads), {"loss": loss}

    def save(state: TrainState, directory: str) -> None:
        (Path(directory) / "state").write_bytes(serialization.to_bytes(state))

    def restore(directory: str, template: TrainState) -> TrainState:
        restored: Any = serialization.from_bytes(template, (Path(directory) / "state").read_bytes())
        return restored if keep_moments else restored.replace(opt_state=template.opt_state)

    return task.replace(loop=Loop(init=init, step=step, variables=lambda s: (s.params, {}), save=save, restore=restore))
