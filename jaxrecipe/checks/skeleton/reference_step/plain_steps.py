"""Training steps beside plain optax steps: how well a rule explains what was added to the parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.reference_step.trace import Trace
from jaxrecipe.probes.first_steps import vector
from jaxrecipe.setup import Setup

Moves = list[Float[np.ndarray, "parameters"]]
"""What is added to the parameters at each step, as vectors."""
NOISE, NOISE_HALF = 1e-3, 2e-2
"""Share of its size by which a gradient may be off by rounding, in float32 and in half precision."""
AMPLIFIED = 20.0
"""A number of an update that moves by more than so many times that noise is decided by rounding."""
STABLE_SHARE = 0.01
"""With fewer stable numbers than this share, all of them are compared."""
SHAKES = 2
"""Draws of the noise."""
ROUNDINGS = 2
"""A parameter is rounded before and after a step."""
DEVIATIONS, MARGIN = 4.0, 0.05
"""Distances between draws lie within so many standard deviations of their mean, and this share of it more."""


class Match(NamedTuple):
    """How well a rule explains the steps.

    Attributes:
        error: norm of the difference over the norm of the steps.
        low, high: where that error lies when nothing but the model's own randomness makes the difference; 0 without
            any.
    """

    error: float
    low: float = 0.0
    high: float = 0.0

    def within(self, limit: float) -> bool:
        """Whether the rule explains the steps up to a limit, and what randomness explains."""
        return self.error <= limit + self.high

    def less_random_than_the_model(self, limit: float) -> bool:
        """Whether the steps differ less from the rule's mean than draws of the model do."""
        return self.error < self.low - limit


@dataclass(frozen=True)
class Comparison:
    """Steps beside those of the declared optimizer.

    Attributes:
        trace: the steps.
        update: the optimizer's update, compiled.
        optimizer: as declared.
        moves: what each step added to the parameters.
        plain: what a plain step would have added, mean over the draws.
        stable: which numbers rounding does not decide, of each step.
        match: how well a plain step explains the steps.
    """

    trace: Trace
    update: Callable[..., Any]
    optimizer: optax.GradientTransformation
    moves: Moves
    plain: Moves
    stable: list[Bool[np.ndarray, "parameters"]]
    match: Match

    @property
    def moves_nothing(self) -> bool:
        """Whether no step changed any parameter."""
        return not any(move.any() for move in self.moves)

    def explains(self, rule: "Rule", gradients: list[list[Any]] | None = None) -> Match:
        """How well another rule explains the steps."""
        return _match(self, [rule(self, draw) for draw in gradients or self.trace.gradients])


Rule = Callable[[Comparison, list[Any]], Moves]
"""From the gradients of the steps to what is added to the parameters at each."""


def plain_update(setup: Setup) -> Callable[..., Any]:
    """`update(gradients, opt_state, params) -> (params, opt_state)` of the declared optimizer, compiled once."""
    optimizer = setup.task.optimizer

    @jax.jit
    def update(gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        gradients = jax.tree.map(lambda grad, param: grad.astype(param.dtype), gradients, params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

    return setup.memo(plain_update, lambda: update)


def compare(setup: Setup, trace: Trace, *, half: bool, left_out: Sequence[str] = ()) -> Comparison:
    """Put plain steps beside those that were taken; parameters of the paths in `left_out` do not count."""
    update, moves = plain_update(setup), trace.moves()
    everything = [np.ones(move.shape, bool) for move in moves]
    empty = Comparison(trace, update, setup.task.optimizer, moves, moves, everything, Match(0.0))
    chains = [plain_moves(empty, draw) for draw in trace.gradients]
    plain = [np.mean(draws, axis=0) for draws in zip(*chains, strict=True)]
    stable = everything if len(chains) > 1 else _stable(empty, plain, NOISE_HALF if half else NOISE)
    counted = _counted(trace, left_out)
    ready = replace(empty, plain=plain, stable=[keep & counted for keep in stable])
    return replace(ready, match=_match(ready, chains))


def plain_moves(
    comparison: Comparison,
    gradients: list[Any],
    *,
    carry: Callable[[Any, Any], Any] = lambda _start, after: after,
) -> Moves:
    """What plain steps add to the parameters; `carry` is what becomes of the optimizer state from step to step."""
    params = comparison.trace.params
    start = state = comparison.optimizer.init(params[0])
    added: Moves = []
    for step, grads in enumerate(gradients):
        moved, after = comparison.update(grads, state, params[step])
        added.append(vector(moved) - vector(params[step]))
        state = carry(start, after)
    return added


def _stable(comparison: Comparison, plain: Moves, noise: float) -> list[Bool[np.ndarray, "parameters"]]:
    """Which numbers of each update stay as they are when the gradients move by a little noise."""
    rng = np.random.default_rng(0)
    kept = [np.ones(move.shape, bool) for move in plain]
    for _ in range(SHAKES):
        shaken = [_shaken(rng, grads, noise) for grads in comparison.trace.gradients[0]]
        for keep, move, other in zip(kept, plain, plain_moves(comparison, shaken), strict=True):
            keep &= np.abs(other - move) <= AMPLIFIED * noise * np.abs(move)
    return [keep if keep.mean() > STABLE_SHARE else np.ones_like(keep) for keep in kept]


def _shaken(rng: np.random.Generator, gradients: Any, noise: float) -> Any:
    """Gradients with normal noise of this share of their overall size."""
    size = np.sqrt(np.mean(np.square(vector(gradients))))

    def one(leaf: Any) -> Any:
        return np.asarray(leaf) + (noise * size * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(one, gradients)


def _match(comparison: Comparison, chains: list[Moves]) -> Match:
    """Difference between the steps taken and those of a rule, over their size; each chain is one draw of the model."""
    draws = len(chains)
    wrong = size = 0.0
    spread = np.zeros(draws)
    for step, (move, keep) in enumerate(zip(comparison.moves, comparison.stable, strict=True)):
        each = np.stack([chain[step] for chain in chains])[:, keep]
        mean = each.mean(axis=0)
        allowed = rounding(comparison.trace, step)[keep]
        wrong += np.square(np.maximum(np.abs(move[keep] - mean) - allowed, 0)).sum()
        size += max(np.square(mean).sum(), np.square(move[keep]).sum())
        spread += np.square(each - mean).sum(axis=1)
    if not size:
        return Match(0.0)
    error = float(np.sqrt(wrong / size))
    if draws == 1:
        return Match(error)
    # Each draw from the mean of the others, brought to the distance of one more draw from the mean of all.
    spread *= (draws / (draws - 1)) ** 2 * (1 + 1 / draws) / (1 + 1 / (draws - 1))
    distances = np.sqrt(spread / size)
    middle = float(distances.mean())
    width = DEVIATIONS * float(distances.std(ddof=1)) + MARGIN * middle
    return Match(error, max(middle - width, 0.0), middle + width)


def rounding(trace: Trace, step: int) -> Float[np.ndarray, "parameters"]:
    """How far rounding may move each parameter in a step."""
    params = trace.params[step]
    return ROUNDINGS * epsilons(params) * np.abs(vector(params))


def epsilons(params: Any) -> Float[np.ndarray, "parameters"]:
    """Relative rounding of each number by the dtype of its leaf."""
    parts = [np.full(leaf.size, float(jnp.finfo(leaf.dtype).eps)) for leaf in jax.tree.leaves(params)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _counted(trace: Trace, left_out: Sequence[str]) -> Bool[np.ndarray, "parameters"]:
    """All numbers but those of some parameters."""
    named = trees.named_leaves(trace.params[0])
    return np.concatenate(
        [np.full(leaf.size, path not in left_out) for path, leaf in named.items()] or [np.zeros(0, bool)]
    )


def by_leaf(comparison: Comparison) -> list[tuple[str, float, float, float]]:
    """Each parameter with the norms of what was added to it, by the steps and by plain ones, and of the difference."""
    moves, plain = (np.stack(lists) for lists in (comparison.moves, comparison.plain))
    rows, start = [], 0
    for path, leaf in trees.named_leaves(comparison.trace.params[0]).items():
        yours, wanted = moves[:, start : start + leaf.size], plain[:, start : start + leaf.size]
        start += leaf.size
        rows.append((path, *(float(np.linalg.norm(part)) for part in (yours, wanted, yours - wanted))))
    return rows
