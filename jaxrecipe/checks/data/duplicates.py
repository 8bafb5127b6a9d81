"""Duplicates: no example stands twice in the training data without need, and equal examples have equal labels."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.data.sources import Source
from jaxrecipe.probes.fingerprints import Fingerprints, Groups, chance_of_equal_rows, fingerprints, groups_of
from jaxrecipe.probes.neighbors import Near, looked_for, near_copies, on_one_scale
from jaxrecipe.probes.pairs import shown_pairs
from jaxrecipe.probes.reading import splits
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Result, Status, unsorted_result
from jaxrecipe.setup import Setup, Split

_result = partial(unsorted_result, name="duplicates", stage="data")


def duplicates(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    conflicting: float = 0.01,
    disagreeing: float = 0.5,
    repeated: float = 0.01,
    standard_errors: float = 4.0,
) -> Result:
    """Equal examples have equal labels, and few examples stand in the training data more than once.

    What it does: hashes the inputs of every training example to find equal ones, and compares their targets. Then it searches for near copies
    among the different ones: examples that are several times nearer to their nearest neighbour than the distance of the tenth and the number
    of directions in which the data vary can explain. What is natural is left alone: in a table of a few categories, or among short rows of
    tokens, equal examples with different labels are noise that no model can remove. They are a bug when copies disagree more often than
    examples picked at random do, which no noise can cause, or where equal examples cannot come about by chance.

    Why it matters: a model cannot learn two labels for one input, it can only learn to hedge; and what stands twice counts twice, and ends up
    on both sides of a random split.

    What to do: keep one of each group of copies before splitting, and look at those whose labels differ: one of them is wrong.

    Args:
        setup: the set-up.
        key: unused; all examples are looked at, in order.
        conflicting: FAIL above this share of examples that have an equal one with another label, where chance makes no equal examples;
            WARN below. Published image sets have a few in ten thousand.
        disagreeing: such conflicts FAIL only if pairs of copies disagree at least this share of the rate of random pairs. Several
            annotators of one example agree much more often than that.
        repeated: WARN above this share of examples that stand there more than once, exactly or nearly, where chance makes none.
        standard_errors: FAIL when copies disagree more often than random pairs by this many standard errors, whatever the data.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data"; the ratio of neighbours' distances after
        Facco et al., Estimating the intrinsic dimension of datasets by a minimal neighborhood information (2017).
    """
    del key
    limits = {"conflicting": conflicting, "disagreeing": disagreeing, "repeated": repeated, "errors": standard_errors}
    found = [_of_split(setup, split, source, limits) for split, source in splits(setup).items()]
    return concluded(
        _result,
        [finding for one in found for finding in one.findings],
        " ".join(one.passed for one in found),
        measured={f"{one.split}: {name}": value for one in found for name, value in one.measured.items()},
        expected={f"{one.split}: {name}": value for one in found for name, value in one.expected.items()},
        evidence=[evidence for one in found for evidence in one.evidence],
    )


CONFLICT = (
    "Duplicates with conflicting labels: the same input has two different labels, and no model can learn both. Look at the pairs; drop the copies "
    "or correct the labels, and find the step that copied or joined rows twice, with other labels."
)
REPEATED = "Duplicates: what stands in the data several times counts several times, and a random split puts copies on both sides. Keep one of each before splitting."
NEARLY = "Near duplicates (noise, compression, frames of one film?): they count several times, and a random split puts them on both sides. Split by their origin."
MOST_PAIRS = 8


class _Found(NamedTuple):
    """What was found in one split."""

    split: str
    findings: list[Finding]
    passed: str
    measured: dict[str, Any]
    expected: dict[str, Any]
    evidence: list[Any]


def _of_split(setup: Setup, split: Split, source: Source, limits: dict[str, float]) -> _Found:
    """Exact copies, their labels, and near copies within one split."""
    rows, size = fingerprints(setup, split), source.size
    groups = groups_of(rows.inputs)
    copies, natural, agreement = (
        int(groups.repeated.sum()),
        _natural(source, rows, groups),
        _agreement(source, rows, groups),
    )
    unique = np.sort(np.unique(groups.group, return_index=True)[1])
    near, searched = _near(rows, unique)
    close = 0 if near is None else int(near.found.sum())
    findings = _conflicts(split, size, agreement, natural, limits)
    if copies > limits["repeated"] * size and not natural:
        text = f"{copies} of {size} {split} examples ({copies / size:.1%}) stand there more than once."
        findings.append(Finding(Status.WARN, text, REPEATED))
    if close > limits["repeated"] * len(searched):
        text = f"{close} of {len(searched)} different {split} examples looked at ({close / len(searched):.1%}) are near copies of another one."
        findings.append(Finding(Status.WARN, text, NEARLY))
    kind = " (natural for so few different values)" if natural and copies else ""
    return _Found(
        split,
        findings,
        f"{copies} of {size} {split} examples have an exact copy{kind}, {close} of {len(searched)} different ones a near copy.",
        {
            "share with an exact copy": copies / size,
            "share whose copy has another label": agreement.examples / size,
            "disagreement of copies": agreement.rate,
            "share with a near copy": close / max(len(searched), 1),
        },
        {
            "share with an exact copy": "any, it is natural here" if natural else f"up to {limits['repeated']:g}",
            "share whose copy has another label": "any, it is natural here" if natural else 0,
            "disagreement of copies": "at most that of random pairs"
            + (f", {agreement.chance:.3g}" if agreement.groups else ""),
            "share with a near copy": f"up to {limits['repeated']:g}",
        },
        [*_exact_evidence(setup, split, rows, groups), *_near_evidence(setup, split, near, searched, unique)],
    )


def _conflicts(
    split: str, size: int, agreement: "_Agreement", natural: bool, limits: dict[str, float]
) -> list[Finding]:
    """What copies with different labels mean: a bug, a few wrong labels, or nothing where they are natural."""
    certain = agreement.beyond_chance(limits["errors"])
    if not agreement.examples or (natural and not certain):
        return []
    share = agreement.examples / size
    sure = certain or (share > limits["conflicting"] and agreement.rate >= limits["disagreeing"] * agreement.chance)
    text = f"{agreement.examples} of {size} {split} examples ({share:.1%}) have an exact copy with another label."
    return [Finding(Status.FAIL if sure else Status.WARN, text, CONFLICT)]


class _Agreement(NamedTuple):
    """Whether equal inputs have equal targets.

    Attributes:
        examples: how many have a copy with another target.
        rate: how often two members of a group of copies differ.
        chance: how often the targets of members of different groups differ.
        groups: how many groups there are.
    """

    examples: int
    rate: float
    chance: float
    groups: int

    def beyond_chance(self, standard_errors: float) -> bool:
        """Whether copies disagree more often than random pairs: noise in the labels of an input can at most reach that rate."""
        if self.groups < 10:
            return False
        error = np.sqrt(max(self.chance * (1.0 - self.chance), 1.0 / self.groups) / self.groups)
        return bool(self.rate > self.chance + standard_errors * error)


def _agreement(source: Source, rows: Fingerprints, groups: Groups) -> _Agreement:
    """Compare the targets of examples with equal inputs: one pair from each group (its first and last), all rows for the count.

    The chance rate is that of two random examples among those that have copies. Targets that are real numbers always differ a little, so
    for these two are alike if they are nearer than a hundredth of the standard deviation.
    """
    where = np.flatnonzero(groups.repeated)
    if not len(where):
        return _Agreement(0, 0.0, 0.0, 0)
    labels = _labels(source, rows, where)
    order = np.lexsort((labels, groups.group[where]))
    group, ranked = groups.group[where][order], labels[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(group)) - 1
    # each group counts once: the probability that two of its members, drawn without replacement, differ
    same, sizes = np.zeros(len(starts)), (ends - starts + 1).astype(float)
    runs = np.flatnonzero((np.diff(ranked, prepend=np.nan) != 0) | (np.diff(group, prepend=-1) != 0))
    lengths = np.diff(np.append(runs, len(group))).astype(float)
    np.add.at(same, np.searchsorted(starts, runs, side="right") - 1, lengths * (lengths - 1.0))
    differ = 1.0 - same / (sizes * (sizes - 1.0))
    mixed = int(sizes[differ > 0].sum())
    weights = np.repeat(1.0 / sizes, sizes.astype(int))
    _, level = np.unique(ranked, return_inverse=True)
    shares = np.bincount(level.reshape(-1), weights=weights) / weights.sum()
    return _Agreement(mixed, float(differ.mean()), float(1.0 - np.square(shares).sum()), len(starts))


def _labels(source: Source, rows: Fingerprints, where: np.ndarray) -> np.ndarray:
    """One number for each of some targets, alike where the targets are: a rounded value, or the rank of its hash."""
    parts = [source.gather(where[start : start + 4096])[1] for start in range(0, len(where), 4096)]
    leaves = [
        np.concatenate([np.asarray(leaf) for leaf in column])
        for column in zip(*map(jax.tree.leaves, parts), strict=True)
    ]
    if len(leaves) == 1 and np.issubdtype(leaves[0].dtype, np.floating) and leaves[0].size == len(where):
        values = leaves[0].reshape(-1).astype(np.float64)
        return np.round(values / max(float(values.std()) * 0.01, 1e-30))
    _, level = np.unique(rows.targets[where], return_inverse=True)
    return level.reshape(-1).astype(np.float64)


def _natural(source: Source, rows: Fingerprints, groups: Groups) -> bool:
    """Whether equal rows come about without a mistake: integers that are no pictures, few different rows, or likely by chance."""
    copies = int(groups.repeated.sum())
    if rows.integers or len(groups.sizes) < 0.5 * source.size:
        return True
    part = np.linspace(0, source.size - 1, min(source.size, 1000)).astype(int)
    chance = chance_of_equal_rows(jax.tree.leaves(source.gather(part)[0]))
    return bool(source.size * min(1.0, source.size * chance) > 0.1 * copies > 0)


def _near(rows: Fingerprints, unique: np.ndarray) -> tuple[Near | None, np.ndarray]:
    """Near copies among different rows, and which of them were looked for."""
    (sketches,) = on_one_scale(rows)
    own = looked_for(len(unique), len(unique))
    references = sketches[unique]
    return near_copies(references[own], references, own=own), own


def _exact_evidence(setup: Setup, split: Split, rows: Fingerprints, groups: Groups) -> Sequence[Any]:
    """Pairs of equal examples, those with different targets first."""
    where = np.flatnonzero(groups.repeated)
    order = where[np.argsort(groups.group[where], kind="stable")]
    pairs = [(int(a), int(b)) for a, b in pairwise(order) if groups.group[a] == groups.group[b]]
    pairs.sort(key=lambda pair: bool(rows.targets[pair[0]] == rows.targets[pair[1]]))
    return shown_pairs(setup, f"Equal {split} examples", (split, split), pairs[:MOST_PAIRS])


def _near_evidence(setup: Setup, split: Split, near: Near | None, own: np.ndarray, unique: np.ndarray) -> Sequence[Any]:
    """The nearest pairs, whether they are found to be copies or not."""
    if near is None:
        return []
    nearest = np.argsort(near.ratio, kind="stable")[: 2 * MOST_PAIRS]
    ranked = [
        (int(unique[own[i]]), int(unique[near.index[i]]), float(near.ratio[i])) for i in nearest if near.ratio[i] < 1
    ]
    pairs = {(min(a, b), max(a, b)): ratio for a, b, ratio in ranked}
    title = f"Nearest different {split} examples"
    return shown_pairs(
        setup, title, (split, split), list(pairs)[:MOST_PAIRS], {"relative distance": list(pairs.values())}
    )
