"""Split leakage: the test examples are new ones, not those of the training data."""

from functools import partial

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.data.sources import Source
from jaxrecipe.probes.fingerprints import Fingerprints, chance_of_equal_rows, fingerprints, groups_of
from jaxrecipe.probes.neighbors import FEWEST, Near, looked_for, near_copies, on_one_scale
from jaxrecipe.probes.pairs import shown_pairs
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Result, Status, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="split_leakage", stage="data")


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

    What it does: hashes the inputs of all examples and counts the test examples that are in the training data too, and compares that share with
    the share of training examples that have an equal one among the others. A random split makes the two equal, however often the data repeat
    themselves (tables of a few categories, short rows of tokens); copying examples from one split into the other raises the first alone. Near
    copies (noise, compression) are counted in the same way. Continuous numbers that repeat themselves exactly on both sides were copied before the split.

    Why it matters: a test on training examples measures memory, and every decision that follows from it is wrong.

    What to do: drop the listed examples from the training data; split before any copying, oversampling or augmenting, and split by origin (person,
    film, document) where several examples come from one.

    Args:
        setup: the set-up.
        key: unused; all examples are looked at.
        excess: FAIL when the share of test examples in the training data is above what the training data among themselves show by more than this.
        excess_of_integers: the same for tokens and categories, where common rows may well be more frequent in one split.
        chance: FAIL only if so many would be there by chance (a binomial with the rate within the training data) with less than this
            probability; WARN below the square root of it.
        warn: WARN above this share of test examples that have a near copy in the training data, even if the data repeat themselves alike.

    Source: Barz and Denzler, Do we train on test data? (2020), who find near copies of 3 % of the CIFAR-10 test set in its training set.
    """
    del key
    if setup.test is None:
        return _result(status=Status.SKIP, finding="There are no test data; give Task(test=...) to compare the splits.")
    train, test = fingerprints(setup, "train"), fingerprints(setup, "test")
    if train.sketch.shape[1:] != test.sketch.shape[1:]:
        return _result(
            status=Status.SKIP, finding="The inputs of the splits differ in shape, so they have no example in common."
        )
    inside = np.isin(test.inputs, train.inputs)
    within = float(groups_of(train.inputs).repeated.mean())
    near, searched, near_within = _near(train, test, inside)
    close = np.zeros(0, bool) if near is None else near.found
    shares = {"exact": float(inside.mean()), "near": float(close.mean()) if len(close) else 0.0}
    integers = train.integers or within > 0.5 or _likely(setup.train, inside.mean())
    allowed = excess_of_integers if integers else excess
    expected_exact = max(within, _by_chance(setup.train))
    findings = [
        *_judged(
            int(inside.sum()),
            len(inside),
            expected_exact,
            train.inputs.size,
            allowed,
            chance,
            "are in the training data too",
            EXACT,
        ),
        *_judged(
            int(close.sum()),
            len(close),
            near_within,
            train.inputs.size,
            excess,
            chance,
            "have a near copy in the training data",
            NEAR,
        ),
    ]
    if not findings and shares["exact"] > 0.2 and _continuous(setup.train):
        text = f"{inside.sum()} of {len(inside)} test examples ({shares['exact']:.1%}) are in the training data too, and as many training examples repeat others."
        findings.append(Finding(Status.FAIL, text, COPIED_FIRST))
    if not findings and not integers and (shares["exact"] > warn or shares["near"] > warn):
        text = f"{max(shares.values()):.1%} of the test examples have a copy, exact or near, in the training data."
        findings.append(Finding(Status.WARN, text, REPEATING))
    measured = {
        "share of test examples in the training data": shares["exact"],
        "share with a near copy there": shares["near"],
        "share of training examples with an equal one": within,
        "share of those with a near copy": near_within,
    }
    expected = {
        "share of test examples in the training data": f"up to {expected_exact + allowed:.3g}",
        "share with a near copy there": f"up to {near_within + excess:.3g}",
    }
    natural = ", which is natural for rows of so few different values" if integers and inside.any() else ""
    passed = f"{inside.sum()} of {len(inside)} test examples are in the training data{natural}; {close.sum()} of {len(close)} others are near copies."
    evidence = _evidence(setup, train, test, inside, near, searched)
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=evidence)


EXACT = (
    "The same examples are in train and test: test examples were added to the training data, or the test set was drawn from it. Drop them from one of "
    "the two, and split once, before anything else."
)
NEAR = (
    "Near copies of test examples are in the training data (the same example with noise, compressed or slightly changed): split before augmenting, "
    "and by the origin of the examples."
)
COPIED_FIRST = "The same examples are in train and test because they were copied (oversampled, augmented, joined) before the split. Split first, then copy."
REPEATING = "The data repeat themselves, so a random split puts copies on both sides. Keep one of each before splitting, or split by origin."
SHOWN = 8


def _judged(
    count: int, of: int, rate: float, base: int, excess: float, chance: float, what: str, hint: str
) -> list[Finding]:
    """Whether more test examples have a copy than training examples have among themselves."""
    from scipy.stats import binom

    if not count:
        return []
    rate = min(1.0, (rate * base + 1.0) / (base + 2.0))
    probability = float(binom.sf(count - 1, of, rate))
    if count / of - rate <= min(excess, 0.01) / 10 or probability > np.sqrt(chance):
        return []
    sure = count / of - rate > excess and probability < chance
    text = f"{count} of {of} test examples ({count / of:.1%}) {what}; from training examples among themselves {rate:.2%} were expected."
    return [Finding(Status.FAIL if sure else Status.WARN, text, hint)]


def _near(train: Fingerprints, test: Fingerprints, inside: np.ndarray) -> tuple[Near | None, np.ndarray, float]:
    """Near copies of the test examples that are not in the training data, and the rate of near copies within the training data."""
    unique = np.sort(np.unique(train.inputs, return_index=True)[1])
    ours, theirs = on_one_scale(train, test)
    references, outside = ours[unique], np.flatnonzero(~inside)
    if not len(outside):
        return None, outside, 0.0
    searched = outside[looked_for(len(outside), len(unique))]
    near = near_copies(theirs[searched], references)
    own = np.linspace(0, len(unique) - 1, min(len(unique), max(len(searched), 500))).astype(int)
    among = near_copies(references[own], references, own=own)
    return near, searched, 0.0 if among is None else float(among.found.mean())


def _by_chance(source: Source) -> float:
    """Share of examples that would have an equal one in the split if the numbers of an example were independent."""
    part = np.linspace(0, source.size - 1, min(source.size, 1000)).astype(int)
    one = chance_of_equal_rows(jax.tree.leaves(source.gather(part)[0]))
    return float(-np.expm1(-source.size * one))


def _likely(source: Source, share: float) -> bool:
    """Whether independent numbers alone would make a tenth of the copies that are there."""
    return bool(share > 0 and _by_chance(source) > 0.1 * share)


def _continuous(source: Source) -> bool:
    """Whether some number of an example hardly ever repeats itself among different examples, so that no two are equal by chance."""
    part = np.linspace(0, source.size - 1, min(source.size, 1000)).astype(int)
    leaves = [np.asarray(leaf).reshape(len(part), -1) for leaf in jax.tree.leaves(source.gather(part)[0])]
    floats = [leaf for leaf in leaves if np.issubdtype(leaf.dtype, np.floating)]
    if not floats:
        return False
    columns = np.concatenate(floats, axis=1)
    different = len(np.unique(columns, axis=0))
    return different >= FEWEST and any(len(np.unique(column)) > 0.9 * different for column in columns.T[:256])


def _evidence(
    setup: Setup, train: Fingerprints, test: Fingerprints, inside: np.ndarray, near: Near | None, searched: np.ndarray
) -> list[Evidence]:
    """Test examples beside their copies in the training data, exact ones and the nearest others."""
    first = np.flatnonzero(inside)[:SHOWN]
    order = np.argsort(train.inputs, kind="stable")
    exact = [(int(i), int(order[np.searchsorted(train.inputs, test.inputs[i], sorter=order)])) for i in first]
    found = shown_pairs(
        setup, "Test examples that are in the training data", ("test", "train"), exact, names=("test", "train")
    )
    if near is None:
        return found
    unique = np.sort(np.unique(train.inputs, return_index=True)[1])
    best = [i for i in np.argsort(near.ratio, kind="stable")[:SHOWN] if near.ratio[i] < 1]
    pairs = [(int(searched[i]), int(unique[near.index[i]])) for i in best]
    ratios = {"relative distance": [float(near.ratio[i]) for i in best]}
    return [
        *found,
        *shown_pairs(
            setup,
            "Test examples nearest to a training example",
            ("test", "train"),
            pairs,
            ratios,
            names=("test", "train"),
        ),
    ]
