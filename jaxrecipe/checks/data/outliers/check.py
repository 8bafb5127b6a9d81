"""Outliers: the examples at the ends of everything that can be computed of them; they nearly always show a bug."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.data.outliers.columns import Column, read_columns
from jaxrecipe.checks.data.outliers.evidence import distributions, extreme_images, tables
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.setup import Setup

NAMED = 5
"""Examples that a message names at most."""
ATTRIBUTES_NAMED = 8
"""Attributes that the summary names at most."""
IMAGE_CAUSES = ("data/mixed-image-processing", "data/blank-examples", "data/mixed-scale")
TOKEN_CAUSES = ("data/repeated-tokens", "data/padding-undeclared")
NUMBER_CAUSES = ("data/wrong-unit", "data/missing-value-code", "data/huge-values")
CAUSES: dict[str, tuple[str, ...]] = {
    "brightness": IMAGE_CAUSES,
    "contrast": IMAGE_CAUSES,
    "edges": ("data/garbled-images", *IMAGE_CAUSES),
    "sharpness": ("data/garbled-images", *IMAGE_CAUSES),
    "color": ("data/mixed-colors", "data/mixed-image-processing"),
    "red over blue": ("data/mixed-colors", "data/mixed-image-processing"),
    "length": ("data/broken-texts", "data/padding-undeclared"),
    "different tokens": TOKEN_CAUSES,
    "commonest token": TOKEN_CAUSES,
    "norm": NUMBER_CAUSES,
    "largest deviation": NUMBER_CAUSES,
    "missing": ("data/missing-values",),
    "roughness": ("data/failed-sensor", *NUMBER_CAUSES),
    "size of the label": ("data/wrong-masks", "data/empty-masks"),
}
"""What may be behind an example that stands apart in an attribute, the likeliest first."""
EMPTY = {
    "edges": ("data/blank-examples", "images are blank, of one color"),
    "length": ("data/empty-rows", "texts are empty"),
}
"""Attributes that are zero where an example shows nothing."""


def outliers(setup: Setup, *, key: PRNGKeyArray, chance: float = 1e-6, blank_warn: float = 0.0) -> Result:
    """No example stands far apart from all the others in anything that can be computed of it.

    What it does: computes of every example what its kind allows: brightness, contrast, edges, sharpness and color of
    images; length, different and commonest tokens of text; norm, largest deviation and missing numbers of tables and
    series; the value to predict, and the size of what a mask shows. An example beyond what the tails of the others lead
    one to expect is an outlier, and so is a small group behind a wide gap, an image of one color and an empty text.
    They come as images, in a table and in the distributions; where there is none the most extreme examples are shown
    all the same. Never fails: only a person can say whether an outlier is wrong.

    Why it matters: outliers nearly always show a bug: a blank or inverted image, an empty text, a number in another
    unit, a label that was typed with a digit too many. And a squared error is mostly about them.

    What to do: look at them, find where they come from, and repair or drop them; those that are right need a loss or a
    scaling that copes with them.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        chance: an example is an outlier when, by the tails of all the others, even one so far out would turn up in any
            attribute of any split with this probability only (Bonferroni): about 7 standard deviations for a thousand
            normally distributed numbers.
        blank_warn: WARN when more than this share of the images is of one color, or of the texts empty.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    columns = read_columns(setup, chance)
    if not columns:
        return skipped("Nothing can be computed of these examples; leave this check out with skip.")
    blank = {id(column): _blank_share(column, blank_warn) for column in columns if column.attribute in EMPTY}
    findings: list[Finding] = []
    for column in columns:
        if id(column) in blank:
            findings += _blank_findings(column, blank[id(column)])
    findings += [finding for column in columns for finding in _outlier_findings(column)]
    names = list(dict.fromkeys(column.attribute for column in columns))
    listed = ", ".join(names[:ATTRIBUTES_NAMED]) + (", ..." if len(names) > ATTRIBUTES_NAMED else "")
    return Result(
        summary=f"No example stands apart in {listed}.",
        findings=tuple(findings),
        measures=(*_counts(columns), *blank.values()),
        evidence=(*extreme_images(setup, columns), *tables(setup, columns), *distributions(columns)),
    )


def _counts(columns: list[Column]) -> Iterator[Measure]:
    """How many examples of each split stand apart in anything."""
    for split in dict.fromkeys(column.split for column in columns):
        rows = np.unique(np.concatenate([c.rows[c.outliers] for c in columns if c.split == split]))
        yield Measure(
            name=f"{split}: examples that stand apart",
            value=float(len(rows)),
            low=0.0,
            high=0.0,
            severity=Severity.WARN,
            unit="examples",
            code="data/outliers",
        )


def _outlier_findings(column: Column) -> Iterator[Finding]:
    """The examples that stand apart in one attribute."""
    places = column.outliers
    if not places.size:
        return
    values, rows = column.values[places], column.rows[places]
    low, high = np.nanquantile(column.values, (0.01, 0.99))
    span = f"{values.min():.4g}" if len(rows) == 1 else f"{values.min():.4g} to {values.max():.4g}"
    text = (
        f"{column.split}: {len(rows)} of {len(column.rows)} examples stand apart in {column.name} ({span}, where 98% "
        f"lie between {low:.4g} and {high:.4g}): {_listed(rows)}."
    )
    measure = Measure(
        name=f"{column.split}, {column.name} of the farthest example",
        value=float(values[0]),
        low=column.bounds.low if np.isfinite(column.bounds.low) else None,
        high=column.bounds.high if np.isfinite(column.bounds.high) else None,
        severity=Severity.WARN,
        code="data/outliers",
    )
    if column.attribute.startswith("value"):
        yield warning("data/target-outliers", text, measures=(measure,))
    else:
        behind = causes(*CAUSES.get(column.attribute, NUMBER_CAUSES))
        yield warning("data/outliers", text, measures=(measure,), causes=behind)


def _blank_share(column: Column, most: float) -> Measure:
    """Share of the examples that show nothing."""
    code, _ = EMPTY[column.attribute]
    return Measure(
        name=f"{column.split}, {column.name}: share of blank examples",
        value=float(np.mean(column.values == 0)),
        high=most,
        severity=Severity.WARN,
        thresholds={"high": "blank_warn"},
        code=code,
    )


def _blank_findings(column: Column, share: Measure) -> Iterator[Finding]:
    """Images in which no pixel differs from its neighbors, and texts without a token."""
    if share.verdict is not None:
        code, what = EMPTY[column.attribute]
        rows = column.rows[column.values == 0]
        text = f"{column.split}: {len(rows)} of {len(column.rows)} {what}: {_listed(rows)}."
        yield warning(code, text, measures=(share,))


def _listed(rows: np.ndarray) -> str:
    """The first of some examples by their numbers."""
    more = " and others" if len(rows) > NAMED else ""
    return f"{'example' if len(rows) == 1 else 'examples'} {', '.join(map(str, rows[:NAMED]))}{more}"
