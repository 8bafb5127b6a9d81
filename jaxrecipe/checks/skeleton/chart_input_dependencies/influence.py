"""How far the outputs depend on each part of each input array, by gradients and, where there are none, by changed
values.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.changed_values import replaced, revealing_parameters
from jaxrecipe.probes.dependencies import (
    dependence_gradients,
    flat_outputs,
    movement,
    on_host,
    revealed_outputs,
    split_floating,
    spread_of,
)
from jaxrecipe.probes.kinds import input_kinds
from jaxrecipe.probes.rounding import model_rounding
from jaxrecipe.setup import Setup

PROJECTIONS = 2
"""Random projections of the outputs whose gradients are taken: what one of them misses by chance another sees."""
SLIGHT = float(np.finfo(np.float64).tiny)
"""Strength of an influence that has no gradient (an argmax, a comparison)."""


@dataclass(frozen=True)
class Influence:
    """How far the outputs depend on each part of one input array.

    Attributes:
        name: of the array.
        kind: what it is: an image, a sequence, tokens, a table.
        leaf: its values in the batch.
        strength: `[...]`, the shape of one example (or of its columns, or a scalar, for integers): the largest
            gradient, or movement.
        varies: the same shape, whether the batch holds different values there.
    """

    name: str
    kind: InputKind
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

    @property
    def places_last(self) -> bool:
        """Whether the last axis may be one of places, of which a crop leaves out some: pixels without channels, or
        time.
        """
        return self.kind in ("image", "sequence") and self.strength.ndim <= 2

    @property
    def looks_like_index(self) -> bool:
        """Whether it holds one integer an example and never the same twice: a number of the example rather than an
        input.
        """
        return self.leaf.ndim == 1 and not trees.is_floating(self.leaf) and len(np.unique(self.leaf)) == len(self.leaf)


def input_influences(setup: Setup, key: PRNGKeyArray, parts: int) -> list[Influence]:
    """Each input array's influence; training mode is asked where evaluation mode shows none.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode.
        parts: at most this many columns of an integer table are tried one by one.
    """
    found = _influences_in_mode(setup, key, parts, train=False)
    if all(one.share == 1 for one in found):
        return found
    more = _influences_in_mode(setup, key, parts, train=True)
    return [
        replace(one, strength=np.asarray(np.maximum(one.strength, other.strength)))
        for one, other in zip(found, more, strict=True)
    ]


def _influences_in_mode(setup: Setup, key: PRNGKeyArray, parts: int, *, train: bool) -> list[Influence]:
    inputs, params = on_host(setup.batch[0]), revealing_parameters(setup, key)
    leaves, structure = jax.tree.flatten(inputs)

    def outputs(leaves: list[np.ndarray]) -> np.ndarray:
        changed = jax.tree.unflatten(structure, leaves)
        return flat_outputs(setup.forward(params, setup.model_state, changed, train=train, key=key)[0])

    clean, found = outputs(leaves), []
    floor = model_rounding(setup) * float(np.nanmax(np.abs(clean), initial=0.0)) / spread_of(clean)
    by_gradient = iter(_largest_gradients(setup, key, inputs, train=train))
    for i, (name, leaf) in enumerate(trees.named_leaves(inputs).items()):

        def moved(where: np.ndarray, i: int = i, leaf: np.ndarray = leaf) -> float:
            amount = movement(clean, outputs([*leaves[:i], replaced(leaf, where), *leaves[i + 1 :]])).max()
            return float(amount) if amount > floor else 0.0

        strength = (
            _with_moved(next(by_gradient), leaf, moved) if trees.is_floating(leaf) else _moved(leaf, moved, parts)
        )
        different = np.asarray((leaf != leaf[:1]).any(axis=0))
        varies = different if different.shape == strength.shape else np.array(different.any())
        kind = input_kinds(setup).prepared[name or "inputs"]
        found.append(Influence(name or "the inputs", kind, leaf, strength, varies))
    return found


def _with_moved(strength: np.ndarray, leaf: np.ndarray, moved: Callable[[np.ndarray], float]) -> np.ndarray:
    """Gradients, and a slight influence where there is none but all that has none moves the outputs when it is
    changed.
    """
    silent = np.broadcast_to(strength == 0, leaf.shape)
    if silent.any() and moved(silent) > 0:
        return np.where(strength == 0, SLIGHT, strength)
    return strength


def _moved(leaf: np.ndarray, moved: Callable[[np.ndarray], float], parts: int) -> np.ndarray:
    """How far other integers move the outputs: column by column in a small table, otherwise all at once."""
    if leaf.ndim == 2 and 1 < leaf.shape[1] <= parts:
        columns = np.arange(leaf.shape[1])
        return np.array([moved(np.broadcast_to(columns == column, leaf.shape)) for column in columns])
    return np.array(moved(np.ones(len(leaf), bool)))


def _largest_gradients(setup: Setup, key: PRNGKeyArray, inputs: Any, *, train: bool) -> list[Float[np.ndarray, "..."]]:
    """Of each floating input array the largest gradient over the batch, of a few random projections of the outputs."""
    if not any(trees.is_floating(leaf) for leaf in jax.tree.leaves(inputs)):
        return []
    variables, program = (revealing_parameters(setup, key), setup.model_state), dependence_gradients(setup)
    batch, rng = (inputs, on_host(setup.batch[1])), np.random.default_rng(0)
    shapes = [leaf.shape for leaf in split_floating(revealed_outputs(setup, key))[0]]
    no_loss = np.zeros(trees.leading_size(inputs), np.float32)
    largest: list[np.ndarray] | None = None
    for _ in range(PROJECTIONS):
        weights = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        gradients, _ = program(variables, batch, weights, no_loss, key, train=train)
        sizes = [np.abs(np.asarray(leaf, np.float64)).max(axis=0) for leaf in gradients]
        largest = sizes if largest is None else [np.maximum(*pair) for pair in zip(largest, sizes, strict=True)]
    return [np.nan_to_num(leaf, nan=1.0) for leaf in largest or []]
