"""Data order: training sees the examples mixed, each once an epoch, each with its own target."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.data_order.coverage import covered, hashed, paired
from jaxrecipe.checks.data.data_order.loader import Delivery, Dependence, Watched, dependence, read
from jaxrecipe.data.batches import epoch_order
from jaxrecipe.data.sources import Source
from jaxrecipe.probes.reading import chunks, rows_of
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Curve, Evidence, Matrix, Result, Status, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="data_order", stage="data")
READ_AGAIN = 16
"""Examples that are read again, alone and in bulk."""
ENDLESS = 2.5
"""Times the training data after which an epoch counts as endless."""


def data_order(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    chance: float = 1e-6,
    sorted_fail: float = 0.5,
    sorted_warn: float = 0.05,
    drift_warn: float = 0.2,
) -> Result:
    """Training sees the examples in a mixed order that changes, each once an epoch, each with its own target.

    What it does: where you give `Loop.batches`, reads two epochs of the batches that your loader hands out. Every delivered row is looked up
    among the stored ones: its target must be the stored one, no example may be lost or repeated, none may come from the test data. The
    variance of labels and inputs between batches is compared with that in random orders and in sorted order, and the two epochs with each other.
    Without `batches` the stored order is looked at in the same way; the library's own loop shuffles it anew every epoch. Data that
    are read item by item are read twice, alone and in bulk, and must be the same.

    Why it matters: batches of one class pull the model from class to class, and batch statistics learn the class; a loader that shuffles
    inputs and targets apart leaves nothing to learn; one that always drops the same examples throws data away. None of it raises an error.

    What to do: shuffle all examples with one permutation, drawn anew every epoch, before batches are made.

    Args:
        setup: the set-up.
        key: unused; the permutations to compare with follow the set-up's seed.
        chance: a dependence on the order is told when a random order would show as much with less than this probability.
        sorted_fail: FAIL when the labels are sorted by more than this: 0 is the variance between batches in random order, 1 in sorted order.
        sorted_warn: WARN above this, as after shuffling within too small a buffer.
        drift_warn: WARN when more than this share of the variance of the inputs' mean and spread lies between batches.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    limits = {"chance": chance, "fail": sorted_fail, "warn": sorted_warn, "drift": drift_warn}
    findings = [*_reads_the_same(setup.train)]
    if setup.loop.batches is None:
        return _of_stored(setup, findings, limits)
    like = setup.train.gather(np.zeros(1, np.int64))
    most = int(ENDLESS * setup.train.size) + setup.batch_size
    first, second = (read(setup.loop.batches(epoch), setup.task.target, like=like, most=most) for epoch in (0, 1))
    labels, inputs = _dependences(setup, first)
    told = _sorted(labels, limits, certain=not setup.task.mixes_examples)
    findings += told or _drifting(inputs, limits)
    passed = f"{len(first.sizes)} batches an epoch, mixed, in another order in the next epoch"
    if first.endless:
        text = f"an epoch has not ended after {sum(first.sizes)} examples of {setup.train.size}."
        findings.append(Finding(Status.WARN, f"training: {text}", NO_END))
    elif first.inputs is None or second.inputs is None:
        passed += "; the inputs have another form than the stored ones, so that they could not be looked up."
    else:
        stored = hashed(setup.train, like)
        findings += [*covered(setup, (first.inputs, second.inputs), stored[0], first.sizes, like)]
        findings += [*paired(first, *stored)]
        known = float(np.isin(first.inputs, stored[0]).mean())
        passed += (
            ", every example with its own target."
            if known > 0.5
            else "; the inputs are not the stored ones (augmented?), so that they could not be looked up."
        )
    findings += _same_again(first, second)
    return _concluded(findings, passed, {**labels, **inputs}, limits)


SORTED = "Each batch holds mostly one kind of label, so training is pulled from one to the next. Shuffle all examples before batches are made (a shuffle buffer must be as large as the data), or permute the indices anew every epoch."
STORED_SORTED = "A loop that does not shuffle would train on batches of one label. Permute the indices anew every epoch, and give Loop(batches=...) so that it can be checked."
DRIFTING = "The inputs change along the order (time, source, difficulty): shuffle all examples before batches are made, or parameters and batch statistics follow the drift."
AGAIN = "Draw a new permutation every epoch, with the epoch in the seed (set_epoch, reshuffle_each_iteration): the same batches again and again are learnt as such."
NO_END = "Let batches(epoch) end after one epoch; coverage cannot be looked at in a stream without end."
OTHER_TARGET = "The data set does not follow its index, or reads in bulk in another order than asked for: inputs and targets of different examples come together."
RANDOM_INPUTS = "The data set draws at random when it is read (augmentation, without a seed?). Move that to Task.augment, which is given a key: evaluation must not see it, and as it is no run can be repeated."


def _dependences(setup: Setup, delivery: Delivery) -> tuple[dict[str, Dependence], dict[str, Dependence]]:
    """How much labels, and inputs, depend on the order."""
    found: list[dict[str, Dependence]] = []
    for watched in (delivery.labels, delivery.moments):
        told = {name: dependence(one, delivery.sizes, setup.seed) for name, one in watched.items()}
        found.append({name: one for name, one in told.items() if one is not None})
    labels = {f"labels {name}".strip(): one for name, one in found[0].items()}
    return labels, found[1]


def _of_stored(setup: Setup, findings: list[Finding], limits: dict[str, float]) -> Result:
    """Without the user's batches: the stored order, and what the library's loop makes of it."""
    rows = rows_of(setup.train, setup.seed, labels_only=True)
    stored = read((pair for _, pair in chunks(setup.train, rows)), setup.task.target)
    sizes = [setup.batch_size] * (len(rows) // setup.batch_size)
    stored = Delivery(None, None, sizes, {name: _first(one, sum(sizes)) for name, one in stored.labels.items()}, {})
    labels, _ = _dependences(setup, stored)
    by_label = [name for name, one in labels.items() if one.share > limits["fail"] and one.chance < limits["chance"]]
    if setup.owns_loop:
        passed = "The stored order is mixed. Give Loop(batches=...) to have the order of your own loader checked."
        if by_label:
            text = f"the examples are stored sorted (by {by_label[0]}, {labels[by_label[0]].share:.0%} of what is possible)."
            findings.append(Finding(Status.WARN, text, STORED_SORTED))
    else:
        order = epoch_order(setup.seed, 0, sum(sizes))
        mixed = {name: replace(one, values=one.values[order]) for name, one in stored.labels.items()}
        labels, _ = _dependences(setup, replace(stored, labels=mixed))
        findings += _sorted(labels, limits, certain=True)
        how = f"sorted by {by_label[0]}" if by_label else "in a mixed order"
        passed = f"The examples are stored {how}; the library's loop draws another order every epoch."
    return _concluded(findings, passed, labels, limits)


def _first(watched: Watched, count: int) -> Watched:
    return replace(watched, values=watched.values[:count])


def _sorted(labels: dict[str, Dependence], limits: dict[str, float], *, certain: bool) -> list[Finding]:
    """Labels that depend on the batch."""
    found = []
    for name, one in labels.items():
        if one.chance >= limits["chance"] or one.share <= limits["warn"]:
            continue
        status = Status.FAIL if certain and one.share > limits["fail"] else Status.WARN
        text = f"training sees the examples in stretches: the {name} are {one.share:.0%} sorted (0 in random order, 100 when sorted)."
        found.append(Finding(status, text, SORTED))
    return found


def _drifting(inputs: dict[str, Dependence], limits: dict[str, float]) -> list[Finding]:
    """Inputs that depend on the batch."""
    found = []
    for name, one in inputs.items():
        if one.chance < limits["chance"] and one.share > limits["drift"]:
            text = f"{one.share:.0%} of the variance of mean and spread of the {name} lies between batches."
            found.append(Finding(Status.WARN, text, DRIFTING))
    return found


def _same_again(first: Delivery, second: Delivery) -> list[Finding]:
    """Whether two epochs come in the same order."""
    by_label = [
        np.array_equal(one.values, second.labels[name].values)
        for name, one in first.labels.items()
        if len(one.values) >= 50 and np.ptp(one.values) > 0
    ]
    hashed_alike = (
        first.inputs is not None and second.inputs is not None and np.array_equal(first.inputs, second.inputs)
    )
    varied = first.inputs is not None and len(np.unique(first.inputs)) >= 5
    if (hashed_alike and varied) or (by_label and all(by_label)):
        return [Finding(Status.WARN, f"two epochs hand out the {sum(first.sizes)} examples in the same order.", AGAIN)]
    return []


def _reads_the_same(source: Source) -> Iterator[Finding]:
    """Whether data that are read item by item follow their index: alone, in bulk, and again."""
    if source.arrays is not None:
        return
    rows = np.unique(np.linspace(0, source.size - 1, min(READ_AGAIN, source.size)).astype(np.int64))[::-1].copy()
    bulk, again = source.gather(rows), source.gather(rows)
    alone = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *[source.gather(rows[i : i + 1]) for i in range(len(rows))]
    )
    if not (_equal(bulk[1], again[1]) and _equal(bulk[1], alone[1])):
        text = f"{len(rows)} examples were read again, alone and in bulk, and came with other targets."
        yield Finding(Status.FAIL, text, OTHER_TARGET)
    elif not (_equal(bulk[0], again[0]) and _equal(bulk[0], alone[0])):
        text = f"{len(rows)} examples were read again, alone and in bulk, and came with other inputs."
        yield Finding(Status.WARN, text, RANDOM_INPUTS)


def _equal(one: Any, other: Any) -> bool:
    """Whether two trees hold the same numbers; NaN equals NaN."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def _concluded(findings: list[Finding], passed: str, found: dict[str, Dependence], limits: dict[str, float]) -> Result:
    """The result, with the shares that depend on the order and their course over an epoch."""
    measured = {f"order of the {name}": one.share for name, one in found.items()}
    expected = {
        name: f"up to {limits['warn' if 'of the labels' in name else 'drift']:g} (0 random, 1 sorted)"
        for name in measured
    }
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=_drawn(found))


def _drawn(found: dict[str, Dependence]) -> list[Evidence]:
    """The course of labels and inputs over an epoch."""
    charts: list[Evidence] = []
    for name, one in found.items():
        if len(one.names) > 1 and name.startswith("labels"):
            charts.append(
                Matrix(
                    title=f"{name} over the order in which they come",
                    values=one.profile,
                    row_label="stretch of the order",
                    column_label="class or column",
                    column_names=one.names,
                )
            )
        elif one.names:
            x = np.linspace(0, 1, len(one.profile))
            charts.append(
                Curve(title=f"mean of the {name}", x=x, series={name: one.profile[:, 0]}, x_label="part of the epoch")
            )
    return charts
