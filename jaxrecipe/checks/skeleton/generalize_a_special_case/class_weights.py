"""The weight that a loss gives each class, read off the loss itself, against how often the classes occur."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.reading import random_rows
from jaxrecipe.report.result import Curve
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads

SAMPLED = 4096
"""Labels that are counted where the data are not held as arrays."""
EQUAL_WEIGHTS = 0.01
"""Spread of the losses of the classes, as a share of their mean, below which all weigh alike."""
CLOSE = 0.1
"""Spread of sorted weights around what a formula asks for, as a share of their own, within which they follow it."""
FAR = 0.5
"""The same spread in the order of the classes, beyond which they do not."""
NOTABLE = 2.0
"""Factor that weights and counts must cover before their order says anything."""
APART = 1.5
"""Factor that the weights must cover for their order to be one: nearly equal counts change places in a sample."""
RISING = 0.7
"""Correlation of the logarithms of weights and counts from which on frequent classes weigh more."""
SIGMAS = 2.0
"""Standard errors of counts of a sample that weights may be off by."""


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
        """Sorted, weights and counts follow one of the usual formulas closely; in the order of the classes they do
        not.
        """
        if np.ptp(np.log(self.weights)) < np.log(APART):
            return False
        spread = float(np.std(self.weights))
        noise = SIGMAS / np.sqrt(SAMPLED / len(self.counts)) if self.counts.sum() == SAMPLED else 0.0
        for wanted in _formulas(self.counts):
            sorted_off = float(np.std(np.sort(self.weights) / np.sort(wanted)))
            if sorted_off < max(CLOSE, noise) * spread and float(np.std(self.weights / wanted)) > FAR * spread:
                return True
        return False

    @property
    def inverted(self) -> bool:
        """Whether the weights rise with the counts, both over a factor of two or more."""
        w, n = np.log(self.weights), np.log(self.counts)
        if min(np.ptp(w), np.ptp(n)) < np.log(NOTABLE):
            return False
        return bool(np.corrcoef(w, n)[0, 1] > RISING)


def class_weights(setup: Setup, outputs: Any, targets: Any) -> ClassWeights | None:
    """Weights and counts of the classes; None for other targets, for losses without weights and for classes that never
    occur.

    Read off one declared head, alone or in a mapping: with several heads the loss of one cannot be told from the
    others'.
    """
    declared = heads(setup.task.target, outputs, targets)
    head = declared[0] if len(declared) == 1 else None
    classes = None if head is None else head.behavior.classes(head.target)
    if head is None or classes is None or not isinstance(head.outputs, np.ndarray) or classes < 2:
        return None
    labels = np.asarray(head.targets)
    if labels.size != len(labels):
        return None
    uniform = jax.tree.map(np.zeros_like, outputs)
    losses = np.array([_mean_loss(setup, uniform, targets, labels, of_class) for of_class in range(classes)])
    if not np.isfinite(losses).all() or losses.min() <= 0 or np.ptp(losses) < EQUAL_WEIGHTS * losses.mean():
        return None
    counts = _counts(setup, labels, classes)
    return None if counts.min() < 1 else ClassWeights(losses / losses.mean(), counts)


def _mean_loss(setup: Setup, outputs: Any, targets: Any, labels: np.ndarray, of_class: int) -> float:
    """The mean loss of outputs if every label were of one class."""
    swapped = jax.tree.map(lambda leaf: np.full_like(labels, of_class) if leaf.shape == labels.shape else leaf, targets)
    return float(np.asarray(setup.losses(outputs, swapped), np.float64).mean())


def _counts(setup: Setup, labels: np.ndarray, classes: int) -> Int[np.ndarray, "classes"]:
    """How often each class occurs in the training data: in all of them where they are arrays of the same labels."""
    arrays = setup.train.arrays
    raw = None if arrays is None else heads(setup.task.target, None, arrays[1])[0].targets
    whole = np.asarray(raw) if trees.is_array(raw) else None
    if whole is None or whole.shape[1:] != labels.shape[1:] or not np.isin(np.unique(whole), np.arange(classes)).all():
        sampled = setup.prepared("train", random_rows(setup, "train", SAMPLED))[1]
        whole = np.asarray(heads(setup.task.target, None, sampled)[0].targets)
    return np.bincount(whole.ravel().astype(int), minlength=classes)[:classes]


def _formulas(counts: np.ndarray) -> list[Float[np.ndarray, "classes"]]:
    """Weights that are usual for such counts, relative to their mean: inverse, inverse root, effective numbers."""
    n = counts.astype(np.float64)
    usual = [1 / n, 1 / np.sqrt(n), *((1 - beta) / (1 - beta**n) for beta in (0.9, 0.99, 0.999, 0.9999))]
    return [weights / weights.mean() for weights in usual]


def class_weight_findings(weights: ClassWeights) -> list[Finding]:
    """Weights that belong to other classes, or that favor frequent ones."""
    if not weights.misordered and not weights.inverted:
        return []
    top = int(weights.weights.argmax())
    text = (
        f"The loss weighs class {top} most, {weights.weights[top]:.2f} times the mean; it occurs "
        f"{weights.counts[top]} times, "
        f"the mean class {weights.counts.mean():.0f}."
    )
    if weights.misordered:
        here = "Sorted, the weights are what the class counts ask for."
        return [
            failure("loss/class-weights-misordered", text, causes=(cause("loss/class-weights-misordered", here=here),))
        ]
    likeliest = causes("loss/class-weights-inverted", "loss/class-weights-misordered")
    return [warning("loss/class-weights-inverted", text, causes=likeliest)]


def class_weight_curve(weights: ClassWeights) -> Curve:
    """The weight of each class beside how often it occurs."""
    series = {
        "weight in the loss": weights.weights,
        "count, relative to the mean": weights.counts / weights.counts.mean(),
    }
    return Curve(title="Weights of the classes", x=np.arange(len(weights.counts)), series=series, x_label="class")
