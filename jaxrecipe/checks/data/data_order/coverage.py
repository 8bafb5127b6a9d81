"""What an epoch holds of the stored examples: whether any are lost, repeated, foreign, or with another target."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import UInt64

from jaxrecipe.checks.data.data_order.loader import Epoch, form_of, hashes_in_form
from jaxrecipe.data.sources import Source
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.reading import chunks
from jaxrecipe.setup import Setup

SYSTEMATIC = 0.9
"""Share of the examples missing from one epoch that the next one must lack too, for it to be no accident: of examples
left out at random, the next epoch has most."""
MOSTLY_KNOWN = 0.5
"""Share of an epoch that must be stored examples before the others count as foreign and not as augmented."""
TARGETS_KEPT = 0.99
"""Share of the delivered targets that must be stored ones: below it they are changed on purpose (smoothed, scaled)."""


def stored_hashes(source: Source, like: tuple[Any, Any]) -> tuple[UInt64[np.ndarray, "n"], UInt64[np.ndarray, "n"]]:
    """A hash of the inputs and of the targets of every stored example; 0 where there are no targets."""
    forms = [form_of(side) for side in like]
    found: tuple[list[Any], list[Any]] = ([], [])
    for rows, pair in chunks(source, np.arange(source.size)):
        for side, tree, form in zip(found, pair, forms, strict=True):
            one = hashes_in_form(tree, form)
            side.append(np.zeros(len(rows), np.uint64) if one is None else one)
    inputs, targets = (np.concatenate(side) for side in found)
    return inputs, targets


def _times_delivered(delivered: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, int]:
    """How often each of the known (sorted, different) hashes was delivered, and how many delivered ones are unknown."""
    place = np.minimum(np.searchsorted(known, delivered), len(known) - 1)
    right = known[place] == delivered
    return np.bincount(place[right], minlength=len(known)), int((~right).sum())


def coverage_findings(
    setup: Setup, epochs: tuple[np.ndarray, np.ndarray], stored: np.ndarray, sizes: list[int], like: tuple[Any, Any]
) -> Iterator[Finding]:
    """Examples that are lost, repeated, or not of the training data."""
    known, times = np.unique(stored, return_counts=True)
    (once, foreign), (again, _) = (_times_delivered(epoch, known) for epoch in epochs)
    total, of_test = len(epochs[0]), 0
    if foreign and setup.test is not None:
        test = np.setdiff1d(stored_hashes(setup.test, like)[0], known)
        of_test = int(np.isin(epochs[0], test).sum())
    if of_test:
        measure = _count("test examples in a training epoch", of_test, Severity.FAIL)
        text = f"{of_test} of the {total} examples of a training epoch are test examples."
        yield failure("data/trained-on-test", text, measures=(measure,))
    if foreign > (1 - MOSTLY_KNOWN) * total:
        return
    if foreign > of_test:
        measure = _count("examples of an epoch that are not stored", foreign - of_test, Severity.WARN)
        text = f"{foreign - of_test} of the {total} examples of an epoch are not among the stored ones."
        yield warning("data/foreign-examples", text, measures=(measure,))
    missing = int(np.maximum(times - once, 0).sum())
    repeated = int(np.maximum(once - times, 0).sum())
    never = int(times[(once == 0) & (again == 0)].sum())
    yield from _gaps(missing, never, repeated, len(stored), int(np.median(sizes)))


def _gaps(missing: int, never: int, repeated: int, stored: int, batch: int) -> Iterator[Finding]:
    """Examples that an epoch lacks or repeats; less than a batch is what a last batch dropped or filled up amounts
    to.
    """
    in_two = replace(_count("examples in neither of two epochs", never, Severity.WARN), fail_high=batch - 1.0)
    measures = (
        _count("examples missing from an epoch", missing, Severity.WARN, high=batch - 1.0),
        _count("examples repeated in an epoch", repeated, Severity.WARN, high=batch - 1.0),
    )
    text = (
        f"An epoch lacks {missing} of the {stored} stored examples and repeats {repeated}; {never} are in neither of "
        "two epochs."
    )
    systematic = never > 0 and never >= SYSTEMATIC * missing
    if systematic and never >= batch:
        yield failure("data/examples-skipped", text, measures=(in_two, *measures))
    elif systematic:
        yield warning("data/examples-skipped", text, measures=(in_two, *measures))
    elif max(missing, repeated) >= max(batch, 1):
        yield warning("data/sampled-with-replacement", text, measures=measures)


def pairing_findings(epoch: Epoch, inputs: np.ndarray, targets: np.ndarray) -> Iterator[Finding]:
    """Delivered inputs whose target is not a stored one of the same inputs."""
    if epoch.inputs is None or epoch.targets is None:
        return
    known = np.isin(epoch.inputs, inputs)
    if not known.any() or np.isin(epoch.targets, targets).mean() < TARGETS_KEPT:
        return
    wrong = int((known & ~np.isin(_hash_of_pairs(epoch.inputs, epoch.targets), _hash_of_pairs(inputs, targets))).sum())
    if wrong:
        measure = _count("examples with the target of another one", wrong, Severity.FAIL)
        text = f"{wrong} of the {int(known.sum())} examples of an epoch come with the target of another example."
        yield failure("data/misaligned-targets", text, measures=(measure,))


def _hash_of_pairs(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """One hash of both."""
    return inputs ^ (targets * np.uint64(0x9E3779B97F4A7C15))


def _count(name: str, value: int, severity: Severity, *, high: float = 0.0) -> Measure:
    """A number of examples that should be none, or less than a batch."""
    return Measure(name=name, value=float(value), high=high, severity=severity, unit="examples")
