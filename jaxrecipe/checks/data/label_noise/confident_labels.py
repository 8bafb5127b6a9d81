"""Confident learning: how many labels are wrong, and which, from out-of-sample probabilities.

After Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (JAIR 2021): an example
counts as one of class j where its probability of j is at least what examples labelled j have on average.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Confident(NamedTuple):
    """What confident learning estimates.

    Attributes:
        joint: the joint distribution of given and true labels, `[given, true]`, summing to 1.
        share: the estimated share of wrong labels.
        suspects: examples confidently of another class than the given one, the surest first.
        true: the class that each of these is taken for.
    """

    joint: Float[np.ndarray, "k k"]
    share: float
    suspects: Int[np.ndarray, "s"]
    true: Int[np.ndarray, "s"]


def confident_joint(given: Int[np.ndarray, "n"], probability: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "k k"]:
    """How many examples given each label are confidently of each class, `[given, true]`; see `confident_class`."""
    joint = np.zeros((probability.shape[1],) * 2, np.int64)
    true = confident_class(given, probability)
    counted = true >= 0
    np.add.at(joint, (given[counted], true[counted]), 1)
    return joint


def confident_class(given: Int[np.ndarray, "n"], probability: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n"]:
    """The class that an example is confidently of: the likeliest among those whose threshold it reaches; -1 where it
    reaches none.

    The threshold of a class is the mean probability of it among the examples that are given it; a class that nobody is
    given is never reached.
    """
    sizes = np.bincount(given, minlength=probability.shape[1])
    own = np.bincount(given, weights=probability[np.arange(len(given)), given], minlength=probability.shape[1])
    thresholds = np.where(sizes > 0, own / np.maximum(sizes, 1), np.inf)
    reached = np.where(probability >= thresholds - 1e-6, probability, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0, best, -1)


def confident_learning(given: Int[np.ndarray, "n"], probability: Float[np.ndarray, "n k"]) -> Confident:
    """Estimate the share of wrong labels and name the suspects.

    Args:
        given: the labels, as indices of the columns of `probability`.
        probability: of each class for each example, by a predictor that was not fitted on it.
    """
    counts = confident_joint(given, probability).astype(np.float64)
    sizes = np.bincount(given, minlength=counts.shape[0]).astype(np.float64)
    counted = counts.sum(axis=1)
    empty = np.flatnonzero(
        (counted == 0) & (sizes > 0)
    )  # nobody given such a label is sure of anything: taken as right
    counts[empty, empty] = 1.0
    joint = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-30) * sizes[:, None]
    joint /= joint.sum()
    true = confident_class(given, probability)
    wrong = np.flatnonzero((true >= 0) & (true != given))
    margin = probability[wrong, given[wrong]] - probability[wrong, true[wrong]]
    order = np.argsort(margin, kind="stable")
    return Confident(joint, float(1.0 - np.trace(joint)), wrong[order], true[wrong[order]])
