"""How far trees of numbers lie apart."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SMALLEST_SQUARE = 1e-24
"""Keeps the square of a norm from being zero."""


def numbers_on_host(tree: Any) -> list[np.ndarray]:
    """Every leaf of numbers as float64 on the host; keys and the like are left out."""
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, np.number)]


def relative_distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Norm of the difference as a share of the first one's norm; NaN equals NaN."""
    away = sum(float(np.square(np.nan_to_num(a - b)).sum()) for a, b in zip(first, second, strict=True))
    size = sum(float(np.square(np.nan_to_num(a)).sum()) for a in first)
    return float(np.sqrt(away / max(size, SMALLEST_SQUARE)))


def spread_of_rows(tree: Any) -> float:
    """How far entries along the first axis differ from the first, relative to the largest number of their leaf."""
    spreads = [0.0]
    for leaf in numbers_on_host(tree):
        if leaf.ndim and len(leaf) > 1:
            apart = np.abs(np.nan_to_num(leaf - leaf[:1])).max(initial=0.0)
            largest = float(np.abs(np.nan_to_num(leaf)).max(initial=0.0))
            spreads.append(float(apart / largest) if largest else float(apart))
    return max(spreads)
