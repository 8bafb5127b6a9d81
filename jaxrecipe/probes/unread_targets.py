"""Whether a loss reads targets at all: where all that is compared stands in the inputs and outputs (ranking, triplets,
the residual of an equation), no constant predictor of the targets means anything.
"""

import jax
import numpy as np

from jaxrecipe.probes.constant_predictor import constant_at_init
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads

SAME = 1e-6
"""Relative difference of losses that is rounding: one program, other numbers in it."""
WITHOUT_TARGETS = (
    "The loss reads no targets: those of other examples change no loss. A constant output is then no predictor of "
    "anything, and may be its minimum by design."
)
"""Why what compares with a constant predictor is not applicable."""
NOTHING_TO_PREDICT = (
    "A constant output costs nothing in this loss, by design or because all targets are the same: there is nothing to "
    "compare with."
)
"""The same where a constant is perfect."""
NOTHING = 1e-6
"""A constant output costs nothing below this share of the untrained loss."""


def targets_unread(setup: Setup) -> bool:
    """Whether other examples' targets change no loss, where no label is declared, and values only if all are the same:
    a loss that ignores declared values that differ is another matter.
    """
    return setup.memo((targets_unread,), lambda: _unread(setup))


def _unread(setup: Setup) -> bool:
    outputs, targets, losses = setup.at_init
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(targets)]
    varied = any((leaf != leaf[:1]).any() for leaf in leaves)
    declared = heads(setup.task.target)
    if any(head.behavior.labeled for head in declared):
        return False
    if varied and any(head.behavior.form == "real" for head in declared):
        return False
    turned = jax.tree.map(lambda leaf: np.roll(np.asarray(leaf), 1, axis=0), targets)
    return bool(np.allclose(setup.losses(outputs, turned), losses, rtol=SAME, atol=0.0, equal_nan=True))


def no_baseline(setup: Setup) -> str:
    """Why no constant predictor is there to be compared with, in a sentence; empty where there is one. A loss that
    compares the examples of a batch has one: the same answer for all is chance.
    """
    if setup.task.mixes_examples:
        return ""
    if targets_unread(setup):
        return WITHOUT_TARGETS
    if any(head.behavior.labeled for head in heads(setup.task.target)):
        return ""
    fit, untrained = constant_at_init(setup), float(np.abs(np.asarray(setup.at_init.losses, np.float64)).mean())
    costs_nothing = fit.exists and np.isfinite(untrained) and abs(fit.losses).max() <= NOTHING * untrained
    return NOTHING_TO_PREDICT if costs_nothing else ""
