"""What follows from each kind of target: one row a kind, in one table. `heads.py` maps it over the heads of a model.

Ask the table instead of testing for types: `behavior(target).labels(target, values)`. Functions that are given arrays
here see one head; None is the answer of a row that cannot say.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxrecipe.targets.declared import Binary, Classes, MultiLabel, Target, Tokens, Unspecified, Values
from jaxrecipe.targets.metrics import Metric, absolute_error, correct_class, correct_sign, correct_token

Form = Literal["exclusive", "independent", "real", "undeclared"]
"""How outputs answer: one of several classes (softmax), yes or no for each (sigmoid), numbers, or nobody said."""
CERTAIN_LOGIT = 30.0
"""A logit that is certain: its softmax or sigmoid is one to float32, and far from where a loss overflows."""
POSITIVE = 0.5
"""A yes-or-no label above this says yes; labels of 0 and 1 may be of any dtype."""


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """A row of the table; each function is given the target first.

    Attributes:
        form: how the outputs answer.
        classes: among how many answers one chooses; None where it is not about labels.
        labels: the targets read as classes, integers in `[0, classes)` in the shape of the targets, -1 where a position
            does not count (padding, a label outside of the classes); None where these targets are no labels. On the
            host.
        uninformed: logits (or probabilities) in the shape of the outputs that say nothing: all alike, zero for values.
        certain: outputs that are right and sure of it, as logits or as probabilities; None where targets and outputs do
            not fit together or certainty means nothing.
        constants: what a constant output could be, in the shape of the given one (a batch axis of one): log
            frequencies, shares and log odds, mean and median.
        metrics: the metrics that people read.
        several: whether an example has several labels that do not exclude each other.
        by_position: whether each position of a row has a label of its own that depends on the row up to there.
    """

    form: Form
    classes: Callable[[Any], int | None]
    labels: Callable[[Any, Any], Int[np.ndarray, "..."] | None]
    uninformed: Callable[[Any, Array, bool], Array]
    certain: Callable[[Any, Array, Any, bool], Array | None]
    constants: Callable[[Any, Array, Any], list[Array]]
    metrics: Callable[[Any], dict[str, Metric]]
    several: bool = False
    by_position: bool = False

    @property
    def labeled(self) -> bool:
        """Whether a prediction is right or wrong."""
        return self.form in ("exclusive", "independent")


def behavior(target: Target) -> Behavior:
    """The row of a declared target."""
    return BEHAVIORS[type(target)]


def counted(target: Target, targets: Any) -> Bool[np.ndarray, "..."]:
    """Which positions of the targets of one head count: all that are no padding and no label outside of the classes."""
    labels = behavior(target).labels(target, targets)
    return np.ones(np.shape(targets), bool) if labels is None else labels >= 0


def entropy(target: Target, targets: Any) -> float | None:
    """Entropy in nats of the labels of one head, what a cross entropy costs that only knows how often each occurs.

    The mean over the labels of an example where there are several. None where the target is not about labels, or no
    label counts.
    """
    row = behavior(target)
    labels = row.labels(target, targets)
    if labels is None or not (labels >= 0).any():
        return None
    columns = labels.reshape(len(labels), -1).T if row.form == "independent" else [labels]
    return float(np.mean([_entropy(column[column >= 0]) for column in columns]))


def _entropy(labels: Int[np.ndarray, "labels"]) -> float:
    shares = np.unique(labels, return_counts=True)[1] / max(labels.size, 1)
    return float(-(shares * np.log(shares)).sum())


def _class_labels(target: Classes | Tokens, targets: Any) -> Int[np.ndarray, "..."] | None:
    labels = np.asarray(targets)
    if not np.issubdtype(labels.dtype, np.integer):
        return None
    wide = labels.astype(np.int64)
    within = (wide >= 0) & (wide < _class_count(target))
    return np.where(within & (wide != getattr(target, "pad", None)), wide, -1)


def _class_count(target: Classes | Tokens) -> int:
    return target.n if isinstance(target, Classes) else target.vocabulary


def _equal_classes(_: Target, outputs: Array, probabilities: bool) -> Array:
    return jnp.full(outputs.shape, 1.0 / outputs.shape[-1] if probabilities else 0.0, jnp.float32)


def _certain_class(_: Target, outputs: Array, targets: Any, probabilities: bool) -> Array | None:
    if outputs.shape[:-1] != jnp.shape(targets) or not jnp.issubdtype(targets.dtype, jnp.integer):
        return None
    one_hot = jax.nn.one_hot(jnp.asarray(targets), outputs.shape[-1], dtype=jnp.float32)
    return one_hot if probabilities else CERTAIN_LOGIT * one_hot


def _log_frequencies(target: Classes | Tokens, constant: Array, targets: Any) -> list[Array]:
    labels, n = _class_labels(target, targets), _class_count(target)
    if labels is None or constant.shape[-1] != n:
        return []
    counts = np.bincount(labels[labels >= 0], minlength=n) + 0.5  # half a label more, since log(0) is no start
    return [jnp.broadcast_to(jnp.asarray(np.log(counts / counts.sum()), jnp.float32), constant.shape)]


def _yes_or_no(_: Target, targets: Any) -> Int[np.ndarray, "..."]:
    return (np.asarray(targets, np.float64) > POSITIVE).astype(np.int64)


def _undecided(_: Target, outputs: Array, probabilities: bool) -> Array:
    return jnp.full(outputs.shape, 0.5 if probabilities else 0.0, jnp.float32)


def _certain_yes_or_no(_: Target, outputs: Array, targets: Any, probabilities: bool) -> Array | None:
    if np.size(targets) != outputs.size:
        return None
    labels = jnp.asarray(targets).reshape(outputs.shape).astype(jnp.float32)
    return labels if probabilities else CERTAIN_LOGIT * (2.0 * labels - 1.0)


def _shares_and_log_odds(target: Binary | MultiLabel, constant: Array, targets: Any) -> list[Array]:
    columns = constant.shape[-1] if isinstance(target, MultiLabel) else 1
    if np.size(targets) % columns:
        return []
    labels = np.asarray(targets, np.float64).reshape(-1, columns)
    share = (labels.sum(axis=0) + 0.5) / (len(labels) + 1.0)
    starts = (share, np.log(share / (1.0 - share)))
    return [jnp.broadcast_to(jnp.asarray(start, jnp.float32), constant.shape) for start in starts]


def _zero(_: Target, outputs: Array, probabilities: bool) -> Array:
    del probabilities
    return jnp.zeros(outputs.shape, jnp.float32)


def _the_values(_: Target, outputs: Array, targets: Any, probabilities: bool) -> Array | None:
    del probabilities
    if np.size(targets) != outputs.size:
        return None
    return jnp.asarray(targets).reshape(outputs.shape).astype(jnp.float32)


def _mean_and_median(_: Target, constant: Array, targets: Any) -> list[Array]:
    values = np.asarray(targets, np.float32)
    if values.size % max(constant.shape[-1], 1):
        return []
    places = constant.shape[1:] if values[0].size == constant[0].size else constant.shape[-1:]
    rows = values.reshape(-1, *places)
    return [jnp.broadcast_to(jnp.asarray(average(rows, axis=0)), constant.shape) for average in (np.mean, np.median)]


CLASSES = Behavior(
    form="exclusive",
    classes=_class_count,
    labels=_class_labels,
    uninformed=_equal_classes,
    certain=_certain_class,
    constants=_log_frequencies,
    metrics=lambda _: {"accuracy": correct_class},
)
YES_OR_NO = Behavior(
    form="independent",
    classes=lambda _: 2,
    labels=_yes_or_no,
    uninformed=_undecided,
    certain=_certain_yes_or_no,
    constants=_shares_and_log_odds,
    metrics=lambda _: {"accuracy": correct_sign},
)
TOKENS = Behavior(
    form="exclusive",
    classes=_class_count,
    labels=_class_labels,
    uninformed=_equal_classes,
    certain=_certain_class,
    constants=_log_frequencies,
    metrics=lambda target: {"accuracy": correct_token(target.pad)},
    by_position=True,
)
VALUES = Behavior(
    form="real",
    classes=lambda _: None,
    labels=lambda *_: None,
    uninformed=_zero,
    certain=_the_values,
    constants=_mean_and_median,
    metrics=lambda _: {"absolute_error": absolute_error},
)
UNSPECIFIED = Behavior(
    form="undeclared",
    classes=lambda _: None,
    labels=lambda *_: None,
    uninformed=_zero,
    certain=lambda *_: None,
    constants=lambda *_: [],
    metrics=lambda _: {},
)
BEHAVIORS: dict[type, Behavior] = {
    Classes: CLASSES,
    Binary: YES_OR_NO,
    MultiLabel: replace(YES_OR_NO, several=True),
    Tokens: TOKENS,
    Values: VALUES,
    Unspecified: UNSPECIFIED,
}
"""Every kind of target, each as one row."""
