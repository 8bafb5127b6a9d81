"""Duplicates: no example occurs several times in the training data, and equal examples have equal labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.duplicates.agreement import Agreement, agreement_of_copies
from jaxrecipe.checks.data.duplicates.evidence import exact_pairs, nearest_pairs
from jaxrecipe.data.sources import Source
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.fingerprints import Fingerprints, Groups, chance_of_equal_examples, fingerprints, groups_of
from jaxrecipe.probes.multiple_tests import errors_of_each
from jaxrecipe.probes.neighbors import Near, looked_for, near_copies, on_one_scale
from jaxrecipe.probes.reading import splits
from jaxrecipe.report.evidence import Evidence
from jaxrecipe.report.result import Result
from jaxrecipe.setup import Setup, Split

FEW_DIFFERENT = 0.5
"""With fewer different rows than this share of all, the data have few values and equal rows are natural."""
LIKELY = 0.1
"""Equal rows are natural where independent columns alone would make more than this share of those that there are."""


def duplicates(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    conflicting: float = 0.01,
    disagreeing: float = 0.5,
    repeated: float = 0.01,
    standard_errors: float = 4.0,
) -> Result:
    """Equal examples have equal labels, and few training examples occur more than once.

    What it does: hashes the inputs of every training example to find equal ones, and compares their targets. Then it
    searches for near copies among the different ones: examples that are several times nearer to their nearest neighbor
    than the distance of the tenth and the number of directions in which the data vary can explain. What is natural is
    left alone: in a table of a few categories, or among short rows of tokens, equal examples with different labels are
    noise that no model can remove. They are a bug when copies disagree more often than examples picked at random do,
    which no noise can cause, or where equal examples cannot come about by chance.

    Why it matters: a model cannot learn two labels for one input, it can only hedge; and an example that occurs twice
    counts twice, and ends up on both sides of a random split.

    What to do: keep one of each group of copies before splitting, and look at those whose labels differ: one of them is
    wrong.

    Args:
        setup: the set-up.
        key: unused; all examples are looked at, in order.
        conflicting: FAIL above this share of examples that have an equal one with another label, where chance makes no
            equal examples; WARN below. Published image sets have a few in ten thousand.
        disagreeing: such conflicts FAIL only if pairs of copies disagree at least this share of the rate of random
            pairs. Several annotators of one example agree much more often than that.
        repeated: WARN above this share of examples that occur more than once, exactly or nearly, where chance makes
            none.
        standard_errors: FAIL when copies disagree more often than random pairs by this many standard errors, whatever
            the data; a little more where several splits are tested (Bonferroni).

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data"; the ratio of neighbors'
        distances after Facco et al., Estimating the intrinsic dimension of datasets by a minimal neighborhood
        information (2017).
    """
    del key
    limits = _Limits(conflicting, disagreeing, repeated, standard_errors)
    parts = splits(setup)
    found = [_compare(setup, split, source, limits, tests=len(parts)) for split, source in parts.items()]
    return Result(
        summary=" ".join(one.summary for one in found),
        findings=tuple(finding for one in found for finding in one.findings),
        measures=tuple(measure for one in found for measure in one.measures),
        evidence=tuple(evidence for one in found for evidence in one.evidence),
    )


@dataclass(frozen=True)
class _Limits:
    """The thresholds in force."""

    conflicting: float
    disagreeing: float
    repeated: float
    standard_errors: float


@dataclass(frozen=True)
class _Copies:
    """The copies within one split.

    Attributes:
        split: which.
        size: how many examples it has.
        exact: how many of them have an exact copy.
        natural: whether exact copies come about without a mistake.
        again: whether an example may come again, as batches of several epochs have it that a step was given.
        agreement: whether copies have equal targets.
        near: how many different examples are near copies of another one.
        searched: how many were searched for.
    """

    split: Split
    size: int
    exact: int
    natural: bool
    again: bool
    agreement: Agreement
    near: int
    searched: int


@dataclass(frozen=True)
class _Found:
    """What was found in one split."""

    summary: str
    findings: tuple[Finding, ...]
    measures: tuple[Measure, ...]
    evidence: tuple[Evidence, ...]


def _compare(setup: Setup, split: Split, source: Source, limits: _Limits, *, tests: int) -> _Found:
    """Exact copies, their labels, and near copies within one split."""
    rows = fingerprints(setup, split)
    groups = groups_of(rows.inputs)
    unique = np.sort(np.unique(groups.group, return_index=True)[1])
    near, searched = _near(rows, unique)
    copies = _Copies(
        split=split,
        size=source.size,
        exact=int(groups.repeated.sum()),
        natural=_natural(source, rows, groups),
        again=split == "train" and setup.loop.facts is not None,
        agreement=agreement_of_copies(source, rows, groups),
        near=0 if near is None else int(near.found.sum()),
        searched=len(searched),
    )
    conflicts, exact, close = _conflict_measures(copies, limits, tests), _exact(copies, limits), _close(copies, limits)
    natural = " (natural for so few different values)" if copies.natural and copies.exact else ""
    return _Found(
        summary=f"{copies.exact} of {copies.size} {split} examples have an exact copy{natural}, "
        f"{copies.near} of {copies.searched} different ones a near copy.",
        findings=(*_conflict_findings(copies, conflicts), *_copy_findings(copies, exact, close)),
        measures=(exact, *conflicts, close),
        evidence=(*exact_pairs(setup, split, rows, groups), *nearest_pairs(setup, split, near, searched, unique)),
    )


def _conflict_measures(copies: _Copies, limits: _Limits, tests: int) -> tuple[Measure, ...]:
    """How many copies have another label, and how that compares with random pairs, tested once in each split."""
    agreement, code = copies.agreement, "data/conflicting-duplicates"
    as_random = agreement.ratio >= limits.disagreeing
    share = Measure(
        name=f"{copies.split}: share whose copy has another label",
        value=agreement.examples / copies.size,
        high=None if copies.natural else 0.0,
        fail_high=limits.conflicting if as_random and not copies.natural else None,
        severity=Severity.WARN,
        thresholds={"fail_high": "conflicting"},
        code=code,
    )
    errors = Measure(
        name=f"{copies.split}: disagreement of copies beyond that of random pairs",
        value=agreement.errors_beyond_chance,
        fail_high=errors_of_each(limits.standard_errors, tests),
        unit="standard errors",
        thresholds={"fail_high": "standard_errors"},
        code=code,
    )
    rate = Measure(name=f"{copies.split}: disagreement of copies", value=agreement.rate)
    relative = Measure(
        name=f"{copies.split}: disagreement of copies as a share of that of random pairs",
        value=agreement.ratio,
        high=None if copies.natural else limits.disagreeing,
        severity=Severity.WARN,
    )
    return share, errors, rate, relative


def _conflict_findings(copies: _Copies, measures: tuple[Measure, ...]) -> Iterator[Finding]:
    """Copies with different labels: a bug, a few wrong labels, or nothing where they are natural."""
    agreement, code = copies.agreement, "data/conflicting-duplicates"
    verdicts = {measure.verdict for measure in measures if measure.code == code} - {None}
    if not agreement.examples or not verdicts:
        return
    text = (
        f"{agreement.examples} of {copies.size} {copies.split} examples ({agreement.examples / copies.size:.1%}) have "
        f"an exact copy with another label; pairs of copies differ at {agreement.rate:.1%}, random pairs at "
        f"{agreement.chance:.1%}."
    )
    sure = Severity.FAIL in verdicts
    yield Finding(
        code=code,
        severity=Severity.FAIL if sure else Severity.WARN,
        message=text,
        measures=measures,
        causes=causes(code) if sure else causes(code, "data/label-noise"),
    )


def _exact(copies: _Copies, limits: _Limits) -> Measure:
    """Share of the examples with an exact copy, without a bound where it is natural."""
    return Measure(
        name=f"{copies.split}: share with an exact copy",
        value=copies.exact / copies.size,
        high=None if copies.natural or copies.again else limits.repeated,
        severity=Severity.WARN,
        thresholds={"high": "repeated"},
        code="data/duplicates",
    )


def _close(copies: _Copies, limits: _Limits) -> Measure:
    """Share of the different examples that are near copies."""
    return Measure(
        name=f"{copies.split}: share with a near copy",
        value=copies.near / max(copies.searched, 1),
        high=limits.repeated,
        severity=Severity.WARN,
        thresholds={"high": "repeated"},
        code="data/near-duplicates",
    )


def _copy_findings(copies: _Copies, exact: Measure, close: Measure) -> Iterator[Finding]:
    """Examples that count several times, exactly or nearly."""
    if exact.verdict is not None:
        text = f"{copies.exact} of {copies.size} {copies.split} examples ({exact.value:.1%}) have an exact copy."
        yield warning("data/duplicates", text, measures=(exact,))
    if close.verdict is not None:
        text = (
            f"{copies.near} of the {copies.searched} different {copies.split} examples that were compared "
            f"({close.value:.1%}) are near copies of another one."
        )
        yield warning("data/near-duplicates", text, measures=(close,))


def _natural(source: Source, rows: Fingerprints, groups: Groups) -> bool:
    """Whether equal rows come about without a mistake: integers that are no images, few different rows, or chance."""
    copies = int(groups.repeated.sum())
    if rows.integers or len(groups.sizes) < FEW_DIFFERENT * source.size:
        return True
    return bool(source.size * chance_of_equal_examples(source) > LIKELY * copies > 0)


def _near(rows: Fingerprints, unique: np.ndarray) -> tuple[Near | None, np.ndarray]:
    """Near copies among different rows, and which of them were searched for."""
    (sketches,) = on_one_scale(rows)
    own = looked_for(len(unique), len(unique))
    references = sketches[unique]
    return near_copies(references[own], references, own=own), own
