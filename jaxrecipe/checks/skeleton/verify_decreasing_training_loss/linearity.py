"""Whether a model is linear in its inputs, and how many matrices it takes for that."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.changed_values import revealing_parameters
from jaxrecipe.probes.dependencies import flat_outputs, on_host
from jaxrecipe.probes.rounding import model_rounding
from jaxrecipe.setup import Setup

ADDITIVE = 1e-3
"""Share of their size by which outputs of a sum may differ from the sum of outputs: rounding of a deep model."""
ROUNDINGS = 8
"""The same in roundings of the format that the model computes in, where that is coarser."""
BASE_ROUNDING = 1e-5
"""Rounding of the outputs at blank inputs, which are subtracted, as a share of their size."""
HARDLY_MOVED = 1e-4
"""Outputs that the inputs move by less than this share of their size say nothing about linearity."""
LARGER = 8.0
"""Matrices so many times as large show an activation that is linear near zero, as tanh is."""
RANK = 1e-4
"""Directions weaker than this share of the strongest are rounding."""


@dataclass(frozen=True)
class Linearity:
    """How a model's outputs depend on its inputs.

    Attributes:
        affine: whether f(a) + f(b) = f(a + b) + f(0).
        depth: how many matrices stand in a row, where it is affine.
        narrow: whether a layer narrower than inputs and outputs explains them.
    """

    affine: bool
    depth: float = 0.0
    narrow: bool = False


def linearity(setup: Setup, key: PRNGKeyArray) -> Linearity:
    """Test additivity on pairs of the batch's examples, also with larger matrices, since a function may be linear
    near zero only; then how the function grows with its matrices.
    """
    inputs, _ = on_host(setup.batch)
    params = revealing_parameters(setup, key)
    if not all(trees.is_floating(leaf) for leaf in jax.tree.leaves(inputs)):
        return Linearity(affine=False)
    other = jax.tree.map(lambda leaf: np.roll(leaf, 1, axis=0)[::-1], inputs)
    nothing = jax.tree.map(np.zeros_like, inputs)

    def at(params: Any, inputs: Any) -> np.ndarray:
        return flat_outputs(setup.forward(params, setup.model_state, inputs, train=False, key=key)[0])

    def parts(params: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        base = at(params, nothing)
        added = jax.tree.map(np.add, inputs, other)
        return base, at(params, inputs) - base, at(params, other) - base, at(params, added) - base

    larger = jax.tree.map(lambda leaf: LARGER * np.asarray(leaf) if _is_matrix(leaf) else leaf, params)
    as_is = parts(params)
    if not _additive(setup, *as_is) or not _additive(setup, *parts(larger)):
        return Linearity(affine=False)
    first = as_is[1]
    doubled = jax.tree.map(lambda leaf: 2 * np.asarray(leaf) if _is_matrix(leaf) else leaf, params)
    grown = np.linalg.norm(at(doubled, inputs) - at(doubled, nothing)) / np.linalg.norm(first)
    features = sum(int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(inputs))
    strengths = np.linalg.svd(first, compute_uv=False)
    rank = int((strengths > RANK * strengths[0]).sum())
    return Linearity(affine=True, depth=float(np.log2(grown)), narrow=rank < min(*first.shape, features) - 1)


def _additive(setup: Setup, base: np.ndarray, first: np.ndarray, second: np.ndarray, both: np.ndarray) -> bool:
    """Whether the outputs of a sum are the sum of the outputs, the outputs at blank inputs taken off."""
    size, at_base = np.linalg.norm(first) + np.linalg.norm(second), np.linalg.norm(base)
    if not np.isfinite(size) or size <= HARDLY_MOVED * at_base:
        return False
    tolerance = max(ADDITIVE, ROUNDINGS * model_rounding(setup)) * size + BASE_ROUNDING * at_base
    return bool(np.linalg.norm(first + second - both) <= tolerance)


def _is_matrix(leaf: Any) -> bool:
    return trees.is_floating(leaf) and leaf.ndim > 1
