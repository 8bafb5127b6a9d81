"""Labels: what the loss gets as targets is coded as declared, and there is something to learn."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe.checks.data.labels.classes import class_numbers, several_labels
from jaxrecipe.checks.data.labels.coding import coding
from jaxrecipe.checks.data.labels.evidence import evidence, in_words
from jaxrecipe.checks.data.labels.read import HeadLabels, Judged, Limits, read_labels
from jaxrecipe.checks.data.labels.tokens import token_rows
from jaxrecipe.checks.data.labels.values import real_numbers
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.reading import copes
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.setup import Setup


def labels(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    least: int = 20,
    empty_warn: float = 0.9,
    padding_warn: float = 0.9,
    tail_warn: float = 0.9,
) -> Result:
    """Labels are in range, coded as declared, and not all alike.

    What it does: reads the targets of every split after preparation, head by head, and compares them with the declared
    target. Classes: out of range, all the same, in steps (0, 10, 20), counted from 1, masks of a single class. Yes or
    no: out of range, all the same, always exactly one of several. Values: not finite, all the same, class numbers
    divided by 255, a variance that a few examples make alone. Tokens: out of the vocabulary, mostly padding, padding
    that is not declared. Of labels that are out of range or all the same no more is said.

    Why it matters: JAX silently takes another class for a label that is out of range; labels that went through the
    scaling of the images are all 0, and the loss still falls.

    What to do: follow the hint to where the labels are made; the table says which values there are.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        least: examples below which nothing is said about labels that are all alike, or about what all of them share.
        empty_warn: WARN when more than this share of the masks holds one class only, or of the rows no positive label:
            then answering "nothing" is right nearly everywhere.
        padding_warn: WARN when more than this share of the tokens is padding: most of the computation is for nothing.
        tail_warn: WARN when the hundredth of the examples that deviate most makes more than this share of the variance:
            a squared error is then about these alone. It is 0.1 for a normal distribution and about 0.5 for a
            log-normal one.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    limits = Limits(least, empty_warn, padding_warn, tail_warn)
    judged: list[Judged] = []
    read: list[HeadLabels] = []
    for found in read_labels(setup):
        finite = found.finite()
        if not finite.all():
            judged.append(_not_finite(setup, found, finite))
        read.append(found.at(finite))
        judged += _judge_head(read[-1], limits)
    findings = tuple(one.finding for one in judged if one.finding is not None)
    if not findings and all(one.head.behavior.form == "undeclared" for one in read):
        return skipped("No target is declared: declare what is predicted, as target=jr.Classes(10).")
    return Result(
        summary=f"The labels are as declared: {in_words(read)}.",
        findings=findings,
        measures=tuple(one.measure for one in judged),
        evidence=evidence(read),
    )


def _judge_head(found: HeadLabels, limits: Limits) -> Iterator[Judged]:
    """What holds of the finite labels of one head: any coding first, then what its kind of target asks for."""
    if not found.values.size:
        return
    general = list(coding(found, limits))
    yield from general
    behavior = found.head.behavior
    wrong = {one.finding.code for one in general if one.finding is not None}
    if behavior.form == "real" and "data/constant-labels" not in wrong:
        yield from real_numbers(found, limits)
    elif wrong:
        return
    elif behavior.by_position:
        yield from token_rows(found, limits)
    elif behavior.form == "exclusive":
        yield from class_numbers(found, limits)
    elif behavior.several:
        yield from several_labels(found, limits)


def _not_finite(setup: Setup, found: HeadLabels, finite: Bool[np.ndarray, "n"]) -> Judged:
    """Examples whose labels are not finite, which only matters where the loss does not mask them."""
    bad = found.rows[~finite]
    masked = copes(setup, found.split, bad)
    measure = Measure(
        name=f"{found.where}examples whose labels are not finite",
        value=len(bad),
        high=None if masked else 0,
        unit="examples",
        code="" if masked else "data/labels-not-finite",
    )
    text = f"{found.where}{len(bad)} of {len(found.rows)} targets are not finite, first in example {bad[0]}."
    return Judged(measure, text)
