"""What was seen of a training step as a bare step: its state, its batches and how it is called."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.adapters.step.arrangement import Arrangement, Outcome
from jaxrecipe.adapters.step.batches import TARGET_NAMES, Batches, no_batches, take_batches
from jaxrecipe.adapters.step.metrics import metrics_of
from jaxrecipe.adapters.step.of_step import BareStep, Tried, step_as_loop
from jaxrecipe.adapters.step.state import state_form
from jaxrecipe.adapters.watching.recording import (
    Kept,
    Recording,
    Slot,
    given_back,
    graph_given_back,
    on_host,
)
from jaxrecipe.adapters.watching.roles import Roles, roles_of

PMAPS = ("jax.pmap", "flax.nnx.pmap", "equinox.filter_pmap")
"""What gives every array of state and batch a first axis of devices."""
DIGITS = 4
"""Of the losses that notes name."""


def recorded_step(
    recording: Recording,
    *,
    targets: str | Sequence[str] | bool | None = True,
    loss: str | Callable[[Any], Any] | None = None,
    params: str | Sequence[str] | None = None,
) -> BareStep:
    """A watched step as a loop, with the state and the batches that it was seen to be given.

    Args:
        recording: of two calls or more.
        targets: names of the parts of a batch that are targets; None for none; True to guess.
        loss: which of the metrics is the loss, or how it is computed.
        params: paths of the parameters in the state; guessed by default.

    Raises:
        ValueError: a name that is given is not there.
    """
    roles = roles_of(recording)
    found = _batches_of(recording, roles, targets)
    call = _Caller(recording, roles)
    tried = _called_once(call, found)
    bare = step_as_loop(
        call,
        found,
        tried,
        loss=loss,
        params=params,
        name=recording.name,
        told=_told(recording, roles),
        keys=[_key_of(recording, roles, one.given) for one in recording.calls] if roles.keys else (),
    )
    losses = _losses(recording, roles, loss)
    notes = (f"The loss went from {losses[0]:.{DIGITS}g} to {losses[-1]:.{DIGITS}g} in these calls.",) if losses else ()
    assert bare.loop.facts is not None
    facts = replace(bare.loop.facts, notes=(*bare.loop.facts.notes, *notes))
    return replace(bare, loop=replace(bare.loop, facts=facts))


@dataclass(frozen=True)
class _Caller:
    """The watched step as `call(*state, batch, key)`; all other arguments are as they were seen."""

    recording: Recording
    roles: Roles

    def __call__(self, *given: Any) -> Any:
        state, (batch, key) = given[: len(self.roles.state)], given[len(self.roles.state) :]
        values = {**self._constants(), **dict(zip(self.roles.state, state, strict=True))}
        values |= _parts_of(batch, self.roles.batch, self.recording.slots) if self.roles.batch else {}
        values |= _keys_like(self.recording.calls[0].given, self.roles.keys, key)
        ordered = [(slot.place, values[index]) for index, slot in enumerate(self.recording.slots)]
        positional = [value for place, value in ordered if isinstance(place, int)]
        return self.recording.step(*positional, **{name: value for name, value in ordered if isinstance(name, str)})

    def _constants(self) -> dict[int, Any]:
        first, last = self.recording.calls[0].given, self.recording.calls[-1].given
        others = {*self.roles.state, *self.roles.batch, *self.roles.keys}
        chosen = {i: last.get(i, value) if i in self.roles.moving else value for i, value in first.items()}
        return {i: given_back(value) for i, value in chosen.items() if i not in others}


def _batch_of(given: Mapping[int, Any], indices: Sequence[int], slots: Sequence[Slot]) -> Any:
    """The arguments that hold data as one batch: by name where a name tells what is a target."""
    if len(indices) == 1:
        return on_host(given[indices[0]])
    names = [slots[i].name for i in indices]
    if any(name.lower() in TARGET_NAMES for name in names):
        return {name: on_host(given[i]) for name, i in zip(names, indices, strict=True)}
    return tuple(on_host(given[i]) for i in indices)


def _parts_of(batch: Any, indices: Sequence[int], slots: Sequence[Slot]) -> dict[int, Any]:
    """The way back: each argument from the batch."""
    if len(indices) == 1:
        return {indices[0]: batch}
    if isinstance(batch, Mapping):
        return {i: batch[slots[i].name] for i in indices}
    return dict(zip(indices, batch, strict=True))


def _batches_of(recording: Recording, roles: Roles, targets: Any) -> Batches:
    """The data that the step was given, each example once."""
    if not roles.batch:
        return no_batches(len(recording.calls))
    first = recording.calls[0].given
    given = [{i: call.given.get(i, first[i]) for i in roles.batch} for call in recording.calls]
    listed = [_batch_of(one, roles.batch, recording.slots) for one in given]
    found = take_batches(listed, most=len(listed), targets=targets, device_axis=recording.kind in PMAPS)
    again = _seen_again(found.examples)
    if not again.any():
        return found
    told = f"{int(again.sum())} of {len(again)} examples came more than once and are counted once."
    examples = jax.tree.map(lambda leaf: leaf[~again], found.examples)
    return replace(found, examples=examples, notes=(*found.notes, told))


def _seen_again(examples: Any) -> np.ndarray:
    """Which examples equal an earlier one in everything, targets too: the same one, drawn again."""
    rows: set[bytes] = set()
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(examples)]
    again = np.zeros(len(leaves[0]), bool)
    for index in range(len(again)):
        row = hashlib.sha256(b"".join(leaf[index].tobytes() for leaf in leaves)).digest()
        again[index] = row in rows
        rows.add(row)
    return again


def _called_once(call: _Caller, found: Batches) -> Tried:
    """The step called on its first state and batch, to know what it returns."""
    recording, roles = call.recording, call.roles
    arrangement = Arrangement(("state", "batch", "key"), state=True)
    form = state_form(_first_state(recording, roles), [recording.slots[i].name for i in roles.state])
    pieces = form.rebuilt(
        jax.tree.map(lambda leaf: leaf.copy() if hasattr(leaf, "copy") else leaf, form.held(form.pieces))
    )
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, found.first)
    result = call(*pieces, batch, jax.random.key(0))
    lost = tuple(recording.slots[i].name for i in roles.lost)
    return Tried(arrangement, form, Outcome(roles.places, lost), lambda key: key, result, pieces)


def _first_state(recording: Recording, roles: Roles) -> list[Any]:
    graph = graph_given_back(recording.graph) if recording.graph else {}
    given = recording.calls[0].given
    return [graph[i] if i in graph else given_back(given[i]) for i in roles.state]


def _keys_like(given: Mapping[int, Any], indices: Sequence[int], key: PRNGKeyArray) -> dict[int, Any]:
    """Keys of the kinds that the step was given, all drawn from one."""

    def like(leaf: Any) -> Any:
        number = next(count)
        values = leaf.values if isinstance(leaf, Kept) else leaf
        bits = jax.random.bits(jax.random.fold_in(key, number), values.shape, values.dtype)
        typed = isinstance(leaf, Kept) and leaf.impl is not None
        return jax.random.wrap_key_data(bits, impl=leaf.impl) if typed else bits

    count = iter(range(len(jax.tree.leaves([given[i] for i in indices]))))
    return {i: jax.tree.map(like, given[i]) for i in indices}


def _key_of(recording: Recording, roles: Roles, given: Mapping[int, Any]) -> Any:
    """The keys of a call: the key itself where there is one, else all of them by name."""
    found = {recording.slots[i].name: given_back(given[i]) for i in roles.keys}
    return next(iter(found.values())) if len(found) == 1 else found


def _told(recording: Recording, roles: Roles) -> str:
    """What was watched, and what its arguments were taken for."""
    names = [slot.name for slot in recording.slots]
    kinds = {
        "state": roles.state,
        "data": roles.batch,
        "key": roles.keys,
        "of its last value": roles.moving,
        "constant": [i for i in range(len(names)) if i not in {*roles.state, *roles.batch, *roles.keys, *roles.moving}],
    }
    shown = [f"{kind}: {', '.join(names[i] for i in indices)}" for kind, indices in kinds.items() if indices]
    calls = f"{len(recording.calls)} calls of {recording.name} ({recording.kind}; {recording.where}) were watched"
    return f"{calls}, its arguments taken as {'; '.join(shown)}"


def _losses(recording: Recording, roles: Roles, loss: Any) -> list[float]:
    """The losses that the calls returned, as far as it is known which number is the loss."""
    if callable(loss):
        return []
    states = [tuple(map(str, place)) for place in roles.places if place is not None]
    found = []
    for call in recording.calls:
        numbers = {
            "/".join(path) or "value": number
            for path, number in call.numbers.items()
            if not any(path[: len(state)] == state for state in states)
        }
        found.append(metrics_of(numbers, loss, ()).get("loss"))
    return [float(one) for one in found if one is not None]
