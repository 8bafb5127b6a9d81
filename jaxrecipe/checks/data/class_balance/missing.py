"""Classes that a split does not have, where chance cannot have left them out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from jaxrecipe.checks.data.class_balance.counts import HeadCounts
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity

RARE = 0.1
"""A class may be this much rarer than its even share before its absence from the training data is a failure."""
LISTED = 8
"""Classes that a message lists at most."""


def missing_from_training(counts: HeadCounts, chance: float, tests: int) -> tuple[list[Measure], list[Finding]]:
    """Declared classes without a training example, and labels that are positive in all."""
    train = counts.train
    present = Measure(
        name=f"{counts.where}classes in the training data", value=int((train.times > 0).sum()), unit="classes"
    )
    gone = np.flatnonzero(train.holding == 0)
    always = np.flatnonzero(train.times == train.labels) if counts.several else np.empty(0, np.int64)
    even = float(np.median(train.shares)) if counts.several else 1.0 / len(train.times)
    rare = _chance_of_none(counts, RARE * even, chance, tests, Severity.FAIL)
    usual = _chance_of_none(counts, even, chance, tests, Severity.WARN)
    findings = []
    deciding = next((measure for measure in (rare, usual) if measure.verdict is not None), None)
    if gone.size and deciding is not None:
        what = "labels are never positive" if counts.several else "declared classes never occur"
        text = (
            f"{counts.where}{gone.size} of {len(train.times)} {what} in {train.examples} training examples: "
            f"{_listed(gone)}."
        )
        severity, measures = deciding.verdict or Severity.WARN, (deciding, present)
        code, behind = "data/class-missing", _causes_of_missing(counts, gone)
        findings.append(Finding(code=code, severity=severity, message=text, measures=measures, causes=behind))
    if always.size and rare.value < chance:
        text = f"{counts.where}{always.size} labels are positive in every training example: {_listed(always)}."
        name = f"{counts.where}probability that chance makes a label positive in every training example"
        code = "data/constant-target-columns"
        constant = replace(rare, name=name, severity=Severity.WARN, code=code)
        findings.append(warning(code, text, measures=(constant,)))
    return [present, *((rare, usual) if gone.size else ())], findings


def _chance_of_none(counts: HeadCounts, share: float, chance: float, tests: int, severity: Severity) -> Measure:
    """The probability that chance leaves out a class of this share, corrected for testing many classes (Bonferroni)."""
    return Measure(
        name=f"{counts.where}probability that chance leaves out a class of {share:.2g} of the training examples",
        value=min(1.0, tests * counts.train.chance_of_none(share)),
        low=chance,
        severity=severity,
        thresholds={"low": "chance"},
        code="data/class-missing",
    )


def _causes_of_missing(counts: HeadCounts, gone: Int[np.ndarray, "gone"]) -> tuple[Cause, ...]:
    """What may be behind classes that never occur, the likeliest first."""
    here = ""
    if counts.test is not None and counts.test.holding[gone].any():
        tested = int(counts.test.holding[gone].sum())
        here = f"The test data have {tested} examples of {'it' if len(gone) == 1 else 'them'}"
    missing = cause("data/class-missing", here=here)
    if not counts.several and len(gone) >= len(counts.train.times) - 1:
        return (*causes("data/constant-labels"), missing)
    if not counts.several and gone.tolist() == [0]:
        return (missing, *causes("data/labels-from-one"))
    return (missing,)


def missing_from_test(counts: HeadCounts, chance: float, tests: int) -> Iterator[tuple[Measure, Finding | None]]:
    """Classes of the training data that no test example has; the probability is corrected for the classes tested."""
    if counts.test is None:
        return
    test = counts.test
    chances = np.minimum(1.0, tests * (1.0 - counts.train.frequencies) ** test.examples)
    gone = test.holding == 0
    if not gone.any():
        return
    measure = Measure(
        name=f"{counts.where}probability that chance leaves out a class of the test data",
        value=float(chances[gone].min()),
        low=chance,
        severity=Severity.WARN,
        thresholds={"low": "chance"},
        code="data/class-not-tested",
    )
    absent = np.flatnonzero(gone & (chances < chance))
    if not absent.size:
        yield measure, None
        return
    text = (
        f"{counts.where}{absent.size} classes of the training data never occur in {test.examples} test examples: "
        f"{_listed(absent)}."
    )
    yield measure, warning("data/class-not-tested", text, measures=(measure,))


def _listed(classes: Int[np.ndarray, "classes"]) -> str:
    """The first of some classes by their numbers."""
    return ", ".join(map(str, classes[:LISTED].tolist())) + (", ..." if len(classes) > LISTED else "")
