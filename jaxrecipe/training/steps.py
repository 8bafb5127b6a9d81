"""Training as a generator of states and metrics: what `fit` is built on, and what to write one's own loop with."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrecipe import trees
from jaxrecipe.data.batches import Batch, batch_indices, index_batches, stream
from jaxrecipe.data.device import fits_on_device, gather, to_device
from jaxrecipe.data.sources import Source, as_source
from jaxrecipe.training.state import TrainState, init_state
from jaxrecipe.training.step import make_train_step, prepare_batch

if TYPE_CHECKING:
    from jaxrecipe.task import Task

Call = Callable[..., tuple[TrainState, Mapping[str, Array]]]


def new_state(task: "Task", *, seed: int = 0) -> TrainState:
    """A fresh state at step 0, as `fit` makes it: seeded, with the first training batch for the shapes."""
    source = as_source(task.train)
    indices, _ = batch_indices(seed, 0, source.size, min(task.batch_size, source.size))
    inputs, _ = prepare_batch(task, *jax.tree.map(jnp.asarray, source.gather(indices)))
    return init_state(task, jax.random.key(seed), inputs)


def train_steps(
    task: "Task",
    state: TrainState,
    *,
    steps: int,
    seed: int = 0,
    steps_per_call: int = 1,
    resident: bool | None = None,
) -> Generator[tuple[TrainState, dict[str, Array]], None, None]:
    """Train from `state` until step `steps`, yielding `(state, metrics)` after each call of the compiled step.

    Does not wait for the device: read the metrics of one call after the next one is under way, and the device is never
    idle. The given state is copied and stays usable. A yielded state is donated to the next call: use it before asking
    for more, or keep `trees.copy(state)`. The batch of each step follows from (seed, step) alone, so a state at step s
    goes on as if it had never stopped.

    Args:
        task: the training set-up.
        state: where to start, from `new_state` or a checkpoint.
        steps: at which global step to stop, those taken before included.
        seed: of the order of the batches.
        steps_per_call: how many steps to run by `jax.lax.scan` in one call, for steps so short that dispatching them
            costs more than they do. The last call may be shorter, which compiles a second program.
        resident: keep the training data on the device in their own dtype (True), stream them (False), or decide by
            size.

    Yields:
        The state and the metrics of `make_train_step`, each `[steps of this call]`.

    Raises:
        ValueError: steps_per_call < 1, or the state is beyond `steps` already.
    """
    if steps_per_call < 1:
        raise ValueError(f"got steps_per_call={steps_per_call}; wanted 1 or more")
    source = as_source(task.train)
    state = trees.copy(state)
    start = int(state.step)
    if start > steps:
        raise ValueError(f"the state is at step {start} already; asked was to train until step {steps}")
    if resident or (resident is None and fits_on_device(source)):
        calls = _resident_calls(task, source, seed, start, steps, steps_per_call)
    else:
        calls = _streamed_calls(task, source, seed, start, steps, steps_per_call)
    with contextlib.closing(calls):
        for call, arguments in calls:
            state, metrics = call(state, *arguments)
            yield state, dict(metrics)


def _resident_calls(
    task: "Task", source: Source, seed: int, start: int, steps: int, steps_per_call: int
) -> Generator[tuple[Call, tuple[Any, ...]], None, None]:
    """The compiled call and its arguments for data that lie on the device: only indices and masks travel."""
    step = make_train_step(task)
    data = to_device(source)

    def call(state: TrainState, data: Any, indices: Array, masks: Array) -> tuple[TrainState, Mapping[str, Array]]:
        def one(state: TrainState, chosen: tuple[Array, Array]) -> tuple[TrainState, Mapping[str, Array]]:
            inputs, targets = gather(data, chosen[0])
            return step(state, Batch(inputs, targets, chosen[1]))

        return _in_turn(one, state, (indices, masks))

    compiled = jax.jit(call, donate_argnums=0)
    batches = index_batches(seed, source.size, min(task.batch_size, source.size), start=start)
    for taken in _pieces(islice(batches, max(0, steps - start)), steps_per_call):
        indices, masks = zip(*taken, strict=True)
        yield compiled, (data, np.stack(indices).astype(np.int32), np.stack(masks))


def _streamed_calls(
    task: "Task", source: Source, seed: int, start: int, steps: int, steps_per_call: int
) -> Generator[tuple[Call, tuple[Any, ...]], None, None]:
    """The compiled call and its arguments for data that are read while the device computes."""
    step = make_train_step(task)

    def call(state: TrainState, batches: tuple[Batch, ...]) -> tuple[TrainState, Mapping[str, Array]]:
        return _in_turn(step, state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches))

    compiled = jax.jit(call, donate_argnums=0)
    size = min(task.batch_size, source.size)
    batches = stream(source, seed=seed, batch_size=size, start=start, steps=max(0, steps - start))
    with contextlib.closing(batches):
        for taken in _pieces(batches, steps_per_call):
            yield compiled, (tuple(taken),)


def _pieces(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last one perhaps shorter."""
    while piece := list(islice(items, size)):
        yield piece


def _in_turn(step: Call, state: TrainState, each: Any) -> tuple[TrainState, Mapping[str, Array]]:
    """Several steps one after the other; a single one without the loop around it."""
    if jax.tree.leaves(each)[0].shape[0] > 1:
        return jax.lax.scan(step, state, each)
    state, metrics = step(state, jax.tree.map(lambda leaf: leaf[0], each))
    return state, jax.tree.map(lambda metric: metric[None], metrics)
