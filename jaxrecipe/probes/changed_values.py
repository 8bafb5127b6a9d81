"""Other values for inputs, targets and parameters, to see what depends on them.

Values are changed on the host, in numpy, so that no program is compiled for it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.setup import Setup

SMALL_START = 0.01
"""Parameters that all hold one value smaller than this (zero initialization, layer scale) hide what stands behind
them."""
USUAL_FAN_IN = 100.0
"""Inputs that a parameter without a fan-in, such as a bias, is scaled for."""


def revealing_parameters(setup: Setup, key: PRNGKeyArray) -> Any:
    """The set-up's parameters with `redrawn_zeros`."""
    drawn = tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())
    return setup.memo((revealing_parameters, drawn), lambda: redrawn_zeros(setup.params, key))


def redrawn_zeros(params: Any, key: PRNGKeyArray) -> Any:
    """The parameters with those that start at zero drawn at random, since a zero in the last layer hides all before
    it.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())

    def redraw(leaf: Any) -> Any:
        if not trees.is_floating(leaf) or leaf.size == 0:
            return leaf
        values = np.asarray(leaf, np.float64)
        if np.ptp(values) > 0 or abs(values.flat[0]) > SMALL_START:
            return leaf
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else USUAL_FAN_IN
        return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), leaf.dtype)

    return jax.tree.map(redraw, params)


def other_values(leaf: np.ndarray) -> np.ndarray:
    """Other values of the same shape and dtype, within what the data hold; the same ones for the same array.

    Numbers move by about their spread. Integers are drawn at random among the other values that occur, never permuted,
    since a permutation keeps what is equal equal (segment ids, repeated tokens) and so hides a dependence. Of two
    values, truth values included, half are drawn to be the other one.
    """
    rng = np.random.default_rng(0)
    if leaf.dtype == np.bool_:
        return leaf ^ (rng.random(leaf.shape) < 0.5)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return _other_integers(leaf, rng)
    wide = leaf.astype(np.float64)
    spread = float(np.nanstd(wide)) or max(float(np.nanmax(np.abs(wide), initial=0.0)), 1.0)
    noise = rng.normal(size=leaf.shape)
    return (wide + spread * (noise + np.sign(noise))).astype(leaf.dtype)


def replaced(leaf: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The leaf with `other_values` where a mask over its leading axes is true; at least one of them differs."""
    mask = np.broadcast_to(where.reshape(where.shape + (1,) * (leaf.ndim - where.ndim)), leaf.shape)
    new = np.where(mask, other_values(leaf), leaf)
    if mask.any() and not (new != leaf).any():
        new = np.where(mask, _the_other_of_two(leaf), leaf)
    return new.astype(leaf.dtype)


def _other_integers(leaf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    values = np.unique(leaf)
    if len(values) <= 2:
        flipped = _the_other_of_two(leaf)
        return flipped if len(values) < 2 else np.where(rng.random(leaf.shape) < 0.5, flipped, leaf)
    places = np.searchsorted(values, leaf) + rng.integers(1, len(values), size=leaf.shape)
    return values[places % len(values)].astype(leaf.dtype)


def _the_other_of_two(leaf: np.ndarray) -> np.ndarray:
    """Each of two values replaced by the other; a single value by a neighbor."""
    if leaf.dtype == np.bool_:
        return ~leaf
    values = np.unique(leaf)
    if len(values) == 1:
        return np.full_like(leaf, values[0] - 1 if values[0] > 0 else values[0] + 1)
    return np.where(leaf == values[0], values[-1], values[0]).astype(leaf.dtype)
