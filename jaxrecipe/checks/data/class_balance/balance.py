"""How common the classes are: alike in both splits, and not so uneven that accuracy says nothing."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from jaxrecipe.checks.data.class_balance.counts import HeadCounts
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity

TIMES = 3.0
"""Times as common in one split as in the other, from which on a difference matters: less is usual of two
collections."""
STRICTER = 1000
"""A difference must be so many times less probable than an absence: examples of one source are not independent."""
FEWEST_EXPECTED = 10
"""Examples of a class expected in the smaller split from which on the normal approximation holds far enough out."""
SMALLEST_VARIANCE, SMALLEST_SHARE = 1e-12, 1e-12
"""Instead of zero, where a class is in all examples or in none."""


def different_between_splits(counts: HeadCounts, chance: float, tests: int) -> Iterator[tuple[Measure, Finding | None]]:
    """Whether some class is far commoner in one split than in the other: a binomial test of the examples that hold it.

    The test is corrected for the classes of all heads (Bonferroni). Only classes that both splits have are compared.
    """
    train, test = counts.train, counts.test
    if test is None or not train.examples or not test.examples:
        return
    p, q = train.frequencies, test.frequencies
    pooled = (train.holding + test.holding) / (train.examples + test.examples)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled), SMALLEST_VARIANCE) * (1 / train.examples + 1 / test.examples))
    errors = float(norm.isf(chance / STRICTER / tests / 2))
    enough = pooled * min(train.examples, test.examples) >= FEWEST_EXPECTED
    certain = enough & (np.abs(p - q) > errors * spread) & (p > 0) & (q > 0)
    ratio = np.maximum(p, SMALLEST_SHARE) / np.maximum(q, SMALLEST_SHARE)
    times = np.where(certain, np.maximum(ratio, 1 / ratio), 1.0)
    worst = int(times.argmax())
    measure = Measure(
        name=f"{counts.where}times as common in one split as in the other",
        value=times[worst],
        high=TIMES,
        severity=Severity.WARN,
        code="data/class-balance-shift",
    )
    text = (
        f"{counts.where}class {worst} is in {p[worst]:.1%} of the training examples and {q[worst]:.1%} of the test "
        "examples."
    )
    yield measure, warning(measure.code, text, measures=(measure,)) if measure.verdict else None


def imbalance(
    counts: HeadCounts, majority_warn: float, ratio_warn: float, *, by_accuracy: bool
) -> Iterator[tuple[Measure, Finding | None]]:
    """Imbalance that makes accuracy say nothing; bounded only where accuracy is the metric."""
    code = "data/imbalance" if by_accuracy else ""
    train, accuracy = counts.train, counts.constant_accuracy
    share = Measure(
        name=f"{counts.where}accuracy of the best constant answer",
        value=accuracy,
        high=majority_warn if by_accuracy else None,
        severity=Severity.WARN,
        thresholds={"high": "majority_warn"} if by_accuracy else {},
        code=code,
    )
    what = "no to every label" if counts.several else f"class {int(train.times.argmax())}"
    text = f"{counts.where}answering {what} always has an accuracy of {accuracy:.1%} on the training data."
    yield share, warning(code, text, measures=(share,)) if share.verdict else None
    seen = train.times[train.times > 0]
    if counts.several or seen.size < 2:
        return
    ratio = Measure(
        name=f"{counts.where}times the commonest class is as frequent as the rarest",
        value=float(seen.max() / seen.min()),
        high=ratio_warn if by_accuracy else None,
        severity=Severity.WARN,
        thresholds={"high": "ratio_warn"} if by_accuracy else {},
        code=code,
    )
    text = (
        f"{counts.where}the commonest class is {ratio.value:.0f} times as frequent as the rarest "
        f"({seen.max()} to {seen.min()})."
    )
    yield ratio, warning(code, text, measures=(ratio,)) if ratio.verdict else None
