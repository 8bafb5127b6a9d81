"""A pass over the data with the layout of the state, and experiments on what a step reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.state_layout import Layout, layout_of
from jaxrecipe.probes.step_pass import Given, Leaves, Pass, equal, one_pass, result_of, with_leaves
from jaxrecipe.setup import Setup

MOST_NAMES = 4
"""Arrays that a message names."""


@dataclass(frozen=True)
class Watched:
    """What a pass showed, and where things stand in the state."""

    setup: Setup
    key: PRNGKeyArray
    run: Pass
    layout: Layout

    def moved(self, paths: Iterable[str]) -> bool:
        """Whether any of these arrays changed in the pass."""
        return any(path in self.run.moved for path in paths)

    def depends_on(self, changed: dict[str, np.ndarray]) -> bool:
        """Whether the first step gives other parameters or metrics when some arrays of its state are others."""
        state = with_leaves(self.setup.fresh_state(), changed)
        other = result_of(self.setup, Given(state, self.setup.batch, self.key))
        return not equal(self._plain, other)

    @cached_property
    def _plain(self) -> Leaves:
        return result_of(self.setup, Given(self.setup.fresh_state(), self.setup.batch, self.key))


def watched(setup: Setup, key: PRNGKeyArray) -> Watched:
    """A pass over the data, and the layout of its state."""
    run = one_pass(setup, key)
    state = setup.fresh_state()
    return Watched(setup, key, run, layout_of(state, setup.loop.variables(state)[0], run.first))


def floating(array: np.ndarray) -> bool:
    """Whether an array holds real floating numbers of any width (kind "V" is how numpy shows narrow ones)."""
    return array.dtype.kind not in "iubcO"


def names(paths: Iterable[str]) -> str:
    """Some of the paths, and how many more there are."""
    listed = sorted(paths)
    more = len(listed) - MOST_NAMES
    return ", ".join(listed[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def is_frozen(setup: Setup, *paths: str) -> bool:
    """Whether one of the paths fits a pattern of what is declared frozen."""
    return any(trees.matches(path, pattern) for path in paths for pattern in setup.task.frozen)
