"""The weight that a loss gives each class, read off the loss itself, against how often the classes occur."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxrecipe import trees
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes

SAMPLED = 4096
"""Labels that are counted where the data are not held as arrays."""


@dataclass(frozen=True)
class ClassWeights:
    """Weights `[classes]` relative to their mean, counts `[classes]`, and what the two say together.

    Attributes:
        misordered: the weights are those that the counts ask for, by the same formula, but belong to other classes.
        inverted: frequent classes weigh more than rare ones, clearly.
    """

    weights: np.ndarray
    counts: np.ndarray

    @property
    def misordered(self) -> bool:
        """Sorted, weights and counts follow one of the usual formulas closely; in the order of the classes they do not."""
        spread = float(np.std(self.weights))
        noise = 2.0 / np.sqrt(SAMPLED / len(self.counts)) if self.counts.sum() == SAMPLED else 0.0
        for wanted in _formulas(self.counts):
            sorted_off = float(np.std(np.sort(self.weights) / np.sort(wanted)))
            if sorted_off < max(0.1 * spread, noise * spread) and float(np.std(self.weights / wanted)) > 0.5 * spread:
                return True
        return False

    @property
    def inverted(self) -> bool:
        """Whether the weights rise with the counts, both over a factor of two or more."""
        w, n = np.log(self.weights), np.log(self.counts)
        if np.ptp(w) < np.log(2) or np.ptp(n) < np.log(2):
            return False
        return bool(np.corrcoef(w, n)[0, 1] > 0.7)


def class_weights(setup: Setup, outputs: Any, targets: Any) -> ClassWeights | None:
    """Weights and counts of the classes; None for other targets, for losses without weights and for classes that never occur."""
    target = setup.task.target
    if not isinstance(target, (Classes, Binary)) or not isinstance(outputs, jax.Array) or not hasattr(targets, "shape"):
        return None
    labels = np.asarray(targets)
    classes = target.n if isinstance(target, Classes) else 2
    if classes < 2 or labels.size != len(labels):
        return None
    uniform = jnp.zeros_like(outputs)
    losses = np.array(
        [np.asarray(setup.losses(uniform, np.full_like(labels, c)), np.float64).mean() for c in range(classes)]
    )
    if not np.isfinite(losses).all() or losses.min() <= 0 or np.ptp(losses) < 0.01 * losses.mean():
        return None
    counts = _counts(setup, labels, classes)
    return None if counts.min() < 1 else ClassWeights(losses / losses.mean(), counts)


def _counts(setup: Setup, labels: np.ndarray, classes: int) -> Int[np.ndarray, "classes"]:
    """How often each class occurs in the training data: in all of them where they are arrays of the same labels."""
    arrays = setup.train.arrays
    raw = None if arrays is None else arrays[1]
    whole = np.asarray(raw) if trees.is_array(raw) else None
    if whole is None or whole.shape[1:] != labels.shape[1:] or not np.isin(np.unique(whole), np.arange(classes)).all():
        whole = np.asarray(setup.sample("train", SAMPLED)[1])
    return np.bincount(whole.ravel().astype(int), minlength=classes)[:classes]


def _formulas(counts: np.ndarray) -> list[Float[np.ndarray, "classes"]]:
    """Weights that are usual for such counts, relative to their mean: inverse, inverse root, effective numbers."""
    n = counts.astype(np.float64)
    usual = [1 / n, 1 / np.sqrt(n), *((1 - beta) / (1 - beta**n) for beta in (0.9, 0.99, 0.999, 0.9999))]
    return [weights / weights.mean() for weights in usual]
