"""Weights and statistics of a DPN from Flax to PyTorch and back, as numpy arrays under each side's names.

`to_torch` gives what `load_state_dict` takes (after `torch.from_numpy`), `from_torch` what `DPN.apply` takes. Kernels
are transposed, nothing else is computed, so that there and back is exact. Checkpoints of the well-known CIFAR-10
examples have the same names.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

LAYERS = {
    "reduce": "conv1",
    "reduce_norm": "bn1",
    "grouped": "conv2",
    "grouped_norm": "bn2",
    "expand": "conv3",
    "expand_norm": "bn3",
    "shortcut": "shortcut.0",
    "shortcut_norm": "shortcut.1",
}
OUTSIDE = {"stem": "conv1", "stem_norm": "bn1", "head": "linear"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
POINTWISE = ("reduce", "expand", "shortcut")


def torch_name(path: tuple[str, ...]) -> str:
    """`("stage2_block1", "reduce", "kernel")` → `layer2.0.conv1.weight`."""
    block = re.fullmatch(r"stage(\d+)_block(\d+)", path[0])
    if block is None:
        return f"{OUTSIDE[path[0]]}.{LEAVES[path[1]]}"
    return f"layer{block[1]}.{int(block[2]) - 1}.{LAYERS[path[1]]}.{LEAVES[path[2]]}"


def flax_path(name: str) -> tuple[str, ...]:
    """The path in `variables` of a PyTorch name: `layer2.0.conv1.weight` → `("params", "stage2_block1", "reduce",
    "kernel")`.
    """
    layer, _, leaf = name.rpartition(".")
    block = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", layer)
    names = {theirs: ours for ours, theirs in (LAYERS if block else OUTSIDE).items()}
    own = names[block[3] if block else layer]
    head = (f"stage{block[1]}_block{int(block[2]) + 1}", own) if block else (own,)
    if leaf.startswith("running_"):
        return ("batch_stats", *head, leaf.removeprefix("running_"))
    weight = "scale" if own.endswith("_norm") else "kernel"
    return ("params", *head, weight if leaf == "weight" else leaf)


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict of numpy arrays from Flax variables (`params` and, if there are any, `batch_stats`)."""
    state = {}
    for collection in ("params", "batch_stats"):
        for path, leaf in traverse_util.flatten_dict(dict(variables.get(collection, {}))).items():
            name = torch_name(path)
            state[name] = np.ascontiguousarray(_kernel_to_torch(path, np.asarray(leaf)))
            if path[-1] == "mean":
                state[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    return state


def from_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    """Flax variables from a state dict (of tensors or arrays); a `module.` in front of the names is taken off."""
    flat = {}
    for name, leaf in state.items():
        name = name.removeprefix("module.")
        if not name.endswith("num_batches_tracked"):
            path = flax_path(name)
            flat[path] = np.ascontiguousarray(_kernel_from_torch(path, np.asarray(leaf)))
    return traverse_util.unflatten_dict(flat)


def _kernel_to_torch(path: tuple[str, ...], leaf: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return leaf
    if leaf.ndim == 4:
        return leaf.transpose(3, 2, 0, 1)
    return leaf.T[:, :, None, None] if path[-2] in POINTWISE else leaf.T


def _kernel_from_torch(path: tuple[str, ...], leaf: np.ndarray) -> np.ndarray:
    if path[-1] != "kernel":
        return leaf
    if path[-2] in POINTWISE:
        return leaf[:, :, 0, 0].T
    return leaf.transpose(2, 3, 1, 0) if leaf.ndim == 4 else leaf.T
