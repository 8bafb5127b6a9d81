"""The form of the inputs against the model that reads them: what never changes, which axis is which, ids that no row
stands for.
"""

from collections.abc import Iterator
from math import isqrt

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxrecipe import trees
from jaxrecipe.checks.data.finite_inputs.ranges import Scan
from jaxrecipe.checks.data.finite_inputs.suspicious_numbers import SMALL_TABLE
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.setup import Setup

SPARSE = 0.5
"""Share of columns whose lowest value is 0 from which a table is mostly zeros: counts of words, some of which never
occur."""
SMALLEST_SIDE = 7
"""Pixels a side from which on a row of numbers may be an image laid flat."""


def constant_parts(scan: Scan, constant_warn: float) -> str:
    """What of an input is the same in every example and should not be, in words."""
    if scan.constant.all():  # masks of ones and initial states of zeros are healthy
        unusual = not scan.integer and not set(scan.low.tolist()) <= {0, 1}
        return "the whole input is the same in every example." if unusual else ""
    constant = _as_image(scan)
    if constant is not None:
        return _lost_of_image(constant, constant_warn)
    if scan.integer:
        return ""
    constant = scan.constant.reshape(scan.shape)
    if constant.ndim > 1:
        dead = np.flatnonzero(constant.all(axis=tuple(range(constant.ndim - 1))))
        return f"channels {dead[:8].tolist()} of {constant.shape[-1]} never change." if dead.size else ""
    mostly_zero = (scan.low == 0).mean() >= SPARSE  # counts of words, categories as yes and no: some never occur
    dead = np.flatnonzero(constant & ~(mostly_zero & (scan.low == 0)))
    intercept = len(dead) == 1 and scan.low[dead[0]] == 1
    if not dead.size or intercept or (constant.size > SMALL_TABLE and len(dead) <= constant_warn * constant.size):
        return ""
    return f"{len(dead)} of {constant.size} columns hold one number only (columns {dead[:8].tolist()})."


def _as_image(scan: Scan) -> np.ndarray | None:
    """Which pixels are constant, `[height, width, channels]`, for images and for rows that seem to be images laid
    flat.
    """
    if scan.kind == "image":
        return scan.constant.reshape(*scan.shape[:2], -1)
    for channels in (1, 3):
        side = isqrt(scan.low.size // channels)
        if len(scan.shape) == 1 and side >= SMALLEST_SIDE and side * side * channels == scan.low.size:
            return scan.constant.reshape(side, side, channels)
    return None


def _lost_of_image(constant: np.ndarray, constant_warn: float) -> str:
    """Channels that never change, and pixels that do not within the smallest box that holds all that do."""
    channels = constant.shape[2]
    dead = np.flatnonzero(constant.all(axis=(0, 1)))
    opaque = channels in (2, 4) and dead.tolist() == [channels - 1]
    if dead.size and not opaque:
        return f"channels {dead.tolist()} of {channels} are the same everywhere in every example."
    pixels = np.asarray(constant.all(axis=2))
    rows, columns = (np.flatnonzero(~pixels.all(axis=axis)) for axis in (1, 0))
    inside = float(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean())
    return f"{inside:.0%} of the pixels inside of the border never change." if inside > constant_warn else ""


def parameters(setup: Setup) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the model's parameters by path, from tracing its init alone where there is one."""
    if not setup.task.has_model:
        return trees.named_leaves(setup.params)
    params, _ = jax.eval_shape(setup.task.model.init, setup.key, setup.batch[0])
    return trees.named_leaves(params)


def layout(setup: Setup, entering: dict[str, np.ndarray]) -> Iterator[Finding]:
    """Images with channels first, where a convolution has kernels `[height, width, in, out]` for their width."""
    suspected = {
        path: leaf for path, leaf in entering.items() if leaf.ndim == 4 and leaf.shape[1] <= 4 < min(leaf.shape[2:])
    }
    kernels = [leaf.shape for leaf in parameters(setup).values() if len(leaf.shape) == 4] if suspected else []
    for path, leaf in suspected.items():
        if any(kernel[2] == leaf.shape[3] for kernel in kernels):
            text = f"train, {path}: the model is given images {list(leaf.shape[1:])}, which looks like channels first."
            yield warning("data/channels-first", text)


def vocabulary(setup: Setup, entering: dict[str, np.ndarray], tried: Int[np.ndarray, "k"]) -> Iterator[Finding]:
    """Token ids outside of the embedding, where replacing them by what JAX makes of them changes nothing."""
    tokens = {path: leaf for path, leaf in entering.items() if leaf.dtype.kind in "iu" and leaf.ndim == 2}
    if len(tokens) != 1:
        return
    tables = [leaf for path, leaf in parameters(setup).items() if "embed" in path.lower() and len(leaf.shape) == 2]
    if not tables:
        return
    (path, ids), size = next(iter(tokens.items())), max(leaf.shape[0] for leaf in tables)
    outside = (ids < 0) | (ids >= size)
    if not outside.any():
        return
    rows = np.resize(tried[outside.any(axis=1)], setup.batch_size)
    inputs, _ = setup.prepared("train", rows)
    inside = jax.tree.map(
        lambda leaf: (
            jnp.where(leaf < 0, leaf + size, jnp.minimum(leaf, size - 1)).astype(leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.ndim == 2
            else leaf
        ),
        inputs,
    )
    given, clipped = (setup.forward(*setup.variables, these)[0] for these in (inputs, inside))
    same = all(
        np.array_equal(np.asarray(one), np.asarray(other))
        for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(clipped), strict=True)
    )
    if same or not bool(trees.all_finite(given)):
        text = (
            f"train, {path}: {int(outside.sum())} of {ids.size} token ids (from {ids.min()} to {ids.max()}) are not "
            "in the "
            f"embedding of {size} rows."
        )
        yield failure("data/token-outside-embedding", text)
