"""Does padding stay without influence: changed values at padded positions of inputs, gradients at padded positions of
outputs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.changed_values import replaced, revealing_parameters
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.probes.loss_alignment import (
    loss_alignment,
    loss_gradient_at_outputs,
    only_array,
    padding_id,
    token_target,
)
from jaxrecipe.probes.rounding import changed, model_rounding
from jaxrecipe.setup import Setup

NAMED_MASK = re.compile(r"mask|pad|valid|weight", re.IGNORECASE)
NAMED_LENGTH = re.compile(r"len", re.IGNORECASE)
COUNTS = 1e-6
"""Share of the largest gradient from which on the loss sees an output; what a mask multiplies has none at all."""
SURE = 10.0
"""Outputs so many times as large as the largest leave no doubt about an answer."""
BATCHES = 4
"""Batches among which the one with most padding is looked for."""


@dataclass(frozen=True)
class Padding:
    """One place where padding is marked, and how much of it the loss sees.

    Attributes:
        where: in words.
        seen: share of the padded examples or positions that change the loss; zero where padding is ignored.
        code: what it is where the loss sees some.
        path: of the input that marks it; empty where the targets do.
        what: what it changes.
        certain: whether it must not do so, or only had better not.
    """

    where: str
    seen: float
    code: str
    path: str = ""
    what: str = "the loss"
    certain: bool = True

    @property
    def declared(self) -> bool:
        """Whether the task or the data say that it is padding."""
        return self.code != "data/padding-undeclared" and self.certain


def padded_targets(setup: Setup) -> Iterator[Padding]:
    """Whether loss and metrics count positions whose target is padding; nothing without such positions."""
    target = token_target(setup.task.target)
    if target is None:
        return
    inputs, tree = most_padded_batch(setup, target.pad)
    targets = only_array(tree)
    if targets is None or targets.ndim != 2:
        return
    pad = padding_id(targets) if target.pad is None else target.pad
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)
    logits = only_array(outputs)
    if pad is None or logits is None or logits.ndim != 3:
        return
    size = np.abs(np.asarray(loss_gradient_at_outputs(setup)(outputs, tree)[0], np.float64)).max(axis=-1)
    places, where = _outputs_held_against(targets == pad, loss_alignment(setup) or 0), f"targets equal to {pad}"
    if places.any():
        code = "data/padding-undeclared" if target.pad is None else "loss/padding-counted"
        seen = float((size[places] > COUNTS * size.max()).mean())
        yield Padding(where=where, seen=seen, code=code)
        if target.pad is not None and not seen:
            both = places & (targets == pad)  # a metric may hold them against each other in another way
            yield from _padded_metrics(setup, outputs, tree, both, where)


def _padded_metrics(
    setup: Setup, outputs: Any, targets: Any, places: Bool[np.ndarray, "batch time"], where: str
) -> Iterator[Padding]:
    """Whether metrics change with the outputs at places that the loss leaves out, one answer for each metric."""
    logits, rows = np.asarray(only_array(outputs)), places.any(axis=1)
    if not rows.any():
        return
    label = np.clip(np.asarray(only_array(targets)), 0, logits.shape[-1] - 1)
    answer = 2 * np.eye(logits.shape[-1])[label] - 1  # the label given there, and any other one
    for name, metric in setup.task.all_metrics.items():
        values = []
        for sign in (1, -1):
            sure = SURE * (1 + np.abs(logits).max(initial=0.0)) * sign * answer
            changed_logits = np.where(places[..., None], sure, logits).astype(logits.dtype)
            given = jax.tree.unflatten(jax.tree.structure(outputs), [changed_logits])
            values.append(np.asarray(metric(*jax.device_put((given, targets))), np.float64))
        moved = values[0] != values[1]
        what = f"the metric {name!r}, and not the loss"
        yield Padding(where, float(moved[rows].mean()), "evaluation/padding-counted", what=what)


def _outputs_held_against(marked: Bool[np.ndarray, "batch time"], shift: int) -> Bool[np.ndarray, "batch time"]:
    """Which outputs the loss holds against marked targets, where it holds target t + shift against output t."""
    places = np.roll(marked, -shift, axis=1)
    places[:, : max(0, -shift)] = False
    places[:, marked.shape[1] - max(0, shift) :] = False
    return places


def padded_outputs(setup: Setup) -> Iterator[Padding]:
    """Whether the loss counts outputs that a mask among the targets marks as padding, one answer a mask."""
    inputs, targets = on_host(setup.batch)
    named = trees.named_leaves(targets)
    masks = {path: leaf for path, leaf in named.items() if NAMED_MASK.search(path) and is_mask(leaf)}
    if not masks or len(named) < 2:
        return
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)
    for gradient in loss_gradient_at_outputs(setup)(outputs, targets)[:1]:
        for path, mask in masks.items():
            size = np.abs(np.asarray(gradient, np.float64))
            if size.shape[: mask.ndim] == mask.shape and mask.any() and not mask.all():
                size = size.reshape(*mask.shape, -1).max(axis=-1)
                sides = [size[mask.astype(bool) == side] > COUNTS * size.max() for side in (False, True)]
                seen = float(min(side.mean() for side in sides))
                yield Padding(where=f"the targets' {path}", seen=seen, code="loss/padding-counted")


def padded_inputs(setup: Setup, key: PRNGKeyArray) -> Iterator[Padding]:
    """Whether values at padded positions of the inputs reach the losses, one answer for each mask or length among the
    inputs.

    A mask must be true for a run at the start or the end of each row to count as padding; which of its values marks
    padding is found by trying both: padding is ignored when the values at one of them have no influence.
    """
    named = trees.named_leaves(on_host(setup.batch[0]))
    for path, leaf in named.items():
        for sides in possible_padding(path, leaf, named):
            by_side = [_share_reached(setup, key, path, padded) for padded in sides]
            where = f"the inputs' {path or 'mask'}"
            yield Padding(where=where, seen=min(by_side), code="model/padding-seen", path=path)


def possible_padding(
    path: str, leaf: np.ndarray, named: dict[str, np.ndarray]
) -> Iterator[list[Bool[np.ndarray, "batch time"]]]:
    """What may be padding by a leaf: the two sides of a mask, or what lies behind the lengths; nothing for other
    leaves.
    """
    others = [other for name, other in named.items() if name != path and other.ndim >= 2]
    if is_mask(leaf) and leaf.ndim == 2 and (NAMED_MASK.search(path) or leaf.dtype == np.bool_):
        mask = leaf.astype(bool)
        runs = (mask[:, 1:] != mask[:, :-1]).sum(axis=1) <= 1
        if runs.all() and mask.any() and not mask.all() and any(other.shape[:2] == leaf.shape for other in others):
            yield [~mask, mask]
    elif NAMED_LENGTH.search(path) and leaf.ndim == 1 and np.issubdtype(leaf.dtype, np.integer):
        for length in {other.shape[1] for other in others}:
            if leaf.min() >= 1 and leaf.max() <= length and (leaf < length).any():
                yield [np.arange(length) >= leaf[:, None]]


def _share_reached(setup: Setup, key: PRNGKeyArray, path: str, padded: Bool[np.ndarray, "batch time"]) -> float:
    """Share of the examples with padding whose loss changes when their values there do, in evaluation mode."""
    inputs, targets = on_host(setup.batch)
    params = revealing_parameters(setup, key)

    def losses(inputs: Any) -> np.ndarray:
        outputs, _ = setup.forward(params, setup.model_state, inputs, train=False, key=key)
        return np.asarray(setup.losses(outputs, targets))

    def move(name: str, leaf: np.ndarray) -> np.ndarray:
        return replaced(leaf, padded) if name != path and leaf.shape[:2] == padded.shape else leaf

    moved = [move(name, leaf) for name, leaf in trees.named_leaves(inputs).items()]
    after = losses(jax.tree.unflatten(jax.tree.structure(inputs), moved))
    return float(changed(losses(inputs), after, model_rounding(setup))[padded.any(axis=1)].mean())


def is_mask(leaf: np.ndarray) -> bool:
    """Whether an array holds truth values, as such or as zeros and ones."""
    return leaf.dtype == np.bool_ or bool(np.isin(leaf, (0, 1)).all())


def most_padded_batch(setup: Setup, pad: int | None) -> tuple[Any, Any]:
    """Of the first few batches of the training data the one with most padding."""
    size, first = setup.batch_size, on_host(setup.batch)
    if pad is None:
        return first
    starts = range(0, min(BATCHES * size, setup.train.size - size + 1), size)
    others = [on_host(setup.prepared("train", np.arange(start, start + size))) for start in starts]
    return max([first, *others], key=lambda batch: sum(np.sum(leaf == pad) for leaf in jax.tree.leaves(batch[1])))
