"""What a model predicts: the declared kind of a task's targets, one frozen value each.

A target gives what can be known without the model: which dtype and range the targets must have, what the
outputs look like, and the metrics that people read. It never chooses the loss.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Metric = Callable[[Any, Any], Float[Array, "batch"]]
"""`metric(outputs, targets) -> [batch]`: one number an example."""


@dataclass(frozen=True)
class Classes:
    """One of `n` classes an example (or a pixel): integer labels `[batch, ...]` in `[0, n)`, logits `[batch, ..., n]`."""

    n: int


@dataclass(frozen=True)
class Binary:
    """A yes or no an example: labels 0 or 1 of any numeric dtype, `[batch]` or `[batch, 1]`, one logit an example."""


@dataclass(frozen=True)
class MultiLabel:
    """Several yes-or-no labels an example: `[batch, n]` of 0 and 1, logits `[batch, n]`."""

    n: int


@dataclass(frozen=True)
class Values:
    """Real numbers an example (regression, reconstruction): floating targets of any shape, outputs alike."""


@dataclass(frozen=True)
class Tokens:
    """A token a position: integer targets `[batch, time]` in `[0, vocabulary)`, logits `[batch, time, vocabulary]`.

    Positions whose target is `pad` are padding: the loss must ignore them and they are never counted.
    """

    vocabulary: int
    pad: int | None = None


@dataclass(frozen=True)
class Unspecified:
    """Nothing is declared (a contrastive loss, a custom structure): checks that need to know are skipped."""


Target = Classes | Binary | MultiLabel | Values | Tokens | Unspecified
TargetTree = Target | Mapping[str, Any]
"""One target, or a mapping of them with the structure of the targets (and outputs) of a multi-output model."""


def is_target(value: Any) -> bool:
    """Whether `value` is one declared target (a leaf of a tree of targets)."""
    return isinstance(value, Target)


def correct_class(
    logits: Float[Array, "batch *rest classes"], labels: Int[Array, "batch *rest"]
) -> Float[Array, "batch"]:
    """Share of positions of each example whose largest logit is the label's, float32 in [0, 1]; `[batch]`."""
    hits = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return hits.reshape(hits.shape[0], -1).mean(axis=1)


def correct_sign(logits: Float[Array, "batch *rest"], labels: Array) -> Float[Array, "batch"]:
    """Share of an example's labels whose logit has the right sign (positive for 1), float32 in [0, 1]; `[batch]`."""
    hits = ((logits > 0) == (labels.reshape(logits.shape).astype(jnp.float32) > 0.5)).astype(jnp.float32)
    return hits.reshape(hits.shape[0], -1).mean(axis=1)


def correct_token(pad: int | None) -> Metric:
    """The metric "share of an example's non-padding positions that are predicted right"."""

    def metric(
        logits: Float[Array, "batch time vocabulary"], tokens: Int[Array, "batch time"]
    ) -> Float[Array, "batch"]:
        counted = jnp.ones(tokens.shape, jnp.float32) if pad is None else (tokens != pad).astype(jnp.float32)
        hits = (jnp.argmax(logits, axis=-1) == tokens).astype(jnp.float32) * counted
        return hits.sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1.0)

    return metric


def absolute_error(outputs: Float[Array, "batch *rest"], values: Array) -> Float[Array, "batch"]:
    """Mean absolute error of each example, float32, in the units of the target; `[batch]`."""
    error = jnp.abs(outputs.astype(jnp.float32) - values.reshape(outputs.shape).astype(jnp.float32))
    return error.reshape(error.shape[0], -1).mean(axis=1)


def default_metrics(target: TargetTree) -> dict[str, Metric]:
    """The metrics people read for a target: accuracy for labels and tokens, mean absolute error for values.

    A mapping of targets gives one metric a head, named `head/metric`, reading that head of outputs and targets.
    """
    match target:
        case Classes():
            return {"accuracy": correct_class}
        case Binary() | MultiLabel():
            return {"accuracy": correct_sign}
        case Tokens(pad=pad):
            return {"accuracy": correct_token(pad)}
        case Values():
            return {"absolute_error": absolute_error}
        case Unspecified():
            return {}
    return {
        f"{head}/{name}": _of_head(head, metric)
        for head, inner in target.items()
        for name, metric in default_metrics(inner).items()
    }


def _of_head(head: str, metric: Metric) -> Metric:
    return lambda outputs, targets: metric(outputs[head], targets[head])


def target_leaves(target: TargetTree) -> list[tuple[str, Target]]:
    """Each declared target with the path of its head (`""` for a single target)."""
    leaves = jax.tree_util.tree_leaves_with_path(target, is_leaf=is_target)
    return [("/".join(str(getattr(key, "key", key)) for key in path), leaf) for path, leaf in leaves]
