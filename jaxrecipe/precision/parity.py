"""Are low-precision gradients those of float32? Compared layer by layer, because one bad layer drowns in a global
norm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxrecipe import trees
from jaxrecipe.precision.loss_scale import LossScale, no_loss_scale, scale_loss, unscale

PyTree = Any
Loss = Callable[..., Float[Array, ""]]


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """How near one layer's gradient is to its reference.

    Attributes:
        cosine: of the angle between the two; 1 when both are zero, 0 when one is zero or not finite.
        relative_error: norm of the difference over the norm of the reference; infinite when the gradient is not finite.
        norm_ratio: norm of the gradient over that of the reference; 1 when both are zero.
    """

    cosine: float
    relative_error: float
    norm_ratio: float


def parity(gradients: PyTree, reference: PyTree) -> dict[str, LayerParity]:
    """Compare two trees of gradients leaf by leaf, in float64 on the host.

    Raises:
        ValueError: the trees have not the same leaves and shapes; all offenders are named.
    """
    left, right = trees.named_leaves(gradients), trees.named_leaves(reference)
    differing = left.keys() ^ right.keys()
    differing |= {path for path in left.keys() & right.keys() if np.shape(left[path]) != np.shape(right[path])}
    if differing:
        raise ValueError(f"gradients and reference differ in leaves or shapes at: {', '.join(sorted(differing))}")
    return {path: _compare(left[path], right[path]) for path in left if trees.is_floating(left[path])}


def _compare(gradient: Any, reference: Any) -> LayerParity:
    ours, theirs = (np.asarray(leaf).astype(np.float64).ravel() for leaf in (gradient, reference))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return LayerParity(cosine=0.0, relative_error=np.inf, norm_ratio=np.inf)
    norms = float(np.linalg.norm(ours)), float(np.linalg.norm(theirs))
    if norms[1] == 0:
        same = norms[0] == 0
        return LayerParity(
            cosine=float(same), relative_error=0.0 if same else np.inf, norm_ratio=1.0 if same else np.inf
        )
    # Each is normalised before the product, which would underflow for gradients of 1e-200.
    cosine = float(np.dot(ours / norms[0], theirs / norms[1])) if norms[0] else 0.0
    return LayerParity(
        cosine=cosine,
        relative_error=float(np.linalg.norm(ours - theirs)) / norms[1],
        norm_ratio=norms[0] / norms[1],
    )


def scaled_gradients(loss: Loss, params: PyTree, *args: Any, loss_scale: LossScale | None = None) -> PyTree:
    """Gradients as a training step gets them: of the scaled loss, unscaled in float32. Not jitted."""
    by = loss_scale or no_loss_scale()
    return unscale(by, jax.grad(lambda params: scale_loss(by, loss(params, *args)))(params))


def float64_gradients(loss: Loss, params: PyTree, *args: Any) -> PyTree:
    """The same gradients with parameters and floating arguments in float64, as numpy arrays: the oracle for small
    models.

    A model that fixes a dtype inside computes in that; then this is no better than the dtype. Devices without float64
    raise.
    """
    wide = trees.cast_floating(jax.tree.map(_on_host, (params, *args)), np.float64)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        grads = jax.jit(jax.grad(loss))(*wide)
        return jax.tree.map(np.asarray, grads)


def _on_host(leaf: Any) -> Any:
    """Numpy, since a JAX array made outside of x64 cannot be cast to float64; keys, which numpy does not know, stay."""
    return np.asarray(leaf) if trees.is_floating(leaf) else leaf


def gradient_parity(
    loss: Loss, reference: Loss, params: PyTree, *args: Any, loss_scale: LossScale | None = None
) -> dict[str, LayerParity]:
    """Layer by layer, gradients of a low-precision loss under a loss scale against those of the float32 loss.

    Args:
        loss: `loss(params, *args) -> scalar` under the policy in question, for instance through `apply_policy`.
        reference: the same in float32.
        params: where to compare.
        args: further arguments of both, such as a batch.
        loss_scale: scales `loss` only; none by default.
    """
    ours = jax.jit(lambda params, *args: scaled_gradients(loss, params, *args, loss_scale=loss_scale))(params, *args)
    return parity(ours, jax.jit(jax.grad(reference))(params, *args))
