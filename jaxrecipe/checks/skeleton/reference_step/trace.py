"""Steps of the loop beside what an independent plain step needs to know of each: gradients and model states."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.first_steps import Step, mean_gradient, random_in_training, vector
from jaxrecipe.setup import Setup

PyTree = Any
KeyRule = Callable[[Step], PRNGKeyArray]
"""Which key the model got in a step."""
DRAWS = 6
"""Draws of the model's own randomness where the key that a step used is not known."""
SAME_LOSS = 1e-5
"""Two losses of the same draw agree up to this share; TF32 products are the same on both sides."""
SMALLEST_LOSS = 1e-3
"""Below this, losses are compared by their difference."""


@dataclass(frozen=True)
class Trace:
    """Steps of a loop, each seen from the parameters that the loop really had.

    Attributes:
        steps: what the loop did.
        wanted_states: the model state that a forward pass in training leaves, of each step.
        gradients: of the mean loss at the parameters before each step, `[draws][steps]`; several draws when the model
            is random and the key that the step used is not known.
        losses: mean loss of each step; of the first draw.
    """

    steps: list[Step]
    wanted_states: list[PyTree]
    gradients: list[list[PyTree]]
    losses: list[float]

    @property
    def params(self) -> list[PyTree]:
        """Before each step, and after the last."""
        return [step.before[0] for step in self.steps] + [step.after[0] for step in self.steps[-1:]]

    @property
    def reported(self) -> list[float | None]:
        """The "loss" that each step returned, where it did."""
        return [step.reported_loss for step in self.steps]

    def moves(self) -> list[Float[np.ndarray, "parameters"]]:
        """What each step added to the parameters, as one vector."""
        flat = [vector(params) for params in self.params]
        return [after - before for before, after in itertools.pairwise(flat)]

    def without(self, dropped: Sequence[int]) -> "Trace":
        """The trace without some steps in which nothing happened."""
        kept = [place for place in range(len(self.steps)) if place not in dropped]
        return replace(
            self,
            steps=[self.steps[place] for place in kept],
            wanted_states=[self.wanted_states[place] for place in kept],
            gradients=[[draw[place] for place in kept] for draw in self.gradients],
            losses=[self.losses[place] for place in kept],
        )


def record(setup: Setup, key: PRNGKeyArray, steps: Iterable[Step]) -> Trace:
    """The gradient of the mean loss beside each step, with the key that the step gave the model if that is known."""
    taken = list(steps)
    rules: list[KeyRule] = [lambda step: step.key]
    if random_in_training(setup, key):
        known = _key_rule(setup, taken)
        rules = [known] if known else [_drawn(draw) for draw in range(DRAWS)]
    gradients: list[list[PyTree]] = [[] for _ in rules]
    wanted, losses = [], []
    for step in taken:
        found = [mean_gradient(setup, step.before, step.batch, rule(step)) for rule in rules]
        for into, (_, gradient) in zip(gradients, found, strict=True):
            into.append(gradient)
        losses.append(found[0][0])
        wanted.append(setup.costs(*step.before, *step.batch, train=True, key=rules[0](step)).model_state)
    return Trace(taken, wanted, gradients, losses)


def _drawn(draw: int) -> KeyRule:
    return lambda step: jax.random.split(step.key, DRAWS)[draw]


Way = Callable[[PRNGKeyArray, int], PRNGKeyArray]
WAYS: tuple[Way, ...] = (
    lambda key, _: key,
    jax.random.fold_in,
    lambda key, step: jax.random.split(jax.random.fold_in(key, step))[1],
    lambda key, step: jax.random.split(jax.random.fold_in(key, step))[0],
    lambda key, _: jax.random.split(key)[0],
    lambda key, _: jax.random.split(key)[1],
    lambda key, step: jax.random.fold_in(key, step + 1),
)
"""The usual ways in which a step makes the model's key of the one that it is given or holds."""


def _key_rule(setup: Setup, steps: list[Step]) -> KeyRule | None:
    """How the steps make the model's key, by the losses that they report; None when none of the usual ways fits."""
    if not steps or any(step.reported_loss is None for step in steps):
        return None
    given: KeyRule = lambda step: step.key  # noqa: E731
    held: list[KeyRule] = [lambda step, place=place: step.held_keys[place] for place in range(len(steps[0].held_keys))]
    for source in (given, *held):
        for way in WAYS:

            def rule(step: Step, source: KeyRule = source, way: Way = way) -> PRNGKeyArray:
                return way(source(step), step.index)

            if all(_fits(setup, step, rule) for step in steps):
                return rule
    return None


def _fits(setup: Setup, step: Step, rule: KeyRule) -> bool:
    """Whether the loss under this key is the one that the step reported."""
    loss, reported = setup.mean_loss(*step.before, *step.batch, train=True, key=rule(step)), step.reported_loss
    return reported is not None and abs(loss - reported) <= SAME_LOSS * max(abs(loss), abs(reported), SMALLEST_LOSS)


def unmoved(trace: Trace) -> list[str]:
    """Paths of the parameters that no step moved."""
    first, *later = [trees.named_leaves(params) for params in trace.params]
    return [path for path, leaf in first.items() if all(np.array_equal(leaf, other[path]) for other in later)]


def declared_and_frozen(setup: Setup, trace: Trace) -> list[str]:
    """Parameters that are declared frozen and do stand still, by whatever means."""
    return [path for path in unmoved(trace) if any(trees.matches(path, one) for one in setup.task.frozen)]
