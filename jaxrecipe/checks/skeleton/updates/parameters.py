"""What a few steps do to every parameter."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.first_steps import first_steps, mean_gradient, on_host
from jaxrecipe.setup import Setup

SMALLEST = 1e-12
"""Keeps a change relative to a parameter of zero from being a division by zero."""
SAME_GRADIENT = 1e-5
"""Gradients of units that differ by less than this share are the same: the order of a sum explains it."""

SAME_LOSS = 1e-4
"""Losses that differ by less than this, in all or as a share, are the same: what cancels leaves some rounding."""


@dataclass(frozen=True)
class Parameter:
    """One parameter over the steps.

    Attributes:
        path: its name.
        frozen: whether it is declared frozen.
        gradient: largest norm of its gradient.
        initial: its norm before the first step.
        size: the larger of its norms before the first and after the last step.
        moved: mean norm of what a step added.
        dead: share of its output units that never get a gradient.
        twins: whether its output units are copies of one unit and stay so.
        matrix: whether it has two axes or more.
    """

    path: str
    frozen: bool
    gradient: float
    initial: float
    size: float
    moved: float
    dead: float
    twins: bool
    matrix: bool

    @property
    def layer(self) -> str:
        """The path of the layer that it belongs to."""
        return self.path.rpartition("/")[0]

    @property
    def ratio(self) -> float:
        """Mean change of a step relative to the parameter."""
        return self.moved / max(self.size, SMALLEST)


def watch_parameters(setup: Setup, key: PRNGKeyArray, steps: int) -> list[Parameter]:
    """The first steps, parameter by parameter; the gradient is of the mean loss on the same batch."""
    first = last = trees.named_leaves(setup.params)
    paths = [path for path, leaf in first.items() if trees.is_floating(leaf)]
    moved, largest = dict.fromkeys(paths, 0.0), dict.fromkeys(paths, 0.0)
    total: dict[str, np.ndarray] = {path: np.zeros(first[path].shape) for path in paths}
    twins = dict.fromkeys(paths, False)
    for step in first_steps(setup, key, steps):
        _, gradient = mean_gradient(setup, step.before, step.batch, step.key)
        gradients, before, last = map(trees.named_leaves, (gradient, step.before[0], step.after[0]))
        for path in paths:
            grad = on_host(gradients[path])
            largest[path] = max(largest[path], _norm(grad))
            total[path] += np.abs(grad)
            with np.errstate(invalid="ignore"):  # a run that blows up is a finding
                moved[path] += _norm(on_host(last[path]) - on_host(before[path])) / steps
            if step.index == 0:
                twins[path] = are_twins(on_host(before[path]), grad)
    return [
        Parameter(
            path=path,
            frozen=any(trees.matches(path, pattern) for pattern in setup.task.frozen),
            gradient=largest[path],
            initial=_norm(on_host(first[path])),
            size=max(_norm(on_host(first[path])), _norm(on_host(last[path]))),
            moved=moved[path],
            dead=share_of_dead_units(total[path]),
            twins=twins[path],
            matrix=first[path].ndim > 1,
        )
        for path in paths
    ]


def cancelling_biases(setup: Setup, key: PRNGKeyArray, parameters: Sequence[Parameter]) -> frozenset[str]:
    """Paths of biases without gradient, beside a matrix that learns, that cancel: other values of the bias change no
    loss, as before a normalization, as keys of an attention, or in a difference of two outputs. There is nothing that
    they could learn. A bias that is cut off instead changes the loss.
    """
    learning = {one.layer for one in parameters if one.matrix and one.gradient > 0}
    found = [one.path for one in parameters if one.gradient == 0 and not one.matrix and one.layer in learning]
    if not found:
        return frozenset()
    params, state = setup.variables
    named, rng = trees.named_leaves(params), np.random.default_rng(0)

    def loss(path: str | None) -> float:
        moved = {
            name: leaf + rng.normal(size=leaf.shape).astype(leaf.dtype) if name == path else leaf
            for name, leaf in named.items()
        }
        given = jax.tree.unflatten(jax.tree.structure(params), list(moved.values()))
        return mean_gradient(setup, (given, state), setup.batch, key)[0]

    as_is = loss(None)
    return frozenset(path for path in found if np.isclose(loss(path), as_is, rtol=SAME_LOSS, atol=SAME_LOSS))


def share_of_dead_units(total: Float[np.ndarray, "..."]) -> float:
    """Share of the output units (last axis) of a matrix that get no gradient in any step; 0 for other shapes."""
    if total.ndim < 2 or total.shape[-1] < 2:
        return 0.0
    return float((total.reshape(-1, total.shape[-1]).max(axis=0) == 0).mean())


def are_twins(values: Float[np.ndarray, "..."], gradient: Float[np.ndarray, "..."]) -> bool:
    """Whether the output units of a matrix hold one constant and get the same gradient: they can never differ."""
    if values.ndim < 2 or values.shape[-1] < 2 or np.ptp(values) != 0 or not gradient.any():
        return False
    units = gradient.reshape(-1, gradient.shape[-1])
    return bool(np.allclose(units, units[:, :1], rtol=SAME_GRADIENT, atol=SMALLEST))


def _norm(array: Float[np.ndarray, "..."]) -> float:
    return float(np.linalg.norm(array.ravel()))
