"""Outliers: the examples at the ends of everything that can be computed of them; they nearly always show a bug."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64, Int, PRNGKeyArray

from jaxrecipe.checks.data.outliers.attributes import Bounds, attributes, bounds, kind_of
from jaxrecipe.data.sources import Source
from jaxrecipe.probes.reading import by_path, rows_of, splits
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Evidence, Histogram, Images, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup, Split

_result = partial(unsorted_result, name="outliers", stage="data")
SHOWN = 24
"""Pictures that are shown at most."""
LISTED = 50
"""Examples that the table lists at most."""
DRAWN = 6
"""Distributions that are drawn at most."""


@dataclass(frozen=True)
class Column:
    """One attribute of one split: its values, the examples that they belong to, and what they may be."""

    split: Split
    name: str
    rows: Int[np.ndarray, "n"]
    values: Float64[np.ndarray, "n"]
    bounds: Bounds

    @property
    def middle(self) -> float:
        """The median; NaN where there is no number."""
        finite = self.values[np.isfinite(self.values)]
        return float(np.median(finite)) if finite.size else float("nan")

    @property
    def beyond(self) -> Float64[np.ndarray, "n"]:
        """How far out each example is: 1 at the bound on its side, 0 in the middle or where there is no bound."""
        apart = self.values - self.middle
        reach = np.where(apart > 0, self.bounds.high - self.middle, self.middle - self.bounds.low)
        return np.nan_to_num(np.abs(apart) / np.maximum(reach, 1e-30), posinf=0.0)


def outliers(setup: Setup, *, key: PRNGKeyArray, chance: float = 1e-6, blank_warn: float = 0.0) -> Result:
    """No example stands far apart from all the others in anything that can be computed of it.

    What it does: computes of every example what its kind allows: brightness, contrast, edges, sharpness and colour of pictures; length,
    different and commonest tokens of text; norm, largest deviation and missing numbers of tables and series; the value to predict, and
    the size of what a mask shows. An example beyond what the tails of the others lead one to expect is an outlier, and so is a
    small group behind a wide gap, a picture of one colour and an empty text. They come as pictures, in a table and in the distributions; where there is none
    the most extreme examples are shown all the same. Never fails: only a person can say whether an outlier is wrong.

    Why it matters: outliers nearly always show a bug: a blank or inverted picture, an empty text, a number in another unit, a label that
    was typed with a digit too many. And a squared error is mostly about them.

    What to do: look at them, find where they come from, and repair or drop them; those that are right need a loss or a scaling that
    copes with them.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        chance: an example is told when, by the tails of all the others, even one so far out would turn up with this probability only: about
            7 standard deviations for a thousand normally distributed numbers.
        blank_warn: WARN when more than this share of the pictures is of one colour, or of the texts empty.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    columns = [column for split, source in splits(setup).items() for column in _columns(setup, split, source, chance)]
    if not columns:
        finding = "There is nothing that could be computed of each of these examples."
        return _result(status=Status.SKIP, finding=finding, hint="Leave this check out with skip.")
    findings = [*_blank(columns, blank_warn), *(one for column in columns if (one := _apart(column)) is not None)]
    odd = {split: np.unique(np.concatenate([_out(c) for c in columns if c.split == split])) for split in splits(setup)}
    measured = {f"{split}: examples that stand apart": len(rows) for split, rows in odd.items()}
    names = list(dict.fromkeys(column.name.rsplit(": ", 1)[-1] for column in columns))
    passed = f"No example stands apart in {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
    return concluded(
        _result,
        findings,
        passed,
        measured=measured,
        expected=dict.fromkeys(measured, 0),
        evidence=[*_pictures(setup, columns), *_tables(setup, columns), *_distributions(columns)],
    )


BLANK = "Pictures of one colour show nothing to learn: look for files that could not be read, a crop beside the picture, or a buffer that was not filled."
EMPTY = "There is nothing to learn from them, and a mean over their tokens divides by zero: look for files that could not be read, or a filter that leaves nothing."
HINTS = {
    "brightness": "Look for blank, inverted or overexposed pictures, and for a few that are scaled otherwise.",
    "contrast": "Look for blank or nearly blank pictures, and for a few that are scaled otherwise.",
    "edges": "Look for noise, wrong strides or byte order (much), and blank or blurred pictures (little).",
    "sharpness": "Look for noise, wrong strides or byte order (much), and for pictures enlarged from tiny ones (little).",
    "colour": "Look for grey pictures among coloured ones, or the reverse, and for another colour space.",
    "red over blue": "Look for pictures whose red and blue are swapped (BGR read as RGB).",
    "length": "Look for empty texts, for several joined into one, and for mark-up that was read as text.",
    "different tokens": "Look for texts that repeat themselves, and for tokens that were made with another vocabulary.",
    "commonest token": "Look for texts that are one token again and again: padding that is not declared, an unknown token, a broken file.",
    "norm": "Look for numbers in another unit, a code for missing values, or an overflow.",
    "largest deviation": "Look for a number in another unit, a decimal point or a separator misread, or a code for missing values.",
    "missing": "Look at where these come from; drop them if there is too little left to learn from.",
    "roughness": "Look for a sensor that failed (nothing changes) or noise, and for another sampling rate.",
    "size of the label": "Look for masks that are empty, inverted, or of another picture.",
    "value": "Look for a label in another unit, or typed wrongly. If it is right, a robust loss or a logarithm copes with it.",
}


def _columns(setup: Setup, split: Split, source: Source, chance: float) -> list[Column]:
    """Every attribute of a split."""
    rows = rows_of(source, setup.seed)
    found = attributes(source, setup.task.target, rows)
    return [Column(split, name, rows, values, bounds(values, chance)) for name, values in found.items()]


def _out(column: Column) -> Int[np.ndarray, "k"]:
    """Examples beyond the bounds, the farthest first."""
    beyond = column.beyond
    out = np.flatnonzero(beyond > 1)
    return column.rows[out[np.argsort(-beyond[out], kind="stable")]]


def _apart(column: Column) -> Finding | None:
    """The examples that stand apart in one attribute."""
    out = _out(column)
    if not out.size:
        return None
    values = column.values[np.searchsorted(column.rows, out)]
    low, high = np.nanquantile(column.values, (0.01, 0.99))
    told = f"{values.min():.4g}" if len(out) == 1 else f"{values.min():.4g} to {values.max():.4g}"
    text = (
        f"{column.split}: {len(out)} of {len(column.rows)} examples stand apart in {column.name} ({told}, where 98 % lie between "
        f"{low:.4g} and {high:.4g}), first {', '.join(map(str, out[:5]))}."
    )
    suffix = column.name.rsplit(": ", 1)[-1]
    hint = next((hint for name, hint in HINTS.items() if suffix.startswith(name)), HINTS["norm"])
    return Finding(Status.WARN, text, hint)


def _blank(columns: list[Column], most: float) -> list[Finding]:
    """Pictures in which no pixel differs from its neighbours, and texts without a token."""
    found = []
    for column in columns:
        empty = {": edges": ("pictures are of one colour", BLANK), ": length": ("texts are empty", EMPTY)}
        what, hint = next((told for end, told in empty.items() if column.name.endswith(end)), ("", ""))
        blank = column.rows[column.values == 0] if what else column.rows[:0]
        if len(blank) > most * len(column.rows):
            listed = ", ".join(map(str, blank[:5]))
            text = f"{column.split}: {len(blank)} of {len(column.rows)} {what}, examples {listed}."
            found.append(Finding(Status.WARN, text, hint))
    return found


def _extremes(columns: list[Column], each: int) -> list[tuple[Column, int]]:
    """Of every attribute the examples farthest out, on both sides, the farthest of all first; each example once."""
    ends = []
    for column in columns:
        order = np.argsort(np.where(np.isfinite(column.values), column.values, column.middle), kind="stable")
        ends += [(float(column.beyond[place]), column, int(place)) for place in (*order[:each], *order[::-1][:each])]
    ends.sort(key=lambda end: -end[0])
    seen: dict[tuple[str, int], tuple[Column, int]] = {}
    for _, column, place in ends:
        seen.setdefault((column.split, int(column.rows[place])), (column, place))
    return list(seen.values())


def _pictures(setup: Setup, columns: list[Column]) -> list[Evidence]:
    """The most extreme pictures, farthest out first."""
    drawn: list[Evidence] = []
    for split, source in splits(setup).items():
        first = by_path(source.gather(np.zeros(1, np.int64))[0])
        for path, leaf in first.items():
            own = [column for column in columns if column.split == split and column.name.startswith(f"{path}: ")]
            if kind_of(leaf) != "picture" or not own:
                continue
            chosen = _extremes(own, 3)[:SHOWN]
            rows = np.array([column.rows[place] for column, place in chosen])
            shown = by_path(source.gather(rows)[0])[path].astype(np.float32)
            if shown.ndim == 4 and shown.shape[-1] == 2:
                shown = shown[..., 0]
            names = [
                f"{row}: {c.name.rsplit(': ', 1)[-1]} {c.values[place]:.3g}"
                for row, (c, place) in zip(rows, chosen, strict=True)
            ]
            finite = shown[np.isfinite(shown)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
            title = f"{split}, {path}: the most extreme examples"
            drawn.append(Images(title=title, images=shown, captions=names, low=low, high=max(high, low + 1e-9)))
    return drawn


def _tables(setup: Setup, columns: list[Column]) -> list[Evidence]:
    """Every attribute with its range, and the most extreme examples with their labels."""
    head = (
        "split",
        "attribute",
        "lowest",
        "1 %",
        "middle",
        "99 %",
        "highest",
        "told below",
        "told above",
        "examples told",
    )
    rows = [
        (
            c.split,
            c.name,
            *map(float, np.nanquantile(c.values, (0, 0.01, 0.5, 0.99, 1))),
            c.bounds.low,
            c.bounds.high,
            len(_out(c)),
        )
        for c in columns
        if np.isfinite(c.values).any()
    ]
    extremes = _extremes(columns, 5)[:LISTED]
    listed = [
        (
            c.split,
            int(c.rows[place]),
            c.name,
            float(c.values[place]),
            float(c.beyond[place]),
            _label(setup, c.split, int(c.rows[place])),
        )
        for c, place in extremes
    ]
    names = ("split", "example", "attribute", "value", "how far out (told above 1)", "target")
    return [
        Table(title="The most extreme examples", columns=names, rows=listed),
        Table(title="Attributes", columns=head, rows=rows),
    ]


def _label(setup: Setup, split: Split, row: int) -> str:
    """The stored targets of an example in a few words."""
    _, targets = splits(setup)[split].gather(np.array([row]))
    leaves: list[Any] = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(targets)]
    told = [
        ", ".join(f"{float(number):g}" for number in leaf[:4]) + (", ..." if len(leaf) > 4 else "") for leaf in leaves
    ]
    return "; ".join(told)


def _distributions(columns: list[Column]) -> list[Evidence]:
    """The attributes in which the farthest examples are, the farthest first."""
    ranked = sorted(columns, key=lambda column: -float(column.beyond.max(initial=0.0)))[:DRAWN]
    charts: list[Evidence] = []
    for column in ranked:
        finite = column.values[np.isfinite(column.values)]
        if finite.size:
            counts, edges = np.histogram(finite, bins=50)
            title = f"{column.split}, {column.name}"
            charts.append(
                Histogram(title=title, edges=edges, counts={column.name: counts}, x_label=column.name, log_y=True)
            )
    return charts
