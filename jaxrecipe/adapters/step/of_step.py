"""A bare training step as a Loop: called as its author calls it, on copies of what it is given."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.adapters.common import Path, name_of
from jaxrecipe.adapters.step.arrangement import (
    MOST_ERRORS,
    Arrangement,
    Outcome,
    arrangements,
    at_place,
    outcome_of,
    without,
)
from jaxrecipe.adapters.step.batches import Batches, no_batches, take_batches
from jaxrecipe.adapters.step.metrics import metrics_of, without_metrics
from jaxrecipe.adapters.step.state import Held, StateForm, parameters_in, replaced, state_form, taken
from jaxrecipe.parts import Loop, StepFacts

MakeKey = Callable[[PRNGKeyArray], Any]


@dataclass(frozen=True)
class BareStep:
    """What is known of a training set-up that is a step, a state and batches.

    Attributes:
        loop: the step in the form of a loop.
        batches: what was taken of the batches.
        name: of the step.
    """

    loop: Loop
    batches: Batches
    name: str


@dataclass(frozen=True)
class Tried:
    """A way of calling the step that worked.

    Attributes:
        arrangement: in which order.
        form: of the state.
        outcome: where the new state is.
        make_key: what the step takes for a key.
        result: what it returned.
        pieces: of the state after it, as far as they are changed in place.
    """

    arrangement: Arrangement
    form: StateForm
    outcome: Outcome
    make_key: MakeKey
    result: Any
    pieces: tuple[Any, ...]


def bare_step(
    step: Callable[..., Any],
    state: Any,
    batches: Any,
    *,
    key: Any = None,
    take: int = 64,
    targets: str | Sequence[str] | bool | None = True,
    loss: str | Callable[[Any], Any] | None = None,
    params: str | Sequence[str] | None = None,
) -> BareStep:
    """Find out how a step is called, by calling it once on copies, and make a loop of it.

    Args:
        step: takes state, batch and perhaps a key in any order, whole or in pieces, and gives the new state back, or
            changes Flax NNX objects in place.
        state: the first state; a tuple of several arguments where the step takes several.
        batches: a list, an iterator, a loader, or a function `batches(epoch)`; None for a step that makes its own data.
        key: an example of the key that the step takes, where it takes another than `jax.random.key(0)`.
        take: batches that are taken at most.
        targets: names of the parts of a batch that are targets; None for none; True to guess.
        loss: which of the metrics is the loss, or a function of what the step returns beside the state; by default the
            one called "loss", or the only number.
        params: paths of the parameters in the state; guessed by default.

    Raises:
        TypeError: the step cannot be called on this state and batch in any usual way; says what was tried.
        ValueError: there is no batch, or a name that is given is not there.
    """
    devices = _has_device_axis(state)
    if batches is None:
        found = no_batches(take)
    else:
        found = take_batches(batches, most=take, targets=targets, device_axis=devices > 0)
    tried = _arranged(step, state, found.first, _keys_to_try(key, devices))
    return step_as_loop(step, found, tried, loss=loss, params=params)


def step_as_loop(
    step: Callable[..., Any],
    found: Batches,
    tried: Tried,
    *,
    loss: str | Callable[[Any], Any] | None = None,
    params: str | Sequence[str] | None = None,
    name: str | None = None,
    told: str | None = None,
    keys: Sequence[Any] = (),
) -> BareStep:
    """A step as a loop, once it is known how it is called.

    Args:
        step: the step.
        found: its batches.
        tried: how it is called, and a call of it.
        loss: which of the metrics is the loss, or how it is computed.
        params: paths of the parameters in the state.
        name: of the step, where it is not that of the function.
        told: how the step is called, in words.
        keys: that it was seen to be called with.

    Raises:
        ValueError: a name that is given is not there.
    """
    arrangement, outcome = tried.arrangement, tried.outcome
    after = _pieces_after(tried.pieces, outcome, tried.result)
    form = tried.form.with_fixed(after)
    metrics_of(_beside_state(outcome, tried.result), loss, after)  # a name that is not there is said now
    first = form.held(form.pieces)
    places = _parameter_places(form, first, params)

    told = told or f"The step is called as {arrangement.described()}"

    def init(_: PRNGKeyArray) -> Held:
        return _copied(first)

    def call(held: Held, inputs: Any, targets: Any, key: PRNGKeyArray) -> tuple[Held, Mapping[str, Any]]:
        pieces = without_metrics(form.rebuilt(held))
        given = pieces if arrangement.state else pieces[0]
        positional, named = arrangement.arguments(given, found.join(inputs, targets), tried.make_key(key))
        result = step(*positional, **named)
        new = _pieces_after(pieces, outcome, result)
        return form.held(new), metrics_of(_beside_state(outcome, result), loss, new)

    loop = Loop(
        init=init,
        step=call,
        variables=lambda held: (taken(held, places), {}),
        with_params=lambda held, values: replaced(held, places, values),
        facts=StepFacts(
            unreturned=outcome.unreturned,
            takes_key="key" in arrangement.order or bool(arrangement.key_name),
            keys=tuple(keys),
            whole_batches=found.whole,
            no_data=not found.batches,
            notes=(f"{told}; parameters are taken to be {_named(places)}.", *found.notes),
        ),
    )
    return BareStep(loop, found, name or name_of(step))


def _beside_state(outcome: Outcome, result: Any) -> Any:
    """What a step returned beside the state."""
    return without(result, [place for place in outcome.places if place is not None])


def _named(places: Sequence[Path]) -> str:
    shown = ["/".join(place) for place in places[:MOST_ERRORS]]
    return ", ".join(shown) + (f" and {len(places) - len(shown)} more" if len(places) > len(shown) else "")


def _parameter_places(form: StateForm, first: Held, params: str | Sequence[str] | None) -> tuple[Path, ...]:
    """Where the parameters stand.

    Raises:
        ValueError: a path that the user names is not there.
    """
    if params is None:
        return parameters_in(form, first)
    chosen = tuple(tuple(path.split("/")) for path in ([params] if isinstance(params, str) else params))
    for path in chosen:
        inner: Any = first
        for part in path:
            if not isinstance(inner, Mapping) or part not in inner:
                names = ", ".join(map(str, inner)) if isinstance(inner, Mapping) else "an array"
                raise ValueError(f"params: the state has no {'/'.join(path)}; at {part!r} there is {names}")
            inner = inner[part]
    return chosen


def _has_device_axis(state: Any) -> int:
    """Devices along the first axis of every array of a state that was replicated for pmap; 0 where it was not."""
    shapes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype")}
    count = jax.local_device_count()
    return count if shapes == {(count,)} else 0


def _keys_to_try(key: Any, devices: int) -> list[MakeKey]:
    """Forms of a key that a step may take: typed or raw, one for all devices or one for each, or several by name."""

    def made(raw: bool, split: int, key: PRNGKeyArray) -> Any:
        typed = jax.random.split(key, split) if split else key
        return jax.random.key_data(typed) if raw else typed

    if key is None:
        return [partial(made, raw, devices) for raw in (False, True)]
    leaves, structure = jax.tree.flatten(key)
    forms = []
    for leaf in leaves:
        raw = not jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
        axes = np.ndim(leaf) - (1 if raw else 0)
        forms.append(partial(made, raw, np.shape(leaf)[0] if axes else 0))

    def several(key: PRNGKeyArray) -> Any:
        return structure.unflatten([form(jax.random.fold_in(key, index)) for index, form in enumerate(forms)])

    return forms if jax.tree_util.treedef_is_leaf(structure) else [several]


def _arranged(step: Callable[..., Any], state: Any, batch: Any, keys: Sequence[MakeKey]) -> Tried:
    """The first way of calling the step that works and gives the state back.

    Raises:
        TypeError: none does.
    """
    failures = []
    for one in arrangements(step, state, batch):
        form = _form_for(one, step, state)
        before = form.held(form.pieces)
        for make_key in keys if "key" in one.order or one.key_name else keys[:1]:
            pieces = form.rebuilt(_copied(before))
            given = pieces if one.state else pieces[0]
            shown = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, batch)
            positional, named = one.arguments(given, shown, make_key(jax.random.key(0)))
            try:
                result = step(*positional, **named)
            except Exception as error:
                failures.append(f"{one.described()}: {type(error).__name__}: {_first_line(error)}")
                continue
            outcome = outcome_of(form, before, pieces, result)
            if outcome is not None:
                return Tried(one, form, outcome, make_key, result, pieces)
            failures.append(f"{one.described()}: ran, but gave no state like the one that it was given")
    tried = "; ".join(failures[:MOST_ERRORS]) or "no usual order fits its parameters"
    raise TypeError(
        f"{name_of(step)} could not be called as a training step ({tried}). Wanted step(state, batch) or "
        "step(state, batch, key), which gives the new state back. Wrap it: jr.Task.from_step(lambda state, batch, key: "
        "..., state, batches)."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _form_for(one: Arrangement, step: Callable[..., Any], state: Any) -> StateForm:
    """The pieces of the state under the names of the parameters that they are given as."""
    pieces = tuple(state) if one.state else (state,)
    names = _names_of(one, step, len(pieces))
    return state_form(pieces, names)


def _names_of(one: Arrangement, step: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(step).parameters)
    except (TypeError, ValueError):
        parameters = []
    start = one.order.index("state")  # a batch of several parts may stand before it, a key may
    start += sum(1 for role in one.order[:start] if role == "batch" and one.batch == "parts")
    names = parameters[start : start + count]
    return names if len(names) == count else (["state"] if count == 1 else [f"state_{i}" for i in range(count)])


def _copied(held: Held) -> Held:
    """The same arrays in buffers of their own, where the originals lie; Python numbers stay what they are."""
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, jax.Array | np.ndarray) else leaf, held)


def _pieces_after(pieces: Sequence[Any], outcome: Outcome, result: Any) -> tuple[Any, ...]:
    """The pieces of the new state: those that came back, and those that were changed in place."""
    return tuple(
        piece if place is None else at_place(result, place) for piece, place in zip(pieces, outcome.places, strict=True)
    )
