"""What an epoch holds of the stored examples: whether any are lost, repeated, strange, or come with the target of another one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt64

from jaxrecipe.checks.data.data_order.loader import Delivery, form_of, hashed_as
from jaxrecipe.data.sources import Source
from jaxrecipe.probes.reading import chunks
from jaxrecipe.probes.unsorted_findings import Finding
from jaxrecipe.report.result import Status
from jaxrecipe.setup import Setup

UNPAIRED = (
    "Inputs and targets are shuffled apart, or shifted against each other: use one permutation of the indices for both."
)
TEST_ROWS = "The loader is given the wrong split, or the splits were joined: what is measured on the test data is then worth nothing."
NEVER = "Look for a loader that stops early, a sampler over the wrong length, or a last batch that is dropped without shuffling first."
DROPPED = (
    "A last batch that is dropped before shuffling leaves out the same examples every epoch: shuffle first, or keep it."
)
WITH_REPLACEMENT = "If sampling with replacement or weights is meant, this is as it should be, and an epoch is only a number of steps. If not, use a permutation."
FOREIGN = "Look for padding of the last batch (zeros are trained on as examples unless they are masked), or rows of another data set."


def hashed(source: Source, like: tuple[Any, Any]) -> tuple[UInt64[np.ndarray, "n"], UInt64[np.ndarray, "n"]]:
    """A hash of the inputs and of the targets of every stored example; 0 for targets that there are none of."""
    forms = [form_of(side) for side in like]
    found: tuple[list[Any], list[Any]] = ([], [])
    for rows, pair in chunks(source, np.arange(source.size)):
        for side, tree, form in zip(found, pair, forms, strict=True):
            one = hashed_as(tree, form)
            side.append(np.zeros(len(rows), np.uint64) if one is None else one)
    inputs, targets = (np.concatenate(side) for side in found)
    return inputs, targets


def _counts(delivered: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, int]:
    """How often each of the known (sorted, different) hashes was delivered, and how many are unknown."""
    place = np.minimum(np.searchsorted(known, delivered), len(known) - 1)
    right = known[place] == delivered
    return np.bincount(place[right], minlength=len(known)), int((~right).sum())


def covered(
    setup: Setup, epochs: tuple[np.ndarray, np.ndarray], stored: np.ndarray, sizes: list[int], like: tuple[Any, Any]
) -> Iterator[Finding]:
    """Examples that are lost, repeated, or not of the training data."""
    known, times = np.unique(stored, return_counts=True)
    (once, foreign), (again, _) = (_counts(epoch, known) for epoch in epochs)
    total, batch = len(epochs[0]), int(np.median(sizes))
    if foreign and setup.test is not None:
        test = np.setdiff1d(hashed(setup.test, like)[0], known)
        from_test = int(np.isin(epochs[0], test).sum())
        if from_test:
            text = f"{from_test} of {total} examples of an epoch are those of the test data."
            yield Finding(Status.FAIL, text, TEST_ROWS)
            return
    if foreign > 0.5 * total:
        return
    if foreign:
        yield Finding(Status.WARN, f"{foreign} of {total} examples of an epoch are not among the stored ones.", FOREIGN)
    missing = int(np.maximum(times - once, 0).sum())
    repeated = int(np.maximum(once - times, 0).sum())
    never = int(times[(once == 0) & (again == 0)].sum())
    text = f"{missing} of {len(stored)} examples are not in an epoch, {never} in none of two; {repeated} come more than once."
    if never >= max(batch, 0.9 * missing, 1):
        yield Finding(Status.FAIL, text, NEVER)
    elif never and never >= 0.9 * missing:
        yield Finding(Status.WARN, text, DROPPED)
    elif max(missing, repeated) >= max(batch, 1):
        yield Finding(Status.WARN, text, WITH_REPLACEMENT)


def paired(delivery: Delivery, inputs: np.ndarray, targets: np.ndarray) -> Iterator[Finding]:
    """Delivered inputs whose target is not a stored one of the same inputs."""
    if delivery.inputs is None or delivery.targets is None:
        return
    known = np.isin(delivery.inputs, inputs)
    if not known.any() or np.isin(delivery.targets, targets).mean() < 0.99:  # changed on purpose: smoothed, scaled
        return
    wrong = int((known & ~np.isin(_pair(delivery.inputs, delivery.targets), _pair(inputs, targets))).sum())
    if wrong:
        text = f"{wrong} of {int(known.sum())} delivered examples come with the target of another one."
        yield Finding(Status.FAIL, text, UNPAIRED)


def _pair(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """One hash of both."""
    return inputs ^ (targets * np.uint64(0x9E3779B97F4A7C15))
