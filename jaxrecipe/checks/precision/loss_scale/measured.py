"""What the check of the loss scale measures: what the first gradients lose, and how some tens of steps go."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.precision.numerics import Advice
from jaxrecipe.probes import half_precision as half
from jaxrecipe.setup import Setup

TOLD_APART = 0.5
"""A step is taken for one of two guesses when it is nearer to it than half of what lies between them."""


@dataclass(frozen=True)
class Lost:
    """The layer of which the largest share of the gradient became zero."""

    layer: str
    share: float


@dataclass(frozen=True)
class Run:
    """Some steps of the loop itself.

    Attributes:
        steps: taken until the end or until something broke.
        skipped: steps that were skipped, or None where a loop of the user's own does not show it.
        stuck: steps in a row that were skipped at the end.
        scales: the scale after each step, as far as it is shown.
        broken: the first parameter or model state that was not finite any more, "" when all are.
        losses: as the step reported them; NaN where it did not.
    """

    steps: int
    skipped: int | None
    stuck: int
    scales: Float[np.ndarray, "shown"]
    broken: str
    losses: Float[np.ndarray, "steps"]


@dataclass(frozen=True)
class Case:
    """Everything that was measured.

    Attributes:
        dtype: the half-precision format.
        scale: the loss scale in force.
        at: the scale that the first step goes through at.
        goes_through: whether its gradients are finite there.
        lost: the layer that loses most.
        advice: the best power of two, and the headroom there.
        run: how some tens of steps went.
        own_step_moves: whether a step of a loop whose scale is not known updates what the unscaled gradient has lost;
            None when that cannot be told, or was not asked.
    """

    dtype: str
    scale: half.Scale
    at: float
    goes_through: bool
    lost: Lost
    advice: Advice
    run: Run
    own_step_moves: bool | None = None

    @property
    def unscaled(self) -> bool:
        """Whether there is no loss scale, as far as can be seen."""
        return self.scale.kind in ("none", "unknown")


def most_lost(low: Any, full: Any, noise: set[str]) -> Lost:
    """Among the numbers that matter to a layer, how many became zero: of the worst layer."""
    ours, theirs = half.as_numpy(low), half.as_numpy(full)
    share = {name: _share_lost(ours[name], theirs[name]) for name in theirs if name not in noise}
    worst = max(share, key=lambda name: share[name], default="")
    return Lost(worst, share[worst]) if worst else Lost("none", 0.0)


def _share_lost(low: Float[np.ndarray, "..."], full: Float[np.ndarray, "..."]) -> float:
    matters = half.matters(full)
    return float((low[matters] == 0).mean()) if matters.any() else 0.0


def take_steps(setup: Setup, key: PRNGKeyArray, steps: int) -> Run:
    """Training by the loop's own step from a fresh state."""
    state, scales, skips, losses = setup.fresh_state(), [], [], []
    shown = half.shown_scale(state)
    broken = ""
    for step in range(steps):
        state, metrics = setup.step(state, *setup.training_batch(step), jax.random.fold_in(key, step))
        losses.append(float(metrics.get("loss", math.nan)))
        before, shown = shown, half.shown_scale(state)
        if shown is not None:
            scales.append(shown)
        skips.append(_was_skipped(metrics, sum(map(bool, skips)), before, shown))
        broken = _first_nonfinite(setup, state)
        if broken:
            break
    known = [skip for skip in skips if skip is not None]
    stuck = next((index for index, skip in enumerate(reversed(known)) if not skip), len(known))
    return Run(
        steps=len(losses),
        skipped=sum(known) if known else None,
        stuck=stuck,
        scales=np.asarray(scales, np.float64),
        broken=broken,
        losses=np.asarray(losses, np.float64),
    )


def _was_skipped(metrics: Mapping[str, Any], already: int, before: float | None, after: float | None) -> bool | None:
    """Whether a step was skipped: by the library's count, or because a dynamic scale went down; None when nothing shows
    it.
    """
    if "skipped" in metrics:
        return int(metrics["skipped"]) > already
    return None if before is None or after is None else after < before


def _first_nonfinite(setup: Setup, state: Any) -> str:
    params, model_state = setup.loop.variables(state)
    watched = {"parameters": params, "model state": model_state}
    index = int(trees.first_nonfinite(watched))
    return trees.paths(watched)[index] if index >= 0 else ""


def own_step_moves_them(setup: Setup, key: PRNGKeyArray, full: Any, low: Any) -> bool | None:
    """Whether a step of the user's own loop updates what the unscaled gradient has lost; None when that cannot be told.

    The optimizer is given both gradients, the whole one and the one with zeros; the real step is nearer to one of them.
    """
    params = setup.params
    state, _ = setup.step(setup.fresh_state(), *setup.batch, key)
    before, after = half.as_numpy(params), half.as_numpy(setup.loop.variables(state)[0])
    by_full, by_low = (half.as_numpy(half.optimizer_step(setup, params, grads)[0]) for grads in (full, low))
    ours, wide = half.as_numpy(low), half.as_numpy(full)
    lost = {name: half.matters(wide[name]) & (ours[name] == 0) for name in wide}
    moved, whole, zero = (
        np.concatenate([tree[name][lost[name]] for name in wide])
        for tree in ({name: after[name] - before[name] for name in before}, by_full, by_low)
    )
    between = float(np.linalg.norm(whole - zero))
    far = [float(np.linalg.norm(moved - guess)) / max(between, 1e-300) for guess in (whole, zero)]
    if not between or min(far) > TOLD_APART:
        return None
    return far[0] < far[1]
