"""Leaked label: no single number of the inputs gives the label away."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.leaked_label.single_features import Lone, flat, lone_features, place_name
from jaxrecipe.probes.copies import is_integer, is_picture
from jaxrecipe.probes.samples import Head, Sample, heads, sample
from jaxrecipe.probes.simple_predictor import explained, features_of, fit, one_hot
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Matrix, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens

_result = partial(unsorted_result, name="leaked_label", stage="data")


def leaked_label(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    wrong: float = 0.01,
    unexplained: float = 1e-4,
    between: float = 0.95,
    others: float = 0.05,
    few: int = 4,
    most: int = 3000,
) -> Result:
    """No number of the inputs gives the label away by itself.

    What it does: takes each number of the inputs alone (each pixel, each column, each entry of a dictionary), as it enters the model, and
    predicts the label by a lookup of its values, or a real target by a curve, on examples that the lookup was not made from. A number that is
    nearly always right, that hardly varies among the examples of a label, and that leaves all others far behind, is a copy of the label; so are
    numbers that hold the label one-hot, be they columns or marks in a picture whose place is the label. For sequences of tokens it looks whether the targets are the inputs at the same place.

    Why it matters: the model finds the copy at once, every score is excellent, and nothing has been learnt: at the time when it is used, the
    label will not be there.

    What to do: find out how the number comes into the inputs: an index or file name that follows the class, a column computed from the
    target, a join that kept it, targets that are not shifted.

    Args:
        setup: the set-up.
        key: unused; the sample follows the set-up's seed.
        wrong: a number that is wrong in at most this share of the examples (each label counting alike) gives the label away.
        unexplained: likewise for real targets: the share of the variance that is left; WARN up to a hundred times as much, which
            the value of yesterday may explain of that of today.
        between: FAIL only if at least this share of the number's variance is between the labels. It is 1 for a copy and 0.64 for a label that
            is the sign of a normal number.
        others: FAIL only if the best other number alone is wrong twice as often as this, or all others together this often: otherwise the task is
            easy by itself.
        few: with fewer numbers than this a perfect one is natural, and a WARN at most.
        most: examples that are looked at.

    Source: Kaufman et al., Leakage in Data Mining: Formulation, Detection, and Avoidance (2012).
    """
    del key
    train = sample(setup, "train", most)
    asked = [head for head in heads(setup, train) if len(head.values) >= FEWEST and not isinstance(head.target, Tokens)]
    findings = list(_token_findings(setup, train))
    looked_at_tokens = isinstance(setup.task.target, Tokens)
    if not asked and not looked_at_tokens:
        finding = "No labels or few values are declared as the target (or there are hardly any examples), so there is nothing to give away."
        return _result(status=Status.SKIP, finding=finding, hint="Declare what is predicted, as target=jr.Classes(10).")
    limits = {"wrong": wrong, "unexplained": unexplained, "between": between, "others": others, "few": few}
    measured: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    evidence: list[Evidence] = []
    for head in asked:
        for name, lone, values in _measured(head):
            if not len(lone.places):
                continue
            told = f"{name}: " if name else ""
            what = "error" if head.classes else "unexplained variance"
            measured[f"{told}{what} of the best number alone"] = float(lone.errors[0])
            expected[f"{told}{what} of the best number alone"] = f"above {wrong if head.classes else unexplained:g}"
            findings += _judged(told, head, lone, values, limits)
            evidence += _evidence(told, head, lone)
    passed = "No number of the inputs gives the label away."
    if measured:
        first = next(iter(measured))
        passed = (
            f"No number of the inputs gives the label away; the {first.removeprefix('the ')} is {measured[first]:.2g}."
        )
    if looked_at_tokens and not asked:
        passed = "The targets are not the inputs at the same place."
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=evidence)


FEWEST = 40
SHOWN = 12
COPY = (
    "The label leaks into the inputs: this number is a copy of it (or a code for it) that will not be there when the model is used. Leave it out, and find "
    "where it comes in: an index, a file name, a column computed from the target."
)
ONE_HOT = (
    "The label leaks into the inputs: these numbers hold it one-hot, each the same in all examples of its label, as columns joined from the targets or marks burnt "
    "into pictures. Leave them out (crop or mask them), and find where they come in."
)
NATURAL = "Is this number known before the label is? If so the task is this simple, and a lookup does it; if not, the label leaks into the inputs: leave it out."
SAME_PLACE = (
    "The label leaks into the inputs: the target is off by one, and the model is shown at each place what it has to predict there. "
    "Shift: inputs rows[:, :-1], targets rows[:, 1:]."
)
COPYING = "The targets are the inputs at the same place, which a model can copy. That is right for an autoencoder of tokens only."


def _measured(head: Head) -> Iterator[tuple[str, Lone, np.ndarray]]:
    """Every number alone, against the labels or against each column of the values; nothing for a reconstruction of the inputs."""
    rows = flat(head.inputs)
    rows = rows[: max(400, 30_000_000 // max(rows.shape[1], 1))]
    if head.classes:
        if len(np.unique(head.values[: len(rows)])) > 1:
            yield head.name, lone_features(rows, head.values[: len(rows)], classes=True), head.values[: len(rows)]
        return
    columns = head.values[: len(rows)]
    if columns.shape[1] == rows.shape[1] and columns.shape[1] > 1 and np.allclose(columns, rows, rtol=1e-5, atol=1e-6):
        return
    for number, column in enumerate(columns.T):
        name = f"{head.name}[{number}]" if columns.shape[1] > 1 else head.name
        if column.std() > 0:
            yield name, lone_features(rows, column, classes=False), column


class _Suspects(NamedTuple):
    """Numbers that give the label away, and how the others do without them."""

    columns: np.ndarray
    next_best: float
    together: float


def _judged(told: str, head: Head, lone: Lone, values: np.ndarray, limits: dict[str, float]) -> Iterator[Finding]:
    """A number that is nearly always right is a leak, a natural key, or the task is easy."""
    limit = limits["wrong"] if head.classes else limits["unexplained"]
    certain = lone.errors <= (limit if head.classes else 100 * limit)
    if not certain.any():
        yield from _one_hot_findings(told, head, lone, values, limits)
        return
    suspects = _suspects(head, lone, values, lone.places[certain])
    easy = suspects.next_best < 2 * limits["others"] and suspects.together < limits["others"]
    if not head.classes:
        easy = min(suspects.next_best, suspects.together) < 10 * max(float(lone.errors[0]), limit)
    if easy or len(suspects.columns) > 0.5 * len(lone.map) > 2:
        return
    name = place_name(head.inputs, int(lone.places[0]))
    more = f" (and {certain.sum() - 1} more)" if certain.sum() > 1 else ""
    error = (
        f"is wrong in {lone.errors[0]:.2%} of the examples"
        if head.classes
        else f"leaves {lone.errors[0]:.2g} of the variance unexplained"
    )
    text = f"{told}{name}{more} alone {error}; the best other number {suspects.next_best:.2g}, all others together {suspects.together:.2g}."
    sure = len(lone.map) >= limits["few"] and _is_copy(head, lone, values, limits)
    yield Finding(Status.FAIL if sure else Status.WARN, text, COPY if sure else NATURAL)


def _is_copy(head: Head, lone: Lone, values: np.ndarray, limits: dict[str, float]) -> bool:
    """Whether the best number is the label under another name, and not something that the label follows from."""
    if not head.classes:
        return bool(lone.errors[0] <= limits["unexplained"])
    one_an_example = len(head.example) == len(
        np.unique(head.example)
    )  # a mask may well follow from the pixel at its place
    levels = lone.levels[0] <= len(np.unique(values))
    return bool(levels or lone.between[0] >= (limits["between"] if one_an_example else 0.999))


def _one_hot_findings(
    told: str, head: Head, lone: Lone, values: np.ndarray, limits: dict[str, float]
) -> Iterator[Finding]:
    """Numbers each of which tells one label from all others, for all the labels but one at most: one-hot columns, or marks burnt into pictures."""
    if not head.classes:
        return
    labels = np.unique(values)
    telling = lone.one_label[:, 0] <= limits["wrong"]
    covered = np.unique(lone.one_label[telling, 1])
    if len(labels) < 3 or len(covered) < len(labels) - 1 or len(lone.map) <= len(labels):
        return
    suspects = _suspects(head, lone, values, lone.places[telling])
    if suspects.next_best < 2 * limits["others"] and suspects.together < limits["others"]:
        return
    rows = flat(head.inputs)[: len(values)]
    marks = [
        _same_value(rows[values == labels[int(label)], place]) >= 1 - limits["wrong"]
        for place, label in zip(lone.places[telling], lone.one_label[telling, 1], strict=True)
    ]
    names = ", ".join(place_name(head.inputs, int(place)) for place in np.sort(lone.places[telling])[:4])
    text = f"{told}{telling.sum()} numbers of the inputs ({names}, ...) each tell one label from all others; without them {suspects.together:.2g} are wrong."
    yield Finding(Status.FAIL, text, ONE_HOT) if all(marks) else Finding(Status.WARN, text, NATURAL)


def _same_value(column: np.ndarray) -> float:
    """Share of the examples that have the commonest value."""
    return float(np.unique(column, return_counts=True)[1].max() / len(column))


def _suspects(head: Head, lone: Lone, values: np.ndarray, columns: np.ndarray) -> _Suspects:
    """What the other numbers say, the best one alone and all together."""
    remaining = ~np.isin(lone.places, columns)
    next_best = float(lone.errors[remaining].min()) if remaining.any() else 1.0
    rest = np.delete(flat(head.inputs)[: len(values)], columns, axis=1)
    if not rest.shape[1] or not (rest != rest[:1]).any():
        return _Suspects(columns, next_best, 1.0)
    features = features_of({"inputs": rest}).of({"inputs": rest})
    if not head.classes:
        return _Suspects(columns, next_best, 1.0 - explained(values[:, None], fit(features, values[:, None]).held_out))
    labels = np.unique(values)
    named = labels[fit(features, one_hot(values, labels)).held_out.argmax(axis=1)]
    return _Suspects(columns, next_best, float(np.mean([(named[values == label] != label).mean() for label in labels])))


def _token_findings(setup: Setup, train: Sample) -> Iterator[Finding]:
    """Targets that are the inputs at the same place, or at the one before."""
    target = setup.task.target
    if not isinstance(target, Tokens) or not hasattr(train.targets, "shape"):
        return
    targets = np.asarray(train.targets)
    for path, leaf in train.inputs.items():
        if leaf.shape != targets.shape or leaf.ndim != 2 or leaf.shape[1] < 4 or not is_integer(leaf):
            continue
        counted = np.ones(targets.shape, bool) if target.pad is None else targets != target.pad
        same = _share(leaf == targets, counted)
        before = _share(leaf[:, :-1] == targets[:, 1:], counted[:, 1:])
        after = _share(leaf[:, 1:] == targets[:, :-1], counted[:, :-1])
        if max(same, before) < 0.99 or after > 0.9:
            continue
        where = "at the same place" if same >= before else "one place before"
        text = f"{max(same, before):.1%} of the targets are the tokens of {path} {where}, {after:.1%} those of the next place."
        yield Finding(
            Status.FAIL if setup.task.causal else Status.WARN, text, SAME_PLACE if setup.task.causal else COPYING
        )


def _share(hits: np.ndarray, counted: np.ndarray) -> float:
    return float(hits[counted].mean()) if counted.any() else 0.0


def _evidence(told: str, head: Head, lone: Lone) -> list[Evidence]:
    """The numbers that tell most, and for pictures a map of how much each pixel varies with the label."""
    what = "wrong, alone" if head.classes else "unexplained, alone"
    rows = [
        (place_name(head.inputs, int(place)), float(error), float(between), int(levels))
        for place, error, between, levels in list(
            zip(lone.places, lone.errors, lone.between, lone.levels, strict=True)
        )[:SHOWN]
    ]
    columns = ("number", what, "variance between labels", "different values")
    found: list[Evidence] = [
        Table(title=f"{told}numbers that tell most alone".capitalize(), columns=columns, rows=rows)
    ]
    start = 0
    for path, leaf in head.inputs.items():
        size = int(np.prod(leaf.shape[1:]))
        if is_picture(leaf) and len(head.example) == len(np.unique(head.example)):
            values = lone.map[start : start + size].reshape(*leaf.shape[1:3], -1).max(axis=2)
            title = f"{told}how much each pixel of {path} varies with the label"
            found.append(Matrix(title=title, values=values, row_label="row", column_label="column"))
        start += size
    return found
