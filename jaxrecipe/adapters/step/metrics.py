"""The numbers that a step gives beside its state: returned, or gathered in metrics objects that the state holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LOSS_NAME = "loss"
Loss = str | Callable[[Any], Any] | None
"""Which of the metrics is the loss, or how it is computed of what a step returned beside the state."""


def without_metrics(pieces: Sequence[Any]) -> tuple[Any, ...]:
    """The pieces of a state with their metrics begun anew, so that those after a step are of this step alone."""
    return tuple(_emptied(piece) for piece in pieces)


def _emptied(piece: Any) -> Any:
    if _is_metric(piece):
        with jax.numpy_dtype_promotion("standard"):
            piece.reset()
    inner: Any = getattr(piece, "metrics", None)
    if _is_collection(inner) and callable(getattr(piece, "replace", None)):
        return piece.replace(metrics=inner.empty())
    return piece


def _is_metric(piece: Any) -> bool:
    """Whether a piece is a Flax NNX metric, which a step adds to in place."""
    return all(callable(getattr(piece, name, None)) for name in ("reset", "compute", "update"))


def _is_collection(value: Any) -> bool:
    """Whether a value is a collection of metrics as a TrainState holds it (`clu.metrics.Collection`)."""
    return all(callable(getattr(value, name, None)) for name in ("empty", "compute", "merge"))


def _computed(pieces: Sequence[Any]) -> Iterator[Any]:
    """What the metrics in a state come to."""
    for piece in pieces:
        inner = getattr(piece, "metrics", None)
        for metric in (piece if _is_metric(piece) else None, inner if _is_collection(inner) else None):
            if metric is not None:
                with jax.numpy_dtype_promotion("standard"):
                    yield metric.compute()


def metrics_of(rest: Any, loss: Loss, pieces: Sequence[Any]) -> dict[str, Any]:
    """The numbers that a step gives beside its state, by name; "loss" is there if one of them is known to be it.

    Args:
        rest: what the step returned without the state.
        loss: which it is, or how it is computed.
        pieces: of the state after the step, some of which may be metrics or hold some.

    Raises:
        ValueError: the one that the user names is not there.
    """
    found = _numbers(rest)
    for values in _computed(pieces):
        found |= _numbers(values)
    if callable(loss):
        return {**found, LOSS_NAME: jnp.mean(loss(rest))}
    chosen = _loss_among(found, loss)
    return found if chosen is None else {**found, LOSS_NAME: found[chosen]}


def _numbers(tree: Any) -> dict[str, Any]:
    """The scalars of a tree by path; replicated ones, `[devices]`, are averaged."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/") or "value": leaf for path, leaf in leaves}
    kept = {}
    for name, leaf in named.items():
        if isinstance(leaf, bool | int | float) or (hasattr(leaf, "dtype") and np.ndim(leaf) == 0):
            kept[name] = leaf
        elif hasattr(leaf, "dtype") and np.shape(leaf) == (jax.local_device_count(),):
            kept[name] = leaf.mean()
    return kept


def _loss_among(found: Mapping[str, Any], wanted: str | None) -> str | None:
    """The name of the loss among metrics.

    Raises:
        ValueError: the one that the user names is not there.
    """
    if wanted is not None:
        if wanted not in found:
            raise ValueError(f"loss: the step gives no {wanted!r}; it gives {', '.join(found) or 'no number'}")
        return wanted
    last = {name: name.rsplit("/")[-1].lower() for name in found}
    for fits in (lambda name: name == LOSS_NAME, lambda name: name == "total_loss", lambda name: LOSS_NAME in name):
        if fitting := [name for name, short in last.items() if fits(short)]:
            return fitting[0]
    floats = [name for name, leaf in found.items() if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)]
    return floats[0] if len(floats) == 1 or (floats and floats[0] in ("value", "0")) else None
