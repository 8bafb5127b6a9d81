"""Data order: training sees the examples mixed, each once an epoch, each with its own target."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.data_order.coverage import coverage_findings, pairing_findings, stored_hashes
from jaxrecipe.checks.data.data_order.loader import Epoch, Observed, read_epoch
from jaxrecipe.checks.data.data_order.order import Dependence, dependence_on_order, log_chance_of_same_order
from jaxrecipe.checks.data.data_order.recorded import is_recorded, repeated_batches
from jaxrecipe.checks.data.data_order.rereading import rereading_findings
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.multiple_tests import chance_of_each
from jaxrecipe.probes.reading import chunks, readable_rows
from jaxrecipe.report.evidence import Curve, Evidence, Matrix
from jaxrecipe.report.result import Result
from jaxrecipe.setup import Setup

ENDLESS = 2.5
"""Times the training data after which an epoch counts as endless."""
RECOGNIZED = 0.5
"""Share of an epoch's examples that must be stored ones before the summary says that they were looked up."""


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

    What it does: where you give `Loop.batches`, reads two epochs of the batches that your loader hands out. Every
    delivered example is looked up among the stored ones: its target must be the stored one, no example may be lost or
    repeated, none may come from the test data. The variance of labels and inputs between batches is compared with that
    in random orders and in sorted order, and the two epochs with each other. Without `batches` only the stored order is
    looked at; the library's own loop draws a new order every epoch. Data that are read item by item are read twice,
    alone and in bulk, and must be the same.

    Why it matters: batches of one class pull the model from class to class, and batch statistics learn the class; a
    loader that shuffles inputs and targets apart leaves nothing to learn; one that always drops the same examples
    throws data away. None of it raises an error.

    What to do: shuffle all examples with one permutation, drawn anew every epoch, before batches are made.

    Args:
        setup: the set-up.
        key: unused; the permutations to compare with follow the set-up's seed.
        chance: a dependence on the order counts when a random order would show as much with less than this probability;
            divided by the number of labels and inputs that are compared (Bonferroni).
        sorted_fail: FAIL when the labels are sorted by more than this: 0 is the variance between batches in random
            order, 1 in sorted order.
        sorted_warn: WARN above this, as after shuffling within too small a buffer.
        drift_warn: WARN when more than this share of the variance of the inputs' mean and spread lies between batches.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    limits = _Limits(chance, sorted_fail, sorted_warn, drift_warn)
    rereading = tuple(rereading_findings(setup.train))
    result = _stored_order(setup, limits) if setup.loop.batches is None else _delivered_order(setup, limits)
    return replace(result, findings=(*rereading, *result.findings))


@dataclass(frozen=True)
class _Limits:
    """The thresholds in force."""

    chance: float
    sorted_fail: float
    sorted_warn: float
    drift_warn: float


def _delivered_order(setup: Setup, limits: _Limits) -> Result:
    """Two epochs of what the loop's loader hands out."""
    batches = setup.loop.batches
    if batches is None:
        raise ValueError("the loop has no batches: look at the stored order instead")
    like = setup.train.gather(np.zeros(1, np.int64))
    most = int(ENDLESS * setup.train.size) + setup.batch_size
    first, second = (read_epoch(batches(epoch), setup.task.target, like=like, most=most) for epoch in (0, 1))
    labels = _dependences({f"labels {n}".strip(): one for n, one in first.labels.items()}, first.sizes, setup.seed)
    inputs = _dependences(first.moments, first.sizes, setup.seed)
    each = chance_of_each(limits.chance, len(labels) + len(inputs))
    certain = not setup.task.mixes_examples
    sortedness = {name: _sortedness(name, one, each, limits, certain=certain) for name, one in labels.items()}
    drift = {name: _drift(name, one, each, limits) for name, one in inputs.items()}
    findings = [*_sorted_findings(sortedness)] or [*_drift_findings(drift)]
    found, looked_up = _lookup_findings(setup, first, second, like)
    findings += found
    findings += _repetition_findings(first, second, limits.chance)
    measures = (*sortedness.values(), *drift.values())
    summary = (
        f"An epoch has {len(first.sizes)} batches of mixed examples, in another order than the next epoch{looked_up}."
    )
    return Result(summary=summary, findings=tuple(findings), measures=measures, evidence=_charts({**labels, **inputs}))


def _lookup_findings(setup: Setup, first: Epoch, second: Epoch, like: tuple[Any, Any]) -> tuple[list[Finding], str]:
    """What looking up the delivered examples among the stored ones shows, and how far that went."""
    if first.endless:
        text = f"An epoch has not ended after {sum(first.sizes)} examples; {setup.train.size} are stored."
        return [warning("data/endless-epoch", text)], ""
    if first.inputs is None or second.inputs is None:
        return [], "; the inputs have another form than the stored ones, so they could not be looked up"
    stored = stored_hashes(setup.train, like)
    found = [*coverage_findings(setup, (first.inputs, second.inputs), stored[0], first.sizes, like)]
    found += pairing_findings(first, *stored)
    if np.isin(first.inputs, stored[0]).mean() > RECOGNIZED:
        return found, ", each with its own target"
    return found, "; the inputs are not the stored ones (augmented?), so they could not be looked up"


def _stored_order(setup: Setup, limits: _Limits) -> Result:
    """Where no loader can be read: the order in which the examples are stored."""
    rows = readable_rows(setup, "train", targets_only=True)
    stored = read_epoch((pair for _, pair in chunks(setup.train, rows)), setup.task.target)
    sizes = [setup.batch_size] * (len(rows) // setup.batch_size)
    whole = {
        f"labels {name}".strip(): replace(one, values=one.values[: sum(sizes)]) for name, one in stored.labels.items()
    }
    labels = _dependences(whole, sizes, setup.seed)
    each = chance_of_each(limits.chance, len(labels))
    sorted_by = [name for name, one in labels.items() if one.share > limits.sorted_fail and one.chance < each]
    measures = tuple(Measure(name=f"sortedness of the stored {name}", value=one.share) for name, one in labels.items())
    findings: tuple[Finding, ...] = ()
    if is_recorded(setup):
        return _recorded_order(setup, labels, each, limits)
    if setup.task.loop is None:
        how = f"sorted by {sorted_by[0]}" if sorted_by else "in a mixed order"
        summary = f"The examples are stored {how}; the library's loop draws a new order every epoch."
    else:
        summary = (
            "The stored order is mixed; your loop has no batches (Loop(batches=...)), so its own order is not seen."
        )
        if sorted_by:
            text = f"The examples are stored {labels[sorted_by[0]].share:.0%} sorted by {sorted_by[0]}."
            findings = (warning("data/stored-sorted", text),)
    return Result(summary=summary, findings=findings, measures=measures, evidence=_charts(labels))


def _recorded_order(setup: Setup, labels: dict[str, Dependence], each: float, limits: _Limits) -> Result:
    """The batches of a bare step as they came. What its labels are is a guess, so that order alone is no failure."""
    found = [*repeated_batches(setup)]
    whole = setup.loop.facts is not None and setup.loop.facts.whole_batches
    doubtful = replace(limits, sorted_warn=limits.sorted_fail)
    sortedness = {
        name: _sortedness(name, one, each, doubtful, certain=False) for name, one in labels.items() if not whole
    }
    found += [] if found else _sorted_findings(sortedness)
    count = setup.train.size // setup.batch_size
    return Result(
        summary=f"The {count} batches that were taken differ, and their targets come mixed as far as they are known.",
        findings=tuple(found),
        measures=tuple(sortedness.values()),
        evidence=_charts(labels),
    )


def _dependences(observed: dict[str, Observed], sizes: list[int], seed: int) -> dict[str, Dependence]:
    """How much each of these depends on the order, where it can be said."""
    found = {name: dependence_on_order(one, sizes, seed) for name, one in observed.items()}
    return {name: one for name, one in found.items() if one is not None}


def _sortedness(name: str, one: Dependence, chance: float, limits: _Limits, *, certain: bool) -> Measure:
    """How sorted labels are; where batches of one kind may be meant (not `certain`), at most a WARN."""
    return Measure(
        name=f"sortedness of the {name}",
        value=one.share,
        high=limits.sorted_warn,
        fail_high=limits.sorted_fail if certain else None,
        severity=Severity.WARN,
        thresholds={"high": "sorted_warn", "fail_high": "sorted_fail"} if certain else {"high": "sorted_warn"},
        code="data/sorted" if one.chance < chance else "",
    )


def _drift(name: str, one: Dependence, chance: float, limits: _Limits) -> Measure:
    """How much of the variance of an input's mean and spread lies between batches."""
    return Measure(
        name=f"share of the variance of {name} between batches",
        value=one.share,
        high=limits.drift_warn,
        severity=Severity.WARN,
        thresholds={"high": "drift_warn"},
        code="data/drifting-order" if one.chance < chance else "",
    )


def _sorted_findings(sortedness: dict[str, Measure]) -> Iterator[Finding]:
    """Labels that depend on the batch by more than chance."""
    for name, measure in sortedness.items():
        if measure.code and measure.verdict is not None:
            text = f"The {name} come {measure.value:.0%} sorted (0% in a random order)."
            yield Finding(code=measure.code, severity=measure.verdict, message=text, measures=(measure,))


def _drift_findings(drift: dict[str, Measure]) -> Iterator[Finding]:
    """Inputs that depend on the batch by more than chance."""
    for name, measure in drift.items():
        if measure.code and measure.verdict is not None:
            text = f"{measure.value:.0%} of the variance in mean and spread of {name} lies between batches."
            yield Finding(code=measure.code, severity=measure.verdict, message=text, measures=(measure,))


def _repetition_findings(first: Epoch, second: Epoch, chance: float) -> Iterator[Finding]:
    """Two epochs in the same order, where that is no chance: by inputs, or by all labels where inputs are augmented."""
    pairs = [(one.values, second.labels[name].values) for name, one in first.labels.items() if name in second.labels]
    telling = [pair for pair in pairs if log_chance_of_same_order(pair[0]) < log(chance)]
    same = bool(telling) and all(np.array_equal(*pair) for pair in telling)
    if first.inputs is not None and second.inputs is not None and np.array_equal(first.inputs, second.inputs):
        same = same or log_chance_of_same_order(first.inputs) < log(chance)
    if same:
        text = f"Two epochs hand out the {sum(first.sizes)} examples in the same order."
        yield warning("data/same-order-every-epoch", text)


def _charts(found: dict[str, Dependence]) -> list[Evidence]:
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
