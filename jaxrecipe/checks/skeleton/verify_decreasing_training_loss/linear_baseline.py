"""A linear model to be beaten: what a few directions of the inputs can tell about the outputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxrecipe import trees
from jaxrecipe.parts import Model
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens, heads

DIRECTIONS = 32
"""Directions of the inputs that the rival sees: few against the examples, so that it cannot memorize them."""
MOST_OUTPUTS = 16
"""Values an example up to which a comparison is fair: a linear map of an image to itself beats every bottleneck."""
FAINT = 1e-6
"""Directions of less than this share of the strongest one's size are rounding."""
MOST_FEATURES = 200_000
"""Numbers an example up to which the directions are taken in seconds."""
MOST_PARAMETERS = 1_000_000
MOST_VALUES = 1024
"""Different integers up to which an input counts as tokens."""


def linear_rival(setup: Setup, pool: Any) -> Model | str:
    """A linear model with outputs like the user's, fitted to the scale of these inputs; or why none would be fair.

    Floating inputs are seen through their strongest directions over the pool, tokens as counts, or, where the outputs
    have the same time axis, each output through its own token.
    """
    (params, state), inputs = setup.variables, setup.batch[0]  # made before tracing begins
    outputs = jax.eval_shape(lambda: setup.forward(params, state, inputs, train=False, key=setup.key)[0])
    leaves, structure = jax.tree.flatten(outputs)
    numbers = sum(int(np.prod(leaf.shape[1:])) for leaf in leaves)
    real = any(head.behavior.form == "real" for head in heads(setup.task.target))
    if not leaves or (real and numbers > MOST_OUTPUTS):
        return f"it predicts {numbers} values an example, which a linear map of the inputs to themselves would win"
    if isinstance(setup.task.target, Tokens) and len(leaves) == 1 and leaves[0].ndim == 3:
        return _by_token(on_host(pool), leaves[0])
    view = _directions(on_host(pool))
    if view is None or numbers * DIRECTIONS > MOST_PARAMETERS:
        return "its inputs or outputs are too large, constant or not finite"
    mean, directions = view
    return _on_directions(mean, directions, leaves, structure)


def _on_directions(mean: np.ndarray, directions: np.ndarray, leaves: list[Any], structure: Any) -> Model:
    """The linear model of some directions of the inputs, with outputs of these shapes."""
    width = directions.shape[1]

    def init(_key: Any, _inputs: Any) -> Any:
        shapes = [(width + 1, int(np.prod(leaf.shape[1:]))) for leaf in leaves]
        return {f"head_{i}": jnp.zeros(shape, jnp.float32) for i, shape in enumerate(shapes)}, {}

    def apply(params: Any, state: Any, inputs: Any, **_mode: Any) -> Any:
        seen = (_flat(inputs) - mean) @ directions
        seen = jnp.concatenate([seen, jnp.ones((len(seen), 1), jnp.float32)], axis=1)
        heads = [seen @ params[f"head_{i}"] for i in range(len(leaves))]
        shaped = [head.reshape(len(head), *leaf.shape[1:]) for head, leaf in zip(heads, leaves, strict=True)]
        return jax.tree.unflatten(structure, shaped), state

    return Model(init=init, apply=apply, name="linear model")


def _flat(inputs: Any) -> Float[Any, "batch features"]:
    """All inputs of an example in a row; tokens as counts of each value."""
    rows = []
    for leaf in jax.tree.leaves(inputs):
        leaf = jnp.asarray(leaf)
        if trees.is_floating(leaf) or leaf.ndim != 2:
            rows.append(leaf.reshape(len(leaf), -1).astype(jnp.float32))
        else:
            rows.append(jax.nn.one_hot(leaf, MOST_VALUES, dtype=jnp.float32).mean(axis=1))
    return jnp.concatenate(rows, axis=1)


def _directions(pool: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean of the flat inputs and their strongest directions, scaled to unit variance."""
    flat = np.asarray(_flat(pool), np.float64)
    if flat.shape[1] > MOST_FEATURES or not np.isfinite(flat).all():
        return None
    mean = flat.mean(axis=0)
    _, size, rows = np.linalg.svd(flat - mean, full_matrices=False)
    kept = [i for i in range(min(DIRECTIONS, len(flat) // 4, len(size))) if size[i] > FAINT * max(size[0], 1e-30)]
    if not kept:
        return None
    scale = size[kept] / np.sqrt(len(flat))
    return mean.astype(np.float32), (rows[kept].T / scale).astype(np.float32)


def _by_token(pool: Any, outputs: Any) -> Model | str:
    """Each output from the token at its own position alone."""
    along = [leaf for leaf in jax.tree.leaves(pool) if leaf.ndim == 2 and leaf.shape[1] == outputs.shape[1]]
    which = [
        i
        for i, leaf in enumerate(jax.tree.leaves(pool))
        if any(leaf is one for one in along) and not trees.is_floating(leaf)
    ]
    if not which or along[0].max() >= MOST_VALUES:
        return f"no input holds tokens, fewer than {MOST_VALUES}, at the positions of the outputs"
    values = int(jax.tree.leaves(pool)[which[0]].max()) + 1

    def init(_key: Any, _inputs: Any) -> Any:
        return {"table": jnp.zeros((values, outputs.shape[2]), jnp.float32)}, {}

    def apply(params: Any, state: Any, inputs: Any, **_mode: Any) -> Any:
        return params["table"][jax.tree.leaves(inputs)[which[0]]], state

    return Model(init=init, apply=apply, name="token by token")
