"""Class numbers and masks of them, and several yes-or-no labels an example."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from jaxrecipe.checks.data.labels.read import HeadLabels, Judged, Limits
from jaxrecipe.diagnosis.measure import Measure, Severity

LARGE_STEP = 10
"""Two classes may well be 0 and 2 of three; 0 and 10 or more are levels."""
FEWEST_CLASSES = 3
"""Of two classes one alone is a constant, and of two labels one positive is a choice between them."""
LISTED = 5
"""Classes that a message lists at most."""


def class_numbers(labels: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """Class numbers that are in range and not all the same."""
    behavior, target = labels.head.behavior, labels.head.target
    numbers, n = behavior.labels(target, labels.values), behavior.classes(target)
    if numbers is None or n is None:
        return
    seen = np.flatnonzero(np.bincount(numbers.ravel(), minlength=n))
    if numbers.size >= limits.least:
        yield _step(labels, seen, n)
    if n >= FEWEST_CLASSES:
        yield _count_from_one(labels, seen, n)
    flat = numbers.reshape(len(numbers), -1)
    if flat.shape[1] > 1 and len(flat) >= limits.least:
        yield from _masks(labels, flat, n, limits)


def _step(labels: HeadLabels, seen: Int[np.ndarray, "seen"], n: int) -> Judged:
    """The greatest common divisor of the classes that occur, where there are enough of them to tell."""
    step = int(np.gcd.reduce(seen))
    judged = len(seen) >= FEWEST_CLASSES or step >= LARGE_STEP
    listed = ", ".join(map(str, seen[:LISTED])) + (", ..." if len(seen) > LISTED else "")
    measure = Measure(
        name=f"{labels.where}common divisor of the class numbers",
        value=step,
        high=1 if judged else None,
        code="data/labels-in-steps" if judged else "",
    )
    return Judged(measure, f"{labels.where}of {n} declared classes only multiples of {step} occur ({listed}).")


def _count_from_one(labels: HeadLabels, seen: Int[np.ndarray, "seen"], n: int) -> Judged:
    """The lowest class number that occurs, where all the others do."""
    others_occur = len(seen) >= n - 1
    measure = Measure(
        name=f"{labels.where}lowest class number",
        value=int(seen[0]),
        low=0 if others_occur else None,
        high=0 if others_occur else None,
        severity=Severity.WARN,
        code="data/labels-from-one" if others_occur else "",
    )
    return Judged(measure, f"{labels.where}all classes from 1 to {n - 1} occur and class 0 never does.")


def _masks(labels: HeadLabels, flat: Int[np.ndarray, "n positions"], n: int, limits: Limits) -> Iterator[Judged]:
    """Masks that hold a single class: all of them, or too many with the same one."""
    single = (flat == flat[:, :1]).all(axis=1)
    yield Judged(
        Measure(
            name=f"{labels.where}masks of several classes",
            value=int(np.count_nonzero(~single)),
            low=1,
            unit="masks",
            code="data/masks-of-one-class",
        ),
        f"{labels.where}each of the {len(flat)} masks holds one class only.",
    )
    if single.all():
        return
    most = int(np.bincount(flat[single, 0], minlength=n).argmax()) if single.any() else 0
    share = float((single & (flat[:, 0] == most)).mean())
    yield Judged(
        _empty_share(f"{labels.where}share of masks of one class alone", share, limits, "data/empty-masks"),
        f"{labels.where}{share:.1%} of the masks hold nothing but class {most}.",
    )


def several_labels(labels: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """Several labels of yes or no an example, `[n, labels]`."""
    positive = labels.flat.astype(np.int64).sum(axis=1)
    count = labels.flat.shape[1]
    if count >= FEWEST_CLASSES and len(positive) >= limits.least:
        yield Judged(
            Measure(
                name=f"{labels.where}examples with none or several positive labels",
                value=int(np.count_nonzero(positive != 1)),
                low=1,
                severity=Severity.WARN,
                unit="examples",
                code="data/labels-exclusive",
            ),
            f"{labels.where}each of the {len(positive)} examples has exactly one positive label of {count}.",
        )
    empty = float((positive == 0).mean())
    yield Judged(
        _empty_share(f"{labels.where}share of examples without a positive label", empty, limits, "data/few-positives"),
        f"{labels.where}{empty:.1%} of the examples have no positive label.",
    )


def _empty_share(name: str, share: float, limits: Limits, code: str) -> Measure:
    """A share of examples that show nothing."""
    return Measure(
        name=name,
        value=share,
        high=limits.empty_warn,
        severity=Severity.WARN,
        thresholds={"high": "empty_warn"},
        code=code,
    )
