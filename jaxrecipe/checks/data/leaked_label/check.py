"""Leaked label: no single number of the inputs gives the label away."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.leaked_label.copied_tokens import token_findings
from jaxrecipe.checks.data.leaked_label.evidence import feature_evidence
from jaxrecipe.checks.data.leaked_label.single_features import (
    SingleFeatures,
    flattened,
    measure_single_features,
    place_name,
)
from jaxrecipe.checks.data.leaked_label.suspects import Others, errors_without, one_an_example
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.questions import Question, questions
from jaxrecipe.probes.samples import sample
from jaxrecipe.report.evidence import Evidence
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens
from jaxrecipe.targets import heads as declared_heads

FEWEST = 40
"""Fewer examples than this say nothing of single numbers."""
LEAST_EXAMPLES, MOST_NUMBERS = 400, 30_000_000
"""Examples are left out where inputs are so large that there would be more numbers than this, down to so many."""
NAMED = 4
"""Numbers that a message names."""
LAGGED = 100.0
"""Times `unexplained` up to which a number is a WARN: so much the value of yesterday leaves of that of today."""
EASIER = 10.0
"""Times the error of the best number within which the others must come for a regression to be easy by itself."""
MOST_SUSPECTS = 0.5
"""Share of the numbers beyond which nearly all tell the label: an easy task and no leak."""
COPY_OF_MASK = 0.999
"""Share of the variance between labels from which on a number is a copy of a dense label, which may well follow from
the pixel at its place."""


@dataclass(frozen=True)
class _Limits:
    """The thresholds in force."""

    wrong: float
    unexplained: float
    between: float
    others: float
    few: int


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

    What it does: takes each number of the inputs alone (each pixel, each column, each entry of a dictionary), as it
    enters the model, and predicts the label by a lookup of its values, or a real target by a curve, on examples that
    the lookup was not made from. A number that is nearly always right, that hardly varies among the examples of a
    label, and that leaves all others far behind, is a copy of the label; so are numbers that hold the label one-hot, be
    they columns or marks in an image whose place is the label. For sequences of tokens it looks whether the targets
    are the inputs at the same place.

    Why it matters: the model finds the copy at once, every score is excellent, and nothing has been learned: at the
    time when it is used, the label will not be there.

    What to do: find out how the number comes into the inputs: an index or file name that follows the class, a column
    computed from the target, a join that kept it, targets that are not shifted.

    Args:
        setup: the set-up.
        key: unused; the sample follows the set-up's seed.
        wrong: a number that is wrong in at most this share of the examples (each label counting alike) gives the label
            away.
        unexplained: likewise for real targets: the share of the variance that is left; WARN up to a hundred times as
            much, which the value of yesterday may explain of that of today.
        between: FAIL only if at least this share of the number's variance is between the labels. It is 1 for a copy and
            0.64 for a label that is the sign of a normal number.
        others: a finding only if the best other number alone is wrong twice as often as this, or all others together
            this often: otherwise the task is easy by itself.
        few: with fewer numbers than this a perfect one is natural, and a WARN at most.
        most: examples that are looked at.

    Source: Kaufman et al., Leakage in Data Mining: Formulation, Detection, and Avoidance (2012).
    """
    del key
    limits = _Limits(wrong, unexplained, between, others, few)
    train = sample(setup, "train", most)
    judged = [h for h in questions(setup, train) if len(h.values) >= FEWEST and not isinstance(h.target, Tokens)]
    has_tokens = any(isinstance(head.target, Tokens) for head in declared_heads(setup.task.target))
    if not judged and not has_tokens:
        return skipped(
            "Nothing is declared whose label could leak (or there are hardly any examples). Declare what is predicted, "
            "as target=jr.Classes(10)."
        )
    findings, measures, evidence = [*token_findings(setup, train)], [], list[Evidence]()
    for head in judged:
        for name, single, values in _measured(head):
            if len(single.places):
                where = f"{name}: " if name else ""
                measures.append(_best_alone(where, head, single, limits))
                findings += _feature_findings(where, head, single, values, limits)
                evidence += feature_evidence(where, head, single)
    summary = "No number of the inputs gives the label away" if judged else "The targets are not copied from the inputs"
    summary += f"; the {measures[0].name} is {measures[0].value:.2g}." if measures else "."
    return Result(summary=summary, findings=tuple(findings), measures=tuple(measures), evidence=evidence)


def _measured(head: Question) -> Iterator[tuple[str, SingleFeatures, np.ndarray]]:
    """Every number alone, against the labels or each column of the values; nothing for a reconstruction of the
    inputs.
    """
    rows = flattened(head.inputs)
    rows = rows[: max(LEAST_EXAMPLES, MOST_NUMBERS // max(rows.shape[1], 1))]
    values = head.values[: len(rows)]
    if head.classes:
        if len(np.unique(values)) > 1:
            yield head.name, measure_single_features(rows, values, classes=True), values
        return
    if values.shape[1] == rows.shape[1] and values.shape[1] > 1 and np.allclose(values, rows, rtol=1e-5, atol=1e-6):
        return
    for number, column in enumerate(values.T):
        name = f"{head.name} column {number}".strip() if values.shape[1] > 1 else head.name
        if column.std() > 0:
            yield name, measure_single_features(rows, column, classes=False), column


def _best_alone(where: str, head: Question, single: SingleFeatures, limits: _Limits) -> Measure:
    """The error of the number that tells most."""
    return Measure(
        name=f"{where}{'error' if head.classes else 'unexplained variance'} of the best number alone",
        value=float(single.errors[0]),
        low=limits.wrong if head.classes else LAGGED * limits.unexplained,
        fail_low=None if head.classes else limits.unexplained,
        severity=Severity.WARN,
        thresholds={"low": "wrong"} if head.classes else {"fail_low": "unexplained"},
    )


def _feature_findings(
    where: str, head: Question, single: SingleFeatures, values: np.ndarray, limits: _Limits
) -> Iterator[Finding]:
    """A number that is nearly always right is a leak, a natural key, or the task is easy."""
    best = _best_alone(where, head, single, limits)
    suspects = single.places[single.errors <= (best.low or 0.0)]
    if not len(suspects):
        yield from _one_hot_findings(where, head, single, values, limits)
        return
    others = errors_without(head, single, values, suspects)
    if _easy(head, others, best.value, limits) or len(suspects) > MOST_SUSPECTS * len(single.map) > 2:
        return
    more = f" (and {len(suspects) - 1} more)" if len(suspects) > 1 else ""
    error = (
        f"is wrong for {best.value:.2%} of the examples"
        if head.classes
        else f"leaves {best.value:.2g} of the variance unexplained"
    )
    text = (
        f"{where}{place_name(head.inputs, int(single.places[0]))}{more} alone {error}; the best other number alone "
        f"{others.best:.2g}, all other numbers together {others.together:.2g}."
    )
    measures = (best, *_measures_of_others(where, others))
    if len(single.map) >= limits.few and _is_copy(head, single, values, limits):
        yield failure("data/leaked-label", text, measures=measures)
    else:
        behind = causes("data/single-feature-suffices", "data/leaked-label")
        yield warning("data/single-feature-suffices", text, measures=measures, causes=behind)


def _easy(head: Question, others: Others, best: float, limits: _Limits) -> bool:
    """Whether the task is as easy without the suspects."""
    if head.classes:
        return others.best < 2 * limits.others and others.together < limits.others
    return min(others) < EASIER * max(best, limits.unexplained)


def _measures_of_others(where: str, others: Others) -> Iterator[Measure]:
    """What the numbers that are no suspects say."""
    yield Measure(name=f"{where}error of the best other number alone", value=others.best)
    yield Measure(name=f"{where}error of all other numbers together", value=others.together)


def _is_copy(head: Question, single: SingleFeatures, values: np.ndarray, limits: _Limits) -> bool:
    """Whether the best number is the label under another name, and not something that the label follows from."""
    if not head.classes:
        return bool(single.errors[0] <= limits.unexplained)
    one_value_a_label = single.levels[0] <= len(np.unique(values))
    return bool(one_value_a_label or single.between[0] >= (limits.between if one_an_example(head) else COPY_OF_MASK))


def _one_hot_findings(
    where: str, head: Question, single: SingleFeatures, values: np.ndarray, limits: _Limits
) -> Iterator[Finding]:
    """Numbers that each tell one label from all others, for all the labels but one: one-hot columns, marks in
    images.
    """
    if not head.classes:
        return
    labels = np.unique(values)
    telling = single.one_label[:, 0] <= limits.wrong
    covered = np.unique(single.one_label[telling, 1])
    if len(labels) < 3 or len(covered) < len(labels) - 1 or len(single.map) <= len(labels):
        return
    suspects = single.places[telling]
    others = errors_without(head, single, values, suspects)
    if _easy(head, others, 0.0, limits):
        return
    rows = flattened(head.inputs)[: len(values)]
    marks = [
        _share_of_commonest(rows[values == labels[int(label)], place]) >= 1 - limits.wrong
        for place, label in zip(suspects, single.one_label[telling, 1], strict=True)
    ]
    names = ", ".join(place_name(head.inputs, int(place)) for place in np.sort(suspects)[:NAMED])
    more = ", ..." if len(suspects) > NAMED else ""
    text = (
        f"{where}{len(suspects)} numbers of the inputs ({names}{more}) each tell one label from all others; all other "
        f"numbers together are wrong for {others.together:.1%} of the examples."
    )
    worst = Measure(
        name=f"{where}error of telling one label by one number",
        value=float(single.one_label[telling, 0].max()),
        low=limits.wrong,
        severity=Severity.WARN,
        thresholds={"low": "wrong"},
    )
    measures = (worst, *_measures_of_others(where, others))
    if all(marks):
        yield failure("data/leaked-label", text, measures=measures)
    else:
        behind = causes("data/single-feature-suffices", "data/leaked-label")
        yield warning("data/single-feature-suffices", text, measures=measures, causes=behind)


def _share_of_commonest(column: np.ndarray) -> float:
    """Share of the examples that have the commonest value."""
    return float(np.unique(column, return_counts=True)[1].max() / len(column))
