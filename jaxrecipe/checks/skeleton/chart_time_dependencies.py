"""Use backprop to chart dependencies, along time: what output t sees, and whether its target is among it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxrecipe.probes.dependencies import (
    awake,
    flat_outputs,
    loss_alignment,
    movement,
    on_host,
    precision_of,
    replaced,
)
from jaxrecipe.report.result import Matrix, Result, Status, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens

_result = partial(unsorted_result, name="chart_time_dependencies", stage="skeleton")
OFFSETS = range(-3, 4)
"""How far apart a target and the input that it equals are looked for."""


def chart_time_dependencies(setup: Setup, *, key: PRNGKeyArray, positions: int = 8, match: float = 0.99) -> Result:
    """An output that predicts the next step has not seen it, and nothing behind it.

    What it does: changes the inputs at one position after the other and notes which outputs change: a chart of what output t sees. Then it finds
    out which target the loss holds against output t (by changing targets and watching the gradient) and which input position that target equals,
    if any. A model that is declared causal must not see beyond t; and no model may see the very input that is its target.

    Why it matters: a causal mask that is missing or off by one, or targets that are not shifted, give a loss that falls wonderfully and a model
    that has learnt to copy. Targets that are shifted twice give a model that is asked for the step after the next.

    What to do: mask scores above the diagonal (`jnp.tril(jnp.ones((T, T)))`) before the softmax; shift once: inputs `tokens[:, :-1]`, targets
    `tokens[:, 1:]`. Declare `causal=True` for an autoregressive model.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode.
        positions: how many positions are changed, spread over time, the first ones and the last one among them.
        match: the share of the targets of a batch that equal an input at a fixed distance, from which on they count as that input.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "use backprop to chart dependencies".
    """
    axis = _time_axis(setup)
    if isinstance(axis, str):
        return _result(status=Status.SKIP, finding=axis)
    chart = _chart(setup, axis, key, positions)
    if not chart.seen.any():
        finding = "No output depends on any position of the inputs; see chart_input_dependencies."
        return _result(status=Status.SKIP, finding=finding)
    relation = _relation(setup, axis, chart, match)
    measured: dict[str, Any] = {
        "positions that output t sees ahead": chart.ahead,
        "outputs that see the future": chart.leaking,
    }
    expected: dict[str, Any] = {}
    if setup.task.causal:
        expected["positions that output t sees ahead"] = "0 or less"
    if relation is not None:
        measured["distance from output t to its target among the inputs"] = relation
        expected["distance from output t to its target among the inputs"] = chart.ahead + 1
    status, finding, hint = _judge(setup, chart, relation)
    evidence = (_matrix(chart),)
    return _result(status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=evidence)


@dataclass(frozen=True)
class Axis:
    """The time axis that inputs and outputs share: its length, and which input leaves (by index) lie along it."""

    length: int
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class Chart:
    """`strength[t, k]`: how far output t moves when the input at `positions[k]` changes, as a share of the outputs' spread."""

    strength: np.ndarray
    positions: np.ndarray
    tolerance: float

    @property
    def seen(self) -> Bool[np.ndarray, "time positions"]:
        """Which outputs depend on which of the positions."""
        return self.strength > self.tolerance

    @property
    def distances(self) -> set[int]:
        """Every `s - t` such that output t sees input s."""
        outputs, which = np.nonzero(self.seen)
        return set((self.positions[which] - outputs).tolist())

    @property
    def ahead(self) -> int:
        """How far an output sees at most: 0 for a causal model, negative for one that does not see its own position."""
        return max(self.distances)

    @property
    def leaking(self) -> int:
        """How many outputs depend on a later position."""
        return int((self.seen & (self.positions[None, :] > np.arange(len(self.strength))[:, None])).any(axis=1).sum())


def _time_axis(setup: Setup) -> Axis | str:
    """The time axis, or in words why there is none to look at."""
    if not (setup.task.causal or isinstance(setup.task.target, Tokens)):
        return "Nothing is predicted along time: the target is not Tokens, and the task is not declared causal=True."
    inputs, _ = setup.batch
    predicted, _ = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)
    outputs = [leaf for leaf in jax.tree.leaves(predicted) if leaf.ndim >= 2]
    lengths = {leaf.shape[1] for leaf in outputs if leaf.ndim >= 3} or {leaf.shape[1] for leaf in outputs}
    if len(lengths) != 1:
        return "The outputs have no one time axis, [batch, time, ...], to chart."
    length = lengths.pop()
    along = [i for i, leaf in enumerate(jax.tree.leaves(inputs)) if leaf.ndim >= 2 and leaf.shape[1] == length]
    kept = [i for i in along if not _is_mask(np.asarray(jax.tree.leaves(inputs)[i]))] or along
    if length < 3 or not kept:
        return f"No input has the time axis of the outputs, [batch, {length}, ...], or it is too short to chart."
    shifted = [i for i in kept if _offsets(setup, i, 0.99)]
    return Axis(length, tuple(shifted if len(shifted) < len(kept) and shifted else kept))


def _is_mask(leaf: np.ndarray) -> bool:
    return leaf.dtype == np.bool_ or (leaf.ndim == 2 and bool(np.isin(leaf, (0, 1)).all()))


def _chart(setup: Setup, axis: Axis, key: PRNGKeyArray, count: int) -> Chart:
    """What each output sees; in training mode too, unless statistics of the batch mix the positions there."""
    length = axis.length
    spread = {0, 1, 2, length - 1, *np.linspace(0, length - 1, max(count, 4)).astype(int).tolist()}
    chosen = np.array(sorted(spread, key=lambda s: (s not in (0, 1, length - 1), s))[: max(count, 4)])
    chosen.sort()
    params = awake(setup.params, key)
    modes = (False,) if jax.tree.leaves(setup.model_state) else (False, True)
    strength = np.zeros((length, len(chosen)))
    for train in modes:
        forward = partial(setup.forward, params, setup.model_state, train=train, key=key)
        strength = np.maximum(strength, _strength(lambda inputs: forward(inputs)[0], setup.batch[0], axis, chosen))  # noqa: B023
    return Chart(strength=strength, positions=chosen, tolerance=max(1e-5, 10 * precision_of(setup)))


def _strength(
    forward: Callable[[Any], Any], inputs: Any, axis: Axis, chosen: np.ndarray
) -> Float[np.ndarray, "time positions"]:
    """How far each output moves when one position of the inputs changes in every example."""
    leaves, structure = jax.tree.flatten(on_host(inputs))

    def outputs(leaves: list[np.ndarray]) -> np.ndarray:
        found = [np.asarray(leaf) for leaf in jax.tree.leaves(forward(jax.tree.unflatten(structure, leaves)))]
        return flat_outputs([leaf for leaf in found if leaf.ndim >= 2 and leaf.shape[1] == axis.length], lead=2)

    clean, columns = outputs(leaves), []
    for position in chosen:
        where = np.zeros((len(clean), axis.length), bool)
        where[:, position] = True
        changed = [replaced(leaf, where) if i in axis.leaves else leaf for i, leaf in enumerate(leaves)]
        columns.append(np.minimum(movement(clean, outputs(changed), lead=2).max(axis=0), 1e6))
    return np.stack(columns, axis=1)


def _offsets(setup: Setup, leaf: int, match: float) -> list[int]:
    """Every d such that the target at position t equals the input at t + d, in nearly every row and position of a batch."""
    inputs, targets = on_host(setup.batch if setup.task.augment is None else setup.training_batch(0))
    seen = jax.tree.leaves(inputs)[leaf]
    if not isinstance(targets, np.ndarray) or targets.ndim < 2 or targets.shape[1:] != seen.shape[1:]:
        return []
    pad = setup.task.target.pad if isinstance(setup.task.target, Tokens) else None
    length, found = targets.shape[1], []
    for d in OFFSETS:
        rows = slice(max(0, -d), length - max(0, d))
        wanted, given = targets[:, rows], seen[:, max(0, d) : length + min(0, d)]
        counted = np.ones(wanted.shape, bool) if pad is None else wanted != pad
        if counted.sum() >= 20 and np.isclose(wanted, given)[counted].mean() >= match:
            found.append(d)
    return found


def _relation(setup: Setup, axis: Axis, chart: Chart, match: float) -> int | None:
    """Where among the inputs the target of output t stands, relative to t; None when it is not there, or not at one place.

    Of several places (repetitive rows) the one that a sound set-up has wins.
    """
    by_leaf = [_offsets(setup, leaf, match) for leaf in axis.leaves]
    offsets = next((offsets for offsets in by_leaf if offsets), [])
    shift = loss_alignment(setup) if offsets else None
    if not offsets or shift is None:
        return None
    places = [shift + d for d in offsets]
    return (
        chart.ahead + 1
        if chart.ahead + 1 in places
        else min(places, key=lambda place: (place not in chart.distances, place))
    )


def _judge(setup: Setup, chart: Chart, relation: int | None) -> tuple[Status, str, str]:
    """Status, finding and hint."""
    causal, ahead, length = setup.task.causal, chart.ahead, len(chart.strength)
    visible = relation is not None and relation in chart.distances and relation <= ahead
    leak = f"{chart.leaking} of {length} outputs depend on later inputs, up to {ahead} positions ahead"
    if ahead > 0 and (causal or (visible and relation is not None and relation > 0)):
        asked = "although the task is declared causal" if causal else f"and their target is the input {relation} ahead"
        return Status.FAIL, f"{leak}, {asked}.", OFF_BY_ONE if ahead == 1 < length - 2 else NO_MASK
    if visible and (causal or ahead <= 0):
        finding = f"The target of output t is the input at {_place(relation)}, which output t sees."
        return (Status.FAIL if causal or min(chart.distances) < ahead else Status.WARN), finding, COPY
    if isinstance(setup.task.target, Tokens) and relation is not None and relation > ahead + 1:
        finding = f"The target of output t is the input at {_place(relation)}, but output t sees nothing after {_place(ahead)}."
        return Status.FAIL, finding, SKIPS
    if ahead <= 0:
        known = f", and its target is the input at {_place(relation)}" if relation is not None else ""
        return Status.PASS, f"Output t sees inputs up to {_place(ahead)}{known}.", ""
    return Status.PASS, f"Outputs see later inputs, up to {ahead} ahead, and nothing says that they must not.", ""


def _place(distance: int | None) -> str:
    return "t" if not distance else f"t{distance:+d}"


NO_MASK = (
    "The causal mask is missing, transposed, or applied in another place (after the softmax, or to one layer only): mask the scores above the diagonal with "
    "jnp.tril before the softmax; pad convolutions on the left only; run recurrent layers forwards. If the model may see the future, do not declare causal."
)
OFF_BY_ONE = (
    "The causal mask (or the left padding of a convolution) is off by one: each output sees the next position as well. Use jnp.tril(..., k=0), and pad "
    "kernel size - 1 on the left."
)
COPY = (
    "The targets are not shifted (off by one): the model is asked for a token that it is given, and learns to copy. Shift once: inputs tokens[:, :-1], targets "
    "tokens[:, 1:], or shift inside the loss. If it is an autoencoder, it sees its target rightly: do not declare causal."
)
SKIPS = "The targets are shifted twice (off by one the other way): in the data and again in the loss or the model, so that the next token is skipped. Shift once."


def _matrix(chart: Chart, most: int = 32) -> Matrix:
    rows = np.unique(np.linspace(0, len(chart.strength) - 1, min(most, len(chart.strength))).astype(int))
    return Matrix(
        title="Which inputs each output depends on along time",
        values=np.where(chart.seen, chart.strength, 0.0)[rows],
        row_label="output at position",
        column_label="input at position",
        row_names=[str(t) for t in rows],
        column_names=[str(s) for s in chart.positions],
        log=True,
    )
