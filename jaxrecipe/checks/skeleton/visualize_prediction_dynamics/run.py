"""The first steps, with the losses around each and the predictions on one fixed batch."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.first_steps import Step, Variables, first_steps
from jaxrecipe.setup import Setup, Split

MOST_NUMBERS = 4096
"""Numbers of the predictions that are followed; evenly spread where there are more."""
QUARTERS = 4
GROWING = 1.5
"""Updates whose last quarter is so many times the second still grow: the schedule warms up."""
SMALLEST = 1e-300
"""Keeps a division by zero from being one."""


@dataclass(frozen=True)
class Run:
    """The steps that were taken.

    Attributes:
        own: the loss of each step's own batch, before and after the step, in training mode.
        fixed: the loss of the fixed batch, before the first step and after each.
        predictions: the predictions on it.
        moved: how far the parameters moved.
        start, end: the parameters before and after the steps; None in a run that is made up.
        first: the first step that moved them.
    """

    own: Float[np.ndarray, "steps 2"]
    fixed: Float[np.ndarray, "looks"]
    predictions: Float[np.ndarray, "looks examples numbers"]
    moved: Float[np.ndarray, "steps"]
    start: Any = None
    end: Any = None
    first: Step | None = None

    @property
    def steps(self) -> int:
        """How many were taken."""
        return len(self.own)

    @property
    def finite(self) -> bool:
        """Whether all losses and predictions are numbers."""
        return all(bool(np.isfinite(numbers).all()) for numbers in (self.own, self.fixed, self.predictions))

    @property
    def last(self) -> float:
        """Median loss on the fixed batch over the last quarter of the steps."""
        return float(np.median(self.fixed[-max(1, self.steps // QUARTERS) :]))

    @property
    def raised(self) -> float:
        """Share of the steps that raise the loss of their own batch."""
        return float((self.own[:, 1] > self.own[:, 0]).mean())

    @cached_property
    def changes(self) -> Float[np.ndarray, "steps numbers"]:
        """What each step changed in the predictions."""
        return np.diff(self.predictions.reshape(len(self.predictions), -1).astype(np.float64), axis=0)

    @property
    def jitter(self) -> float:
        """Share of the way of the predictions that led nowhere: one less the net distance over the distance covered."""
        covered = np.linalg.norm(self.changes, axis=1).sum()
        return float(1 - np.linalg.norm(self.changes.sum(axis=0)) / covered) if self.finite and covered > 0 else 0.0

    @property
    def turning(self) -> float:
        """Mean cosine between a change of the predictions and the next one; -1 goes to and fro, 1 straight on."""
        if not self.finite or len(self.changes) < 2:
            return 0.0
        sizes = np.linalg.norm(self.changes, axis=1)
        products = (self.changes[1:] * self.changes[:-1]).sum(axis=1)
        return float(np.mean(products / np.maximum(sizes[1:] * sizes[:-1], SMALLEST)))

    @property
    def restlessness(self) -> float:
        """Size of a change in the second half of the steps, as a share of the spread of the predictions."""
        half = self.changes[len(self.changes) // 2 :]
        spread = np.std(self.predictions[-1].astype(np.float64)) * np.sqrt(half.shape[1])
        return float(np.linalg.norm(half, axis=1).mean() / max(spread, SMALLEST)) if self.finite else np.inf

    @property
    def warming_up(self) -> bool:
        """Whether the updates still grow: those of the last quarter against those of the second."""
        if len(self.moved) < 2 * QUARTERS:
            return False
        quarters = [quarter.mean() for quarter in np.array_split(self.moved, QUARTERS)]
        return bool(quarters[3] > GROWING * quarters[1])


def follow(setup: Setup, key: PRNGKeyArray, steps: int) -> Run:
    """Look at everything before and after each of the first steps; no farther than the losses are finite."""
    fixed, first = _fixed_batch(setup), None
    start = last = setup.variables
    own, moved, looks = [], [], [_look(setup, key, start, fixed)]
    for step in first_steps(setup, key, steps):
        around = [setup.mean_loss(*one, *step.batch, train=True, key=step.key) for one in (step.before, step.after)]
        own.append(around)
        moved.append(step.moved)
        first = step if first is None and step.moved > 0 else first
        last = step.after
        looks.append(_look(setup, key, last, fixed))
        if not np.isfinite(around).all():
            break
    return Run(
        own=np.array(own, np.float64),
        fixed=np.array([loss for loss, _ in looks], np.float64),
        predictions=np.stack([numbers for _, numbers in looks]),
        moved=np.array(moved, np.float64),
        start=start[0],
        end=last[0],
        first=first,
    )


def _look(setup: Setup, key: PRNGKeyArray, variables: Variables, fixed: tuple[Any, Any]) -> tuple[float, np.ndarray]:
    """Loss and predictions on the fixed batch.

    With the batch's own statistics where the model keeps some, since running ones lag behind.
    """
    train = bool(jax.tree.leaves(variables[1]))
    outputs, _ = setup.forward(*variables, fixed[0], train=train, key=key)
    return float(setup.losses(outputs, fixed[1]).mean()), _numbers(outputs)


def _fixed_batch(setup: Setup) -> tuple[Any, Any]:
    """One batch that is not trained on, where there are test data."""
    split: Split = "train" if setup.test is None else "test"
    source = setup.train if setup.test is None else setup.test
    return setup.prepared(split, np.resize(np.arange(source.size), setup.batch_size))


def _numbers(outputs: Any) -> Float[np.ndarray, "examples numbers"]:
    """The floating outputs of each example in one row, thinned out evenly."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(outputs) if trees.is_floating(leaf)]
    rows = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    return rows[:, :: max(1, rows.size // MOST_NUMBERS)]
