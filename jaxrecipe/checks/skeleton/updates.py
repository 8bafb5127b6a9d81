"""Updates: every parameter that should learn gets a gradient and moves, by a sensible amount, and no other does."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.constant_predictor import is_flat
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="updates", stage="skeleton")


def updates(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 10,
    small: float = 1e-5,
    large_warn: float = 0.15,
    dead_share: float = 0.5,
    dead_fail: float = 0.8,
) -> Result:
    """Each parameter has a gradient, moves, and is frozen exactly as declared.

    What it does: takes a few steps with your own training step on real batches, and notes for every parameter the gradient, the size of
    a step relative to the parameter, and how many of its output units never get a gradient.

    Why it matters: a frozen layer left over from fine-tuning, a branch cut off by stop_gradient, dead or identical units and updates
    that are thrown away all leave a network that trains, with less in it than you think.

    What to do: declare what is frozen on purpose (`Task(frozen=("backbone/*",))`). For a parameter without gradient follow it to the loss; for one with
    gradient but no movement look at masks and labels of the optimizer; for steps that are too small look at the learning rate, its schedule
    and clipping.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: training steps taken.
        small: WARN when the largest relative change of a step (over all parameters) is below this; about 1e-3 is usual.
        large_warn: WARN when the median parameter's relative change of a step is above this. Ten steps straight from zero change a
            parameter by a tenth of its final size each; more than that goes to and fro. Parameters that start at zero do not count.
        dead_share: WARN when more than this share of a layer's units never gets a gradient in any of the steps.
        dead_fail: FAIL above this share: less than a fifth of the layer that was asked for is there, which no initialisation leaves by chance.

    Source: Karpathy, CS231n notes, ratio of updates to weights.
    """
    rows = _watch(setup, key, steps)
    if not rows:
        return _result(status=Status.SKIP, finding="The model has no parameters.")
    declared = {path for path in rows if any(trees.matches(path, pattern) for pattern in setup.task.frozen)}
    free = [row for path, row in rows.items() if path not in declared]
    ratios = [row.ratio for row in free if row.initial > 0] or [row.ratio for row in free]
    measured = {
        "parameters without gradient": sum(row.gradient == 0 for row in free),
        "parameters that do not move": sum(row.moved == 0 for row in free),
        "frozen parameters that move": sum(rows[path].moved > 0 for path in declared),
        "largest relative change of a step": max(ratios, default=0.0),
        "median relative change of a step": float(np.median(ratios)) if ratios else 0.0,
    }
    expected = {
        **dict.fromkeys(list(measured)[:3], 0),
        "largest relative change of a step": f"{small:g} or more",
        "median relative change of a step": f"up to {large_warn:g}",
    }
    columns = (
        "parameter",
        "gradient norm",
        "norm",
        "change of a step",
        "relative",
        "units without gradient",
        "declared frozen",
    )
    table = Table(
        title="Parameters",
        columns=columns,
        rows=[(p, r.gradient, r.size, r.moved, r.ratio, f"{r.dead:.0%}", p in declared) for p, r in rows.items()],
    )
    flat = measured["parameters without gradient"] == len(free) > 0 and _flat_loss(setup, key)
    status, finding, hint = _judge(rows, declared, measured, small, large_warn, dead_share, dead_fail, flat=flat)
    return _result(status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=(table,))


@dataclass(frozen=True)
class Row:
    """One parameter over the steps: largest gradient norm, initial norm, norm (the larger of first and last), mean change of a step, share of units without gradient."""

    gradient: float
    initial: float
    size: float
    moved: float
    dead: float
    twins: bool

    @property
    def ratio(self) -> float:
        """Mean change of a step relative to the parameter."""
        return self.moved / max(self.size, 1e-12)


NO_GRADIENT = "These parameters get no gradient ({names}): follow them to the loss and look for a stop_gradient, a branch that is not used, dead activations, or a layer that multiplies them by zero."
FLAT_LOSS = "The loss is flat where the outputs are: its gradient with respect to the outputs is zero. It is clipped or saturated (clip gradients, not the loss), rounds, takes the softmax over a single output, or is a metric."
FROZEN = "These parameters get a gradient but do not move ({names}): the optimizer freezes them (a mask or label left over from fine-tuning), or their updates are not applied. If that is meant, declare Task(frozen=...)."
THROWN_AWAY = "No parameter moves although all get gradients: the updates are computed and thrown away, or the learning rate is zero."
THAWED = "These parameters are declared frozen but move ({names}): the mask does not match their paths, or weight decay reaches them."
SLOW = "The learning rate is too small, its schedule is still near zero (counted in the wrong unit?), or a clip is very tight: steps change the parameters by {ratio:.1e} of their size, about 1e-3 is usual."
FAST = "The learning rate is probably too high: a step changes the median parameter by {ratio:.0%} of its size."
DEAD = "Dead units ({names}): lower the learning rate, look at the bias and scale of their initialisation, or use a leaky activation."
TWINS = "All units of a layer have the same weights and the same gradient ({names}), so they stay copies of one unit: initialise at random, not with a constant."


def _judge(
    rows: dict[str, Row],
    declared: set[str],
    measured: dict[str, Any],
    small: float,
    large: float,
    dead_share: float,
    dead_fail: float,
    *,
    flat: bool,
) -> tuple[Status, str, str]:
    """The most certain problem first."""
    free = {path: row for path, row in rows.items() if path not in declared}
    thawed = [path for path in declared if rows[path].moved > 0]
    blocked = [path for path, row in free.items() if row.gradient == 0]
    stuck = [path for path, row in free.items() if row.gradient > 0 and row.moved == 0]
    twins = [path for path, row in free.items() if row.twins]
    dead = [path for path, row in free.items() if dead_share < row.dead < 1]
    fastest, median = measured["largest relative change of a step"], measured["median relative change of a step"]
    if thawed:
        return (
            Status.FAIL,
            f"{len(thawed)} parameters that are declared frozen move.",
            THAWED.format(names=_names(thawed)),
        )
    if free and all(row.moved == 0 for row in free.values()) and len(blocked) < len(free):
        return Status.FAIL, "No parameter moves.", THROWN_AWAY
    if twins:
        return (
            Status.FAIL,
            f"The units of {len(twins)} layers are copies of one another.",
            TWINS.format(names=_names(twins)),
        )
    if blocked:
        return (
            Status.FAIL,
            f"{len(blocked)} of {len(free)} parameters get no gradient.",
            FLAT_LOSS if flat and len(blocked) == len(free) else NO_GRADIENT.format(names=_names(blocked)),
        )
    if stuck:
        return (
            Status.FAIL,
            f"{len(stuck)} of {len(free)} parameters get a gradient but do not move.",
            FROZEN.format(names=_names(stuck)),
        )
    if mostly := [path for path, row in free.items() if dead_fail < row.dead < 1]:
        return (
            Status.FAIL,
            f"In {len(mostly)} layers more than {dead_fail:.0%} of the units never get a gradient.",
            DEAD.format(names=_names(mostly)),
        )
    if free and fastest < small:
        return (
            Status.WARN,
            f"The parameters hardly move: at most {fastest:.1e} of their size in a step.",
            SLOW.format(ratio=fastest),
        )
    if median > large:
        return (
            Status.WARN,
            f"A step changes the median parameter by {median:.0%} of its size.",
            FAST.format(ratio=median),
        )
    if dead:
        return (
            Status.WARN,
            f"In {len(dead)} layers more than {dead_share:.0%} of the units never get a gradient.",
            DEAD.format(names=_names(dead)),
        )
    finding = f"All {len(free)} parameters get a gradient and move, by {median:.1e} of their size in a step."
    return Status.PASS, finding + (f" {len(declared)} are frozen as declared." if declared else ""), ""


def _flat_loss(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the loss has no gradient with respect to the untrained model's outputs either."""
    inputs, targets = setup.batch
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=True, key=key)
    return is_flat(setup, outputs, targets)


def _watch(setup: Setup, key: PRNGKeyArray, steps: int) -> dict[str, Row]:
    """Take the steps; the gradient is the library's own, of the mean loss on the same batch."""
    state = setup.fresh_state()
    params, model_state = trees.copy(setup.loop.variables(state))
    start = trees.named_leaves(params)
    gradients: dict[str, list[np.ndarray]] = {path: [] for path in start}
    moved = dict.fromkeys(start, 0.0)
    for step in range(steps):
        inputs, targets = setup.training_batch(step)
        step_key = jax.random.fold_in(key, step)
        _, gradient = setup.gradients(params, model_state, inputs, targets, key=step_key, train=True)
        for path, leaf in trees.named_leaves(gradient).items():
            gradients[path].append(np.asarray(leaf, np.float64))
        state, _ = setup.step(state, inputs, targets, step_key)
        after, model_state = trees.copy(setup.loop.variables(state))
        for path, leaf in trees.named_leaves(after).items():
            moved[path] += (
                _norm(np.asarray(leaf, np.float64) - np.asarray(trees.named_leaves(params)[path], np.float64)) / steps
            )
        params = after
    return {
        path: Row(
            gradient=max(_norm(g) for g in gradients[path]),
            initial=_norm(np.asarray(leaf, np.float64)),
            size=max(
                _norm(np.asarray(leaf, np.float64)), _norm(np.asarray(trees.named_leaves(params)[path], np.float64))
            ),
            moved=moved[path],
            dead=_dead_units(gradients[path]),
            twins=_are_twins(np.asarray(leaf, np.float64), gradients[path][0]),
        )
        for path, leaf in start.items()
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def _dead_units(gradients: list[np.ndarray]) -> float:
    """Share of the output units (last axis) of a matrix or kernel that get no gradient in any step; 0 for other shapes."""
    total = np.sum([np.abs(g) for g in gradients], axis=0)
    if total.ndim < 2 or total.shape[-1] < 2:
        return 0.0
    return float((total.reshape(-1, total.shape[-1]).max(axis=0) == 0).mean())


def _are_twins(values: np.ndarray, gradient: np.ndarray) -> bool:
    """Whether a kernel's output units all hold one constant and get the same gradient, so that they can never differ."""
    if values.ndim < 2 or values.shape[-1] < 2 or np.ptp(values) != 0 or not gradient.any():
        return False
    units = gradient.reshape(-1, gradient.shape[-1])
    return bool(np.allclose(units, units[:, :1], rtol=1e-5, atol=1e-12))


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.ravel()))


def _names(paths: list[str], most: int = 4) -> str:
    more = len(paths) - most
    return ", ".join(sorted(paths)[:most]) + (f" and {more} more" if more > 0 else "")
