"""How well the label is predicted without the numbers that give it away: whether the task is easy by itself."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxrecipe.checks.data.leaked_label.single_features import SingleFeatures, flattened
from jaxrecipe.probes.questions import Question
from jaxrecipe.probes.simple_predictor import explained, features_of, fit, one_hot


class Others(NamedTuple):
    """The numbers that are no suspects.

    Attributes:
        best: the error of the best of them alone.
        together: the error of a simple predictor of all of them.
    """

    best: float
    together: float


def errors_without(
    head: Question, single: SingleFeatures, values: np.ndarray, suspects: Int[np.ndarray, "k"]
) -> Others:
    """Errors (for labels balanced, for values the unexplained variance) without the suspects; 1 where nothing is
    left.
    """
    remaining = ~np.isin(single.places, suspects)
    best = float(single.errors[remaining].min()) if remaining.any() else 1.0
    rest = np.delete(flattened(head.inputs)[: len(values)], suspects, axis=1)
    if not rest.shape[1] or not (rest != rest[:1]).any():
        return Others(best, 1.0)
    features = features_of({"inputs": rest}, {"inputs": "table"}).of({"inputs": rest})
    if not head.classes:
        return Others(best, 1.0 - explained(values[:, None], fit(features, values[:, None]).held_out))
    labels = np.unique(values)
    named = labels[fit(features, one_hot(values, labels)).held_out.argmax(axis=1)]
    return Others(best, float(np.mean([(named[values == label] != label).mean() for label in labels])))


def one_an_example(head: Question) -> bool:
    """Whether each example has one label, and not one at each of its positions."""
    return len(head.example) == len(np.unique(head.example))
