"""Does padding stay without influence: changed values at padded positions of inputs, gradients at padded positions of outputs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.dependencies import loss_alignment, loss_gradient_at_outputs, on_host, padding_id, replaced
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens

NAMED_MASK = re.compile(r"mask|pad|valid|weight", re.IGNORECASE)
NAMED_LENGTH = re.compile(r"len", re.IGNORECASE)


@dataclass(frozen=True)
class Padding:
    """One place where padding is marked, and how much of it the loss sees.

    Attributes:
        where: in words.
        seen: share of the padded examples or positions that change the loss; zero where padding is ignored.
        declared: whether the task or the data say that it is padding.
    """

    where: str
    seen: float
    declared: bool = True


def padded_targets(setup: Setup) -> Padding | None:
    """Whether the loss counts positions whose target is padding; None without such positions."""
    target = setup.task.target
    if not isinstance(target, Tokens):
        return None
    inputs, targets = _most_padded_batch(setup, target.pad)
    if not isinstance(targets, np.ndarray) or targets.ndim != 2:
        return None
    pad = padding_id(targets) if target.pad is None else target.pad
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)
    if pad is None or not (targets == pad).any() or not isinstance(outputs, jax.Array) or outputs.ndim != 3:
        return None
    size = np.abs(np.asarray(loss_gradient_at_outputs(setup)(outputs, targets)[0], np.float64)).max(axis=-1)
    shift = loss_alignment(setup) or 0
    places = np.roll(targets == pad, -shift, axis=1)  # the outputs that the loss holds against padded targets
    places[:, : max(0, -shift)] = False
    places[:, targets.shape[1] - max(0, shift) :] = False
    return (
        None
        if not places.any()
        else Padding(
            where=f"targets equal to {pad}",
            seen=float((size[places] > 1e-6 * size.max()).mean()),
            declared=target.pad is not None,
        )
    )


def padded_outputs(setup: Setup) -> Iterator[Padding]:
    """Whether the loss counts outputs that a mask among the targets marks as padding, one answer a mask."""
    inputs, targets = on_host(setup.batch)
    masks = [
        (path, leaf) for path, leaf in trees.named_leaves(targets).items() if NAMED_MASK.search(path) and _is_mask(leaf)
    ]
    if not masks or len(jax.tree.leaves(targets)) < 2:
        return
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=False, key=setup.key)
    for gradient in loss_gradient_at_outputs(setup)(outputs, targets)[:1]:
        for path, mask in masks:
            size = np.abs(np.asarray(gradient, np.float64))
            if size.shape[: mask.ndim] == mask.shape and mask.any() and not mask.all():
                size = size.reshape(*mask.shape, -1).max(axis=-1)
                sides = [size[mask.astype(bool) == side] > 1e-6 * size.max() for side in (False, True)]
                yield Padding(where=f"the targets' {path}", seen=float(min(side.mean() for side in sides)))


def padded_inputs(setup: Setup, params: Any, key: PRNGKeyArray) -> Iterator[Padding]:
    """Whether values at padded positions of the inputs reach the losses, one answer for each mask or length among the inputs.

    A mask must be true for a run at the start or the end of each row to count as padding; which of its values marks padding is found by
    trying both: padding is ignored when the values at one of them have no influence.
    """
    batch = on_host(setup.batch)
    named = trees.named_leaves(batch[0])
    for path, leaf in named.items():
        for padded in _padding_masks(path, leaf, named):
            by_side = [_reaches(setup, params, key, batch, path, mask) for mask in padded]
            yield Padding(where=f"the inputs' {path or 'mask'}", seen=min(by_side))


def _padding_masks(path: str, leaf: np.ndarray, named: dict[str, np.ndarray]) -> Iterator[list[np.ndarray]]:
    """What may be padding by a leaf: the two sides of a mask, or what lies behind the lengths; nothing for other leaves."""
    others = [other for name, other in named.items() if name != path and other.ndim >= 2]
    if _is_mask(leaf) and leaf.ndim == 2 and (NAMED_MASK.search(path) or leaf.dtype == np.bool_):
        mask = leaf.astype(bool)
        runs = (mask[:, 1:] != mask[:, :-1]).sum(axis=1) <= 1
        if runs.all() and mask.any() and not mask.all() and any(other.shape[:2] == leaf.shape for other in others):
            yield [~mask, mask]
    elif NAMED_LENGTH.search(path) and leaf.ndim == 1 and np.issubdtype(leaf.dtype, np.integer):
        for length in {other.shape[1] for other in others}:
            if leaf.min() >= 1 and leaf.max() <= length and (leaf < length).any():
                yield [np.arange(length) >= leaf[:, None]]


def _reaches(
    setup: Setup, params: Any, key: PRNGKeyArray, batch: Any, path: str, padded: Bool[np.ndarray, "batch time"]
) -> float:
    """Share of the examples with padding whose loss changes when their values there do, in evaluation mode."""
    inputs, targets = batch

    def losses(inputs: Any) -> np.ndarray:
        return np.asarray(
            setup.losses(setup.forward(params, setup.model_state, inputs, train=False, key=key)[0], targets)
        )

    def move(name: str, leaf: np.ndarray) -> np.ndarray:
        return replaced(leaf, padded) if name != path and leaf.shape[:2] == padded.shape else leaf

    moved = [move(name, leaf) for name, leaf in trees.named_leaves(inputs).items()]
    after = losses(jax.tree.unflatten(jax.tree.structure(inputs), moved))
    changed = ~np.isclose(after, losses(inputs), rtol=1e-4, atol=1e-6, equal_nan=True)
    return float(changed[padded.any(axis=1)].mean())


def _is_mask(leaf: np.ndarray) -> bool:
    return leaf.dtype == np.bool_ or bool(np.isin(leaf, (0, 1)).all())


def _most_padded_batch(setup: Setup, pad: int | None, batches: int = 4) -> tuple[Any, Any]:
    """Of the first few batches of the training data the one with most padding."""
    size = setup.batch_size
    found = [on_host(setup.batch)]
    if isinstance(found[0][1], np.ndarray):
        starts = range(0, min(batches * size, setup.train.size - size + 1), size)
        found += [on_host(setup.prepared("train", np.arange(start, start + size))) for start in starts]
    return max(
        found, key=lambda batch: np.sum(batch[1] == pad) if isinstance(batch[1], np.ndarray) and pad is not None else 0
    )
