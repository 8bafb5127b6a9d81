"""Where training starts: the same weights for both frameworks, drawn by PyTorch's rule from a seed and each array's
name.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from experiments.dpn_precision.convert import from_torch, torch_name


def weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One array of a state dict: uniform within 1/sqrt(inputs of a unit) for kernels, one for scales, zero for shifts
    and biases.
    """
    if len(shape) == 1:
        return np.full(shape, float(name.endswith(".weight")), np.float32)
    bound = 1 / np.sqrt(np.prod(shape[1:]))
    return np.random.default_rng([seed, zlib.crc32(name.encode())]).uniform(-bound, bound, shape).astype(np.float32)


def for_torch(state: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """The parameters that a module's `state_dict()` names; running statistics are left out."""
    own = {name: tensor for name, tensor in state.items() if "running" not in name and "num_batches" not in name}
    return {name: weight(name, tuple(tensor.shape), seed) for name, tensor in own.items()}


def for_flax(params: Any, seed: int) -> Any:
    """The same for a tree of Flax parameters, of which only the shapes are read."""
    flat: dict[tuple[str, ...], Any] = dict(traverse_util.flatten_dict(params))
    shapes = {torch_name(path): _torch_shape(path, leaf.shape) for path, leaf in flat.items()}
    drawn = from_torch({name: weight(name, shape, seed) for name, shape in shapes.items()})["params"]
    return jax.tree.map(lambda own, new: jnp.asarray(new, own.dtype), params, drawn)


def _torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a kernel (or vector) on the other side."""
    if len(shape) == 4:
        return shape[3], shape[2], shape[0], shape[1]
    return shape[::-1] if path[0] == "head" or len(shape) == 1 else (*shape[::-1], 1, 1)
