"""What a model predicts: the declared kind of a task's targets, one frozen value each.

A target says what can be known without the model: which dtype and range the targets must have, what the outputs look
like, and the metrics that people read. It never chooses the loss. What follows from each kind is one row of
`jaxrecipe.targets.behavior`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Classes:
    """One of `n` classes an example (or a pixel): labels `[batch, ...]` in `[0, n)`, logits `[batch, ..., n]`."""

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
