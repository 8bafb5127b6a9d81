"""Split leakage: the test examples are new ones, not those of the training data."""

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe.checks.data.split_leakage.evidence import leaked_pairs
from jaxrecipe.checks.data.split_leakage.excess import Excess, excess_of_copies
from jaxrecipe.data.sources import Source
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.fingerprints import COUNTED, Fingerprints, chance_of_equal_examples, fingerprints, groups_of
from jaxrecipe.probes.multiple_tests import chance_of_each
from jaxrecipe.probes.neighbors import FEWEST, Near, looked_for, near_copies, on_one_scale
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.setup import Setup

MOSTLY_REPEATED = 0.5
"""Share of training examples with an equal one beyond which the data have few values, and equal rows are natural."""
LIKELY = 0.1
"""Equal rows are natural where independent columns alone would make more than this share of those that there are."""
COPIED = 0.2
"""Share of test examples in the training data that continuous numbers reach only if they were copied before the split:
published image sets have about 0.03."""
HARDLY_REPEATS = 0.9
"""A column is continuous when it has more different values than this share of the different examples."""
COLUMNS = 256
"""Columns that are looked at for a continuous one."""
FEWEST_OWN = 500
"""Training examples that are searched for near copies among the others, at least, where there are so many."""
TESTS = 2
"""Exact and near copies are tested."""


def split_leakage(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    excess: float = 0.01,
    excess_of_integers: float = 0.3,
    chance: float = 1e-6,
    warn: float = 0.01,
) -> Result:
    """No test example, nor a near copy of it, is in the training data, beyond what repeats itself anyway.

    What it does: hashes the inputs of all examples and counts the test examples that are in the training data too, and
    compares that share with the share of training examples that have an equal one among the others. A random split
    makes the two equal, however often the data repeat themselves (tables of a few categories, short rows of tokens);
    copying examples from one split into the other raises the first alone. Near copies (noise, compression) are counted
    in the same way. Continuous numbers that repeat themselves exactly on both sides were copied before the split.

    Why it matters: a test on training examples measures memory, and every decision that follows from it is wrong.

    What to do: drop the listed examples from the training data; split before any copying, oversampling or augmenting,
    and split by origin (person, film, document) where several examples come from one.

    Args:
        setup: the set-up.
        key: unused; all examples are looked at.
        excess: FAIL when the share of test examples in the training data is above what the training data among
            themselves show by more than this.
        excess_of_integers: the same for tokens and categories, where common rows may well be more frequent in one
            split.
        chance: FAIL only if so many would be there by chance (a binomial with the rate within the training data) with
            less than this probability; WARN below the square root of it. Halved, since exact and near copies are both
            tested (Bonferroni).
        warn: WARN above this share of test examples that have a copy in the training data, exact or near, even if the
            data repeat themselves alike.

    Source: Barz and Denzler, Do we train on test data? (2020), who find near copies of 3 % of the CIFAR-10 test set in
        its training set.
    """
    del key
    if setup.test is None:
        return skipped("There are no test data; give Task(test=...) to compare the splits.")
    train, test = fingerprints(setup, "train"), fingerprints(setup, "test")
    if train.sketch.shape[1:] != test.sketch.shape[1:]:
        return skipped("The inputs of the splits differ in shape, so they have no example in common.")
    inside = np.isin(test.inputs, train.inputs)
    within = float(groups_of(train.inputs).repeated.mean())
    close = _near(train, test, inside)
    by_chance = chance_of_equal_examples(setup.train)
    integers = train.integers or within > MOSTLY_REPEATED or by_chance > LIKELY * inside.mean() > 0
    each, size = chance_of_each(chance, TESTS), len(train.inputs)
    exact_limit = ("excess_of_integers", excess_of_integers) if integers else ("excess", excess)
    exact = excess_of_copies(
        "exact", inside, max(within, by_chance), size, limit=exact_limit, chance=each, code="data/test-in-train"
    )
    near = excess_of_copies(
        "near", close.found, close.within, size, limit=("excess", excess), chance=each, code="data/near-test-in-train"
    )
    findings = [*_excess_findings(exact, near)]
    if exact.verdict is None:
        findings += _copied_findings(setup.train, exact)
    repeating = _repeating(exact, near, None if integers or findings else warn)
    findings += _repeating_findings(repeating)
    natural = ", which is natural for rows of so few different values" if integers and exact.count else ""
    return Result(
        summary=f"{exact.count} of {exact.size} test examples are in the training data{natural}; "
        f"{near.count} of {near.size} others are near copies.",
        findings=tuple(findings),
        measures=(
            Measure(name="share of test examples in the training data", value=exact.share),
            Measure(name="share with a near copy there", value=near.share),
            Measure(name="share of training examples with an equal one", value=within),
            Measure(name="share of training examples with a near copy", value=close.within),
            *exact.measures,
            *near.measures,
            repeating,
        ),
        evidence=leaked_pairs(setup, train, test, inside, close.near, close.searched),
    )


def _excess_findings(exact: Excess, near: Excess) -> Iterator[Finding]:
    """More test examples have a copy in the training data than training examples have among themselves."""
    for one, what in ((exact, "are in the training data too"), (near, "have a near copy in the training data")):
        if one.verdict is not None:
            text = (
                f"{one.count} of {one.size} test examples ({one.share:.1%}) {what}; from training examples among "
                f"themselves {one.expected:.2%} were expected."
            )
            behind = causes(one.code) if one.verdict is Severity.FAIL else causes(one.code, "data/repetitive")
            yield Finding(code=one.code, severity=one.verdict, message=text, measures=one.measures, causes=behind)


def _copied_findings(source: Source, exact: Excess) -> Iterator[Finding]:
    """Equal continuous numbers on both sides, and as many within the training data."""
    if exact.share > COPIED and _continuous(source):
        text = (
            f"{exact.count} of {exact.size} test examples ({exact.share:.1%}) are in the training data too, and as "
            "many "
            "training examples repeat others."
        )
        measure = Measure(name="share of continuous test examples in the training data", value=exact.share, high=COPIED)
        yield failure("data/copied-before-split", text, measures=(measure,))


def _repeating(exact: Excess, near: Excess, warn: float | None) -> Measure:
    """Share of the test examples with a copy, without a bound where it is natural or another finding says it."""
    return Measure(
        name="share of test examples with a copy, exact or near",
        value=max(exact.share, near.share),
        high=warn,
        severity=Severity.WARN,
        thresholds={"high": "warn"},
        code="data/repetitive",
    )


def _repeating_findings(share: Measure) -> Iterator[Finding]:
    """Copies on both sides of the split, as many as within the training data."""
    if share.verdict is not None:
        text = f"{share.value:.1%} of the test examples have a copy, exact or near, in the training data."
        yield warning("data/repetitive", text, measures=(share,))


@dataclass(frozen=True, eq=False)
class _Close:
    """Near copies of test examples that are not in the training data.

    Attributes:
        near: the nearest training example of each, None where there are too few to say.
        found: which of those searched for have a near copy.
        searched: which test examples were searched for.
        within: the share of the training examples that have a near copy among themselves.
    """

    near: Near | None
    found: Bool[np.ndarray, "_"]
    searched: np.ndarray
    within: float


def _near(train: Fingerprints, test: Fingerprints, inside: np.ndarray) -> _Close:
    """Search the training data for near copies of the test examples, and of training examples for comparison."""
    unique = np.sort(np.unique(train.inputs, return_index=True)[1])
    ours, theirs = on_one_scale(train, test)
    references, outside = ours[unique], np.flatnonzero(~inside)
    if not len(outside):
        return _Close(None, np.zeros(0, bool), outside, 0.0)
    searched = outside[looked_for(len(outside), len(unique))]
    near = near_copies(theirs[searched], references)
    own = np.linspace(0, len(unique) - 1, min(len(unique), max(len(searched), FEWEST_OWN))).astype(int)
    among = near_copies(references[own], references, own=own)
    within = 0.0 if among is None else float(among.found.mean())
    return _Close(near, np.zeros(0, bool) if near is None else near.found, searched, within)


def _continuous(source: Source) -> bool:
    """Whether some number hardly ever repeats itself among different examples, so that no two are equal by chance."""
    part = np.linspace(0, source.size - 1, min(source.size, COUNTED)).astype(int)
    leaves = [np.asarray(leaf).reshape(len(part), -1) for leaf in jax.tree.leaves(source.gather(part)[0])]
    floats = [leaf for leaf in leaves if np.issubdtype(leaf.dtype, np.floating)]
    if not floats:
        return False
    columns = np.concatenate(floats, axis=1)
    different = len(np.unique(columns, axis=0))
    repeats = (len(np.unique(column)) <= HARDLY_REPEATS * different for column in columns.T[:COLUMNS])
    return different >= FEWEST and not all(repeats)
