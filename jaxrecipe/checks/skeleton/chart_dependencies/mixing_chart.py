"""Which example's inputs and targets the loss of each example depends on: by gradient, by NaN and by other finite
values.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.changed_values import replaced, revealing_parameters
from jaxrecipe.probes.dependencies import dependence_gradients, on_host, revealed_outputs, split_floating
from jaxrecipe.probes.rounding import changed, model_rounding
from jaxrecipe.setup import Setup

Losses = Callable[[Any, Any], np.ndarray]
"""`(inputs, targets) -> [batch]`, the losses in one mode."""


@dataclass(frozen=True)
class MixingChart:
    """Which losses depend on which example's inputs and targets.

    Attributes:
        inputs, targets: `[batch, batch]`, whether loss i depends on example j, sure: by gradient or by finite values.
        by_nan: `[batch, batch]`, pairs that only NaN connects (a zero times NaN is NaN).
        strength: `[examples, batch]`, gradient norms, 1 where only changed values reach.
        blind: `[examples]`, losses that see no input at all and are not exactly zero (masked).
    """

    inputs: np.ndarray
    targets: np.ndarray
    by_nan: np.ndarray
    strength: np.ndarray
    blind: np.ndarray

    @property
    def pairs(self) -> int:
        """How many pairs of different examples are surely connected."""
        return int((self.inputs | self.targets).sum() - np.trace(self.inputs | self.targets))

    @property
    def pairs_by_nan(self) -> int:
        """How many pairs of different examples only NaN connects."""
        return int(self.by_nan.sum())


def chart_evaluation(setup: Setup, key: PRNGKeyArray, count: int, tolerance: float) -> MixingChart:
    """The chart of the evaluation mode: gradients where the leaves are floating, changed values everywhere."""
    floor = max(tolerance, model_rounding(setup))
    norms = _gradient_norms(setup, key, count)
    if not np.isfinite(_clean_losses(setup, key)).all():  # one of them makes every gradient NaN, which shows nothing
        norms = [np.zeros_like(norm) for norm in norms]
    above = [np.nan_to_num(norm, nan=np.inf) > floor * np.nanmax(norm, initial=0.0) for norm in norms]
    return _chart(setup, key, above, norms[0], train=False)


def chart_training(setup: Setup, key: PRNGKeyArray, count: int) -> MixingChart:
    """The chart of the training mode by changed inputs alone: what the loss makes of the targets is the same in both
    modes.
    """
    none = np.zeros((count, trees.leading_size(setup.batch[0])))
    return _chart(setup, key, [none > 0], none, train=True)


def _chart(setup: Setup, key: PRNGKeyArray, above: list[np.ndarray], norms: np.ndarray, *, train: bool) -> MixingChart:
    """The chart by changed values, added to what is connected by gradient: of the inputs, and of the targets where
    given.
    """
    batch, params, rounding = on_host(setup.batch), revealing_parameters(setup, key), model_rounding(setup)
    count, size = norms.shape

    def losses(inputs: Any, targets: Any) -> np.ndarray:
        return np.asarray(setup.costs(params, setup.model_state, inputs, targets, train=train, key=key).losses)

    clean, doubt = losses(*batch), np.zeros((size, size), bool)
    seen = [np.zeros((size, size), bool) for _ in range(2)]
    for part, by_gradient in enumerate(above):
        seen[part][:count] |= by_gradient
        for j in range(count):
            sure, doubtful = _reached(losses, batch, part, j, clean, seen[part][:, j], rounding)
            seen[part][:, j] |= sure
            doubt[:, j] |= doubtful
    shown = np.nan_to_num(norms, nan=1.0, posinf=1.0)
    strength = np.where(above[0], shown, seen[0][:count].astype(float))
    chart = MixingChart(seen[0], seen[1], by_nan=doubt, strength=strength, blind=np.zeros(count, bool))
    if chart.pairs and not split_floating(batch[0])[0]:
        return chart  # of integers only a few examples are changed, and what mixes examples may see another one
    known = np.isfinite(clean[:count]) & (clean[:count] != 0)
    return replace(chart, blind=~seen[0][:count].any(axis=1) & known)


def _reached(
    losses: Losses, batch: Any, part: int, example: int, clean: np.ndarray, known: np.ndarray, rounding: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which losses other values of one example surely reach, and which only NaN does: zero times NaN is NaN."""
    others = np.arange(len(clean)) != example
    reached = changed(clean, losses(*_with(batch, part, _poisoned(batch[part], example))), rounding)
    if not (reached & ~known & others).any():
        return reached, np.zeros_like(reached)
    moved = jax.tree.map(lambda leaf: replaced(leaf, ~others), batch[part])
    finite = changed(clean, losses(*_with(batch, part, moved)), rounding)
    return reached & (finite | ~others), reached & ~finite & others & ~known


def _clean_losses(setup: Setup, key: PRNGKeyArray) -> np.ndarray:
    """The losses of the batch as it is, in evaluation mode."""
    if setup.task.objective is not None:
        params = revealing_parameters(setup, key)
        return np.asarray(setup.costs(params, setup.model_state, *setup.batch, train=False, key=key).losses)
    return np.asarray(setup.losses(revealed_outputs(setup, key), on_host(setup.batch[1])))


def _gradient_norms(setup: Setup, key: PRNGKeyArray, count: int) -> list[Float[np.ndarray, "count batch"]]:
    """Norms of the gradients of the first losses with respect to every example's inputs and targets, in evaluation
    mode.
    """
    batch, size = on_host(setup.batch), trees.leading_size(setup.batch[0])
    if not any(split_floating(part)[0] for part in batch):
        return [np.zeros((count, size))] * 2
    floating, _ = split_floating(revealed_outputs(setup, key))
    nothing = [np.zeros(leaf.shape, np.float32) for leaf in floating]
    variables, program = (revealing_parameters(setup, key), setup.model_state), dependence_gradients(setup)
    rows = []
    for chosen in np.eye(size, dtype=np.float32)[:count]:
        parts = program(variables, batch, nothing, chosen, key, train=False)
        rows.append([norm_by_example(leaves, size) for leaves in parts])
    return [np.stack(part) for part in zip(*rows, strict=True)]


def norm_by_example(leaves: list[Any], size: int) -> Float[np.ndarray, "batch"]:
    """Norm over everything but the batch axis, all leaves together; never a signed sum, which would cancel."""
    squares = [np.square(np.asarray(leaf, np.float64)).reshape(size, -1).sum(axis=1) for leaf in leaves]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros(size)


def _with(batch: Any, part: int, tree: Any) -> tuple[Any, Any]:
    """The batch with other inputs (part 0) or targets (part 1)."""
    return (tree, batch[1]) if part == 0 else (batch[0], tree)


def _poisoned(tree: Any, example: int) -> Any:
    """The tree with one example made recognizable: NaN in floating leaves, another example's values in the others."""

    def poison(leaf: np.ndarray) -> np.ndarray:
        leaf = leaf.copy()
        if trees.is_floating(leaf):
            leaf[example] = np.nan
        else:
            different = (leaf != leaf[example]).reshape(len(leaf), -1).any(axis=1)
            leaf[example] = leaf[different.argmax()]
        return leaf

    return jax.tree.map(poison, tree)
