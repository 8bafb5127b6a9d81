"""Use backprop to chart dependencies, the other way round: what of the inputs and parameters anything depends on."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.chart_input_dependencies.padding import (
    Padding,
    padded_inputs,
    padded_outputs,
    padded_targets,
)
from jaxrecipe.probes.dependencies import (
    awake,
    flat_outputs,
    join_floating,
    movement,
    on_host,
    replaced,
    split_floating,
)
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Images, Matrix, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="chart_input_dependencies", stage="skeleton")
MOVES = 1e-6
"""Outputs that move by more than this share of their spread have changed."""


def chart_input_dependencies(
    setup: Setup, *, key: PRNGKeyArray, ignored_features: float = 0.25, ignored_pixels: float = 0.75, parts: int = 16
) -> Result:
    """Every input and every parameter counts for something, and padding for nothing.

    What it does: charts by gradients (and by changed values, where there is no gradient) which input arrays, features, channels and pixels the
    outputs depend on, in evaluation and in training mode, and which parameters get a gradient. Where the data mark padding (`Tokens(pad=...)`,
    a mask or lengths among the inputs, a mask among the targets) it changes what stands there, which must not change the loss. Parameters that
    start at zero are drawn at random first.

    Why it matters: an input that is dropped on the way (sliced off, overwritten, multiplied by zero) is never missed by a program that trains
    on the rest. Padding that counts teaches the model to predict padding, and makes its result depend on the longest row beside it.

    What to do: follow the input that is named through the model. Multiply the losses of padded positions by the mask and divide by its sum; pass the
    mask to attention and pooling.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode.
        ignored_features: FAIL when this share of the varying columns of a table (or of the channels of a sequence or image) has no influence; a WARN
            below, since a single column may be left out on purpose.
        ignored_pixels: FAIL when this share of the pixels or positions has no influence. A crop or a stride leaves out borders: below a third of
            this share nothing is said, in between it is a WARN.
        parts: at most this many columns of an integer table are tried one by one.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "use backprop to chart dependencies".
    """
    params = awake(setup.params, key)
    influences = _influences(setup, params, key, parts)
    gradients = _parameter_gradients(setup, params, key)
    padding = [*padded_inputs(setup, params, key), *padded_outputs(setup)]
    padding += [found for found in [padded_targets(setup)] if found is not None]
    silent = [path for path, norm in gradients.items() if norm == 0 and not _frozen(setup, path)]
    findings = [
        *_of_leaves(influences),
        *(finding for one in influences for finding in _of_features(one, ignored_features, ignored_pixels)),
        *(finding for one in padding for finding in _of_padding(one)),
    ]
    if silent and len(silent) < len(gradients):
        text = f"{len(silent)} of {len(gradients)} parameters get no gradient: nothing that is trained depends on them."
        findings.append(Finding(Status.WARN, text, SILENT.format(names=_names(silent))))
    measured: dict[str, Any] = {
        "inputs without influence": sum(one.dead for one in influences),
        "least share of an input's features with influence": min((one.share for one in influences), default=1.0),
        "parameters without gradient": len(silent),
    }
    expected: dict[str, Any] = {"inputs without influence": 0, "parameters without gradient": 0}
    if padding:
        measured["share of the padding that counts"] = max(one.seen for one in padding)
        expected["share of the padding that counts"] = 0.0
    names = ", ".join(f"{one.share:.0%} of {one.name}" for one in influences)
    passed = f"The outputs depend on {names}" + (", and not on padding." if padding else ".")
    evidence = (*_evidence(influences), _parameter_table(setup, gradients))
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=evidence)


@dataclass(frozen=True)
class Influence:
    """How far the outputs depend on each part of one input array.

    Attributes:
        name: of the array.
        leaf: its values in the batch.
        strength: `[...]`, the shape of one example (or of its columns, or a scalar, for integers): the largest gradient, or movement.
        varies: the same shape, whether the batch holds different values there.
    """

    name: str
    leaf: np.ndarray
    strength: np.ndarray
    varies: np.ndarray

    @property
    def dead(self) -> bool:
        """Whether no part of it has any influence, although it varies."""
        return not (self.strength > 0).any() and bool(self.varies.any())

    @property
    def share(self) -> float:
        """Share of the parts that vary and have influence; 1 when nothing varies."""
        return float((self.strength > 0)[self.varies].mean()) if self.varies.any() else 1.0


IGNORED = "{name} never reaches the outputs: it is dropped, overwritten, multiplied by zero, or hidden behind a stop_gradient or a dead activation. If it is not meant for the model, leave it out in prepare."
COLUMNS = "Columns {which} of {name} never reach the outputs: look for a slice that is too short (off by one), an index, or a mask of features. If they are left out on purpose, do so in prepare."
PIXELS = "Look for a crop, slice or stride that skips parts of {name}, or a pooling that keeps one position only (the last state, the first token)."
SILENT = "These parameters get no gradient ({names}): a layer that is made and never called, a stop_gradient, or a branch that is switched off. If that is meant, declare Task(frozen=...)."
PADDING = "The padding mask is ignored ({where}): multiply the losses by the mask and divide by its sum; pass the mask to attention, pooling and recurrence, so that padded positions have no influence."
UNDECLARED = "Rows end in runs of one token, which looks like padding ({where}), and the loss counts them: mask the loss there and declare Tokens(pad=...). If they are real tokens, all is well."


def _influences(setup: Setup, params: Any, key: PRNGKeyArray, parts: int) -> list[Influence]:
    """Each input array's influence; training mode is asked where evaluation mode shows none."""
    inputs = on_host(setup.batch[0])
    found = _in_mode(setup, params, key, inputs, parts, train=False)
    if all(one.share == 1 for one in found):
        return found
    more = _in_mode(setup, params, key, inputs, parts, train=True)
    return [
        Influence(one.name, one.leaf, np.asarray(np.maximum(one.strength, other.strength)), one.varies)
        for one, other in zip(found, more, strict=True)
    ]


def _in_mode(setup: Setup, params: Any, key: PRNGKeyArray, inputs: Any, parts: int, *, train: bool) -> list[Influence]:
    leaves, structure = jax.tree.flatten(inputs)
    by_gradient = iter(_gradients(setup, params, key, inputs, train=train))

    def outputs(leaves: list[np.ndarray]) -> np.ndarray:
        return flat_outputs(
            setup.forward(params, setup.model_state, jax.tree.unflatten(structure, leaves), train=train, key=key)[0]
        )

    clean, found = outputs(leaves), []
    for i, (name, leaf) in enumerate(trees.named_leaves(inputs).items()):

        def moved(where: np.ndarray, i: int = i, leaf: np.ndarray = leaf) -> float:
            return float(movement(clean, outputs([*leaves[:i], replaced(leaf, where), *leaves[i + 1 :]])).max())

        if trees.is_floating(leaf):
            strength = next(by_gradient)
            silent = np.broadcast_to(strength == 0, leaf.shape)
            if (
                silent.any() and moved(silent) > MOVES
            ):  # no gradient, but influence all the same: an argmax, a comparison
                strength = np.where(strength == 0, np.finfo(np.float64).tiny, strength)
        elif leaf.ndim == 2 and 1 < leaf.shape[1] <= parts:
            columns = [moved(np.broadcast_to(np.arange(leaf.shape[1]) == c, leaf.shape)) for c in range(leaf.shape[1])]
            strength = np.array([amount if amount > MOVES else 0.0 for amount in columns])
        else:
            amount = moved(np.ones(len(leaf), bool))
            strength = np.array(amount if amount > MOVES else 0.0)
        different = np.asarray((leaf != leaf[:1]).any(axis=0))
        varies = different if different.shape == strength.shape else np.array(different.any())
        found.append(Influence(name or "the inputs", leaf, strength, varies))
    return found


def _gradients(
    setup: Setup, params: Any, key: PRNGKeyArray, inputs: Any, *, train: bool
) -> list[Float[np.ndarray, "..."]]:
    """Of each floating input array the largest gradient over the batch, of two random projections of the outputs."""
    if not any(trees.is_floating(leaf) for leaf in jax.tree.leaves(inputs)):
        return []

    @jax.jit
    def gradient(params: Any, inputs: Any, weights: list[Any]) -> Any:
        floating, rest = split_floating(inputs)

        def projection(leaves: list[Any]) -> Any:
            outputs, _ = setup.forward(params, setup.model_state, join_floating(leaves, rest), train=train, key=key)
            return sum(
                jnp.vdot(w, leaf.astype(jnp.float32))
                for w, leaf in zip(weights, split_floating(outputs)[0], strict=True)
            )

        return jax.grad(projection)(floating)

    outputs, _ = setup.forward(params, setup.model_state, inputs, train=train, key=key)
    rng = np.random.default_rng(0)
    draws = [[rng.normal(size=leaf.shape).astype(np.float32) for leaf in split_floating(outputs)[0]] for _ in range(2)]
    each = [[np.abs(np.asarray(leaf, np.float64)) for leaf in gradient(params, inputs, weights)] for weights in draws]
    return [np.nan_to_num(np.maximum(*pair).max(axis=0), nan=1.0) for pair in zip(*each, strict=True)]


def _of_leaves(influences: list[Influence]) -> list[Finding]:
    """Input arrays that nothing depends on. Numbers that look like an index of the examples are only odd."""
    found = []
    for one in [one for one in influences if one.dead]:
        index = one.leaf.ndim == 1 and not trees.is_floating(one.leaf) and len(np.unique(one.leaf)) == len(one.leaf)
        status = Status.WARN if index else Status.FAIL
        found.append(Finding(status, f"Nothing depends on {one.name}.", IGNORED.format(name=one.name)))
    return found


def _of_features(one: Influence, ignored_features: float, ignored_pixels: float) -> list[Finding]:
    """Parts of an input array that nothing depends on."""
    if one.dead or one.share == 1:
        return []
    axes = tuple(range(one.strength.ndim - 1))
    strength, varies = one.strength.max(axis=axes), one.varies.any(axis=axes)
    columns = np.flatnonzero((strength == 0) & varies)
    share = len(columns) / max(varies.sum(), 1)
    picture = one.strength.ndim == 2  # rows and columns of pixels, or time and features: a border may be left out
    if len(columns) and not (picture and share < ignored_features):
        text = f"{len(columns)} of {varies.sum()} features of {one.name} have no influence on the outputs."
        status = Status.FAIL if share >= ignored_features * (1 + picture) else Status.WARN
        return [Finding(status, text, COLUMNS.format(which=_names([str(c) for c in columns]), name=one.name))]
    missing = 1 - one.share
    if missing < ignored_pixels / 3:
        return []
    text = f"{missing:.0%} of {one.name} has no influence on the outputs."
    return [Finding(Status.FAIL if missing >= ignored_pixels else Status.WARN, text, PIXELS.format(name=one.name))]


def _of_padding(one: Padding) -> list[Finding]:
    if one.seen == 0:
        return []
    text = f"Padding counts: {one.seen:.0%} of what {one.where} mark changes the loss."
    if one.declared:
        return [Finding(Status.FAIL, text, PADDING.format(where=one.where))]
    return [Finding(Status.WARN, text, UNDECLARED.format(where=one.where))]


def _parameter_gradients(setup: Setup, params: Any, key: PRNGKeyArray) -> dict[str, float]:
    """Norm of the gradient of the mean loss on a batch, for each floating parameter."""
    _, gradient = setup.gradients(params, setup.model_state, *setup.batch, key=key, train=True)
    return {
        path: float(np.linalg.norm(np.asarray(leaf, np.float64).ravel()))
        for path, leaf in trees.named_leaves(gradient).items()
        if trees.is_floating(leaf)
    }


def _frozen(setup: Setup, path: str) -> bool:
    return any(trees.matches(path, pattern) for pattern in setup.task.frozen)


def _evidence(influences: list[Influence]) -> list[Evidence]:
    """A picture of each array's influence where it has the shape of one."""
    rows = [
        (one.name, str(list(one.leaf.shape[1:])), one.share, float(one.strength.max(initial=0.0))) for one in influences
    ]
    found: list[Evidence] = [
        Table(title="Inputs", columns=("input", "shape", "share with influence", "largest influence"), rows=rows)
    ]
    for one in influences:
        title = f"How far the outputs depend on each part of {one.name}"
        if one.strength.ndim == 3 and one.strength.shape[-1] in (1, 3):
            largest = one.strength.max() or 1.0
            found.append(
                Images(title=title, images=(one.strength[None] / largest).astype(np.float32), low=0.0, high=1.0)
            )
        elif 1 <= one.strength.ndim <= 2:
            found.append(
                Matrix(title=title, values=np.atleast_2d(one.strength)[:64, :256], row_label="", column_label="feature")
            )
    return found


def _parameter_table(setup: Setup, gradients: dict[str, float]) -> Table:
    rows = [(path, norm, _frozen(setup, path)) for path, norm in gradients.items()]
    return Table(title="Parameters", columns=("parameter", "gradient norm", "declared frozen"), rows=rows)


def _names(names: list[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
