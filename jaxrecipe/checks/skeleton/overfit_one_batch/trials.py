"""Experiments on a run that did not memorize its examples: another optimizer, start, learning rate or kernel."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run, again
from jaxrecipe.checks.skeleton.overfit_one_batch.plain_adam import plain_adam
from jaxrecipe.probes.other_rates import other_start
from jaxrecipe.setup import Setup

ADAM_LEARNS = 0.95
"""Fraction of the gap that plain Adam must close to show that model and loss are sound."""
AS_GOOD = 0.05
"""A run that closes so little less of the gap than another is as good."""
BETTER = 0.2
"""A run is measurably better than another where it closes so much more of the gap, from each start."""
QUICKER = 10
"""A run that memorizes in so many times fewer steps than another took in vain is measurably better."""
OTHER_STARTS = (1, 2)
"""Other initial parameters from which a run that stalls is tried again; one that is only slow, from the first."""
LOWER, HIGHER = (0.1, 0.01, 0.001), (10.0, 100.0, 1000.0)
"""Times the learning rate at which a run is repeated."""
TRIAL_STEPS = 400
"""Steps of a run at another rate, if the run that it is compared with took no fewer."""
LARGER_KERNELS = (2.0, 4.0, 16.0)
"""Times the initial kernels at which a signal that fades may get through."""


class Trial(NamedTuple):
    """A run that was better, at so many times the rate or the kernels."""

    factor: float
    closed: float
    steps: int


@dataclass(frozen=True, eq=False)
class Trials:
    """The experiments; each is made once, when it is asked for."""

    setup: Setup
    run: Run
    key: PRNGKeyArray
    patience: int

    @cached_property
    def plain_adam(self) -> tuple[float, int]:
        """The fraction of the gap that plain Adam closes from the same start, all examples in one batch; its steps."""
        return self._adam_from(self.setup.variables)

    @cached_property
    def adam_learns(self) -> bool:
        """Whether plain Adam memorizes the examples: model, loss and targets are sound then."""
        return self.plain_adam[0] >= ADAM_LEARNS or self.plain_adam[0] > self.run.reached + BETTER

    @cached_property
    def elsewhere(self) -> list[Run]:
        """The same run from other initial parameters, until one memorizes the examples."""
        found: list[Run] = []
        for start in OTHER_STARTS if self.run.stalled else OTHER_STARTS[:1]:
            found += [other for other in [self._again(start, 1.0)] if other is not None]
            if found[-1].memorized:
                break
        return found

    @property
    def memorizes_elsewhere(self) -> bool:
        """Whether the same run from other initial parameters memorizes the examples."""
        return any(other.memorized for other in self.elsewhere)

    @cached_property
    def adam_is_better(self) -> bool:
        """Whether plain Adam is measurably better than the loop's own steps, from two starts, in no more steps."""
        run = self.run
        if self.plain_adam[0] <= run.reached + BETTER or (self.plain_adam[1] > run.steps[-1] and not run.stalled):
            return False
        if self.memorizes_elsewhere:
            return False
        start = self.setup.loop.variables(other_start(self.setup, OTHER_STARTS[0]))
        return self._adam_from(start)[0] > self.elsewhere[0].reached + BETTER

    @cached_property
    def as_good_as_adam(self) -> bool:
        """Whether plain Adam gets no farther than the loop's own steps."""
        return self.run.reached >= self.plain_adam[0] - AS_GOOD

    @cached_property
    def quiet_adam_learns(self) -> bool:
        """Whether plain Adam memorizes the examples in evaluation mode, without the model's randomness."""
        return self._adam_from(self.setup.variables, train=False)[0] >= ADAM_LEARNS

    @cached_property
    def lower_rate(self) -> Trial | None:
        """A lower learning rate at which the same run is measurably better, from two starts; None where none is."""
        return self._better_rate(LOWER)

    @cached_property
    def higher_rate(self) -> Trial | None:
        """A higher learning rate at which the same run is measurably better, from two starts; None where none is."""
        return self._better_rate(HIGHER)

    @cached_property
    def larger_kernels(self) -> Trial | None:
        """How much larger the initial kernels must be for plain Adam to memorize the examples; None where it never
        does.
        """
        params, model_state = self.setup.variables
        for factor in LARGER_KERNELS:
            larger = jax.tree.map(
                lambda leaf, factor=factor: (
                    leaf * jnp.asarray(factor, leaf.dtype) if trees.is_floating(leaf) and leaf.ndim > 1 else leaf
                ),
                params,
            )
            closed, steps = self._adam_from((larger, model_state))
            if closed >= ADAM_LEARNS:
                return Trial(factor, closed, steps)
        return None

    def _adam_from(self, variables: tuple[Any, Any], *, train: bool = True) -> tuple[float, int]:
        """The fraction of the gap that plain Adam closes, and its steps."""
        run = self.run
        enough = run.uninformed - ADAM_LEARNS * run.gap if run.gap > 0 else -np.inf
        loss, steps = plain_adam(self.setup, variables, (run.inputs, run.targets), self.key, train=train, enough=enough)
        return run.fraction_closed(loss), steps

    def _again(self, start: int, factor: float) -> Run | None:
        """The same run from another start or at another rate, in no more steps."""
        steps = self.run.steps[-1] if factor == 1.0 else min(self.run.steps[-1], TRIAL_STEPS)
        return again(
            self.setup,
            self.run,
            self.key,
            start=start,
            factor=factor,
            closed=ADAM_LEARNS,
            steps=steps,
            patience=self.patience,
        )

    @staticmethod
    def _beats(trial: Run, own: Run) -> bool:
        """Whether a run closes measurably more of the gap, or closes it many times as quickly as one that is slow."""
        quicker = trial.memorized and not own.stalled and trial.steps[-1] * QUICKER <= own.steps[-1]
        return quicker or trial.reached > own.reached + BETTER

    def _better_rate(self, factors: tuple[float, ...]) -> Trial | None:
        for factor in factors:
            trial = self._again(0, factor)
            if trial is None:
                return None
            if not self._beats(trial, self.run) or self.memorizes_elsewhere:
                continue
            other = self._again(OTHER_STARTS[0], factor)
            if other is not None and self._beats(other, self.elsewhere[0]):
                return Trial(factor, trial.reached, trial.steps[-1])
        return None
