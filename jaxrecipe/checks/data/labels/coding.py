"""Whether labels are coded as declared: in range, whole, not divided by 255, not all alike."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from jaxrecipe import trees
from jaxrecipe.checks.data.labels.read import HeadLabels, Judged, Limits
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.measure import Measure

MOST_CLASSES = 100
"""Different values up to which real numbers may be class numbers: images have more."""
BYTE = 255
"""What images are divided by."""
ROUNDING = 1e-3
"""Far above the rounding in float32 of 100 classes divided by 255 (about 1e-5, times 255), far below one class."""
FEWEST_VALUES = 2
"""One value is no row of class numbers."""


def coding(labels: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """The labels against what is declared of any kind."""
    distance = _distance_from_divided_classes(labels.values)
    outside = _outside(labels)
    scaled = distance < ROUNDING
    if labels.head.behavior.labeled:
        yield _range(labels, outside, scaled=scaled)
    elif np.isfinite(distance) and labels.values.size == len(labels.values):
        yield Judged(
            Measure(
                name=f"{labels.where}distance of 255 × the targets from class numbers",
                value=distance,
                low=ROUNDING,
                code="data/labels-scaled",
            ),
            f"{labels.where}the targets are whole numbers divided by 255, up to {float(labels.values.max()):.3g}.",
        )
    yield _variety(labels, limits, judged=labels.head.behavior.form != "undeclared" and not outside.any())


def _range(labels: HeadLabels, outside: Bool[np.ndarray, "..."], *, scaled: bool) -> Judged:
    """How many labels the declared target does not allow."""
    values, count = labels.values, int(outside.sum())
    message = ""
    if count:
        first = labels.rows[np.flatnonzero(outside.reshape(len(values), -1).any(axis=1))[0]]
        message = (
            f"{labels.where}{count} of {values.size} labels are no label of {labels.head.target} "
            f"({float(values.min()):g} to {float(values.max()):g}), first in example {first}."
        )
    code = "data/labels-scaled" if scaled else "data/labels-out-of-range"
    name = f"{labels.where}labels out of range"
    return Judged(Measure(name=name, value=count, low=0, high=0, unit="labels", code=code), message)


def _variety(labels: HeadLabels, limits: Limits, *, judged: bool) -> Judged:
    """How many different labels there are; one alone is nothing to learn from."""
    values = labels.values
    judged = judged and len(values) >= limits.least
    measure = Measure(
        name=f"{labels.where}different labels",
        value=labels.different(),
        low=2 if judged else None,
        unit="labels",
        code="data/constant-labels" if judged else "",
    )
    if not values.size:
        return Judged(measure, "")
    only = float(values.flat[0])
    likely = ("data/constant-labels", "data/labels-scaled") if only == 0 else ("data/constant-labels",)
    return Judged(measure, f"{labels.where}all {len(values)} examples have the same label, {only:g}.", causes(*likely))


def _outside(labels: HeadLabels) -> Bool[np.ndarray, "..."]:
    """Which labels the declared target does not allow."""
    values, behavior = labels.values, labels.head.behavior
    if not behavior.labeled:
        return np.zeros(values.shape, bool)
    if behavior.form == "independent":
        return (values != 0) & (values != 1)
    classes = behavior.classes(labels.head.target) or 0
    allowed = (values >= 0) & (values < classes)
    if trees.is_floating(values):
        allowed &= values == np.floor(values)
    return ~allowed & ~labels.padding


def _distance_from_divided_classes(values: np.ndarray) -> float:
    """How far 255 times the different labels are from 0, 1, 2, ...; infinity where they cannot be class numbers."""
    if not trees.is_floating(values) or values.size < FEWEST_VALUES:
        return float("inf")
    different = np.unique(values.astype(np.float64))
    if not FEWEST_VALUES <= len(different) <= MOST_CLASSES:
        return float("inf")
    return float(np.abs(different * BYTE - np.arange(len(different))).max())
