"""What the check outliers shows: the most extreme examples as images and in a table, and the distributions."""

from typing import Any

import jax
import numpy as np

from jaxrecipe.checks.data.outliers.columns import Column, extremes
from jaxrecipe.probes.kinds import input_kinds
from jaxrecipe.probes.reading import by_path, splits
from jaxrecipe.report.evidence import Evidence, Histogram, Images, Table
from jaxrecipe.setup import Setup, Split

SHOWN = 24
"""Images that are shown at most."""
LISTED = 50
"""Examples that the table lists at most."""
DRAWN = 6
"""Distributions that are drawn at most."""
IMAGES_EACH, LISTED_EACH = 3, 5
"""Examples from each end of an attribute: as images, and in the table."""


def extreme_images(setup: Setup, columns: list[Column]) -> list[Evidence]:
    """The most extreme images, farthest out first."""
    drawn: list[Evidence] = []
    for split, source in splits(setup).items():
        for path, kind in input_kinds(setup).stored.items():
            own = [column for column in columns if column.split == split and column.name.startswith(f"{path}: ")]
            if kind != "image" or not own:
                continue
            chosen = extremes(own, IMAGES_EACH)[:SHOWN]
            rows = np.array([column.rows[place] for column, place in chosen])
            shown = by_path(source.gather(rows)[0])[path].astype(np.float32)
            if shown.ndim == 4 and shown.shape[-1] == 2:
                shown = shown[..., 0]
            captions = [
                f"{row}: {column.attribute} {column.values[place]:.3g}"
                for row, (column, place) in zip(rows, chosen, strict=True)
            ]
            finite = shown[np.isfinite(shown)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
            title = f"{split}, {path}: the most extreme examples"
            drawn.append(Images(title=title, images=shown, captions=captions, low=low, high=max(high, low + 1e-9)))
    return drawn


def tables(setup: Setup, columns: list[Column]) -> list[Evidence]:
    """The most extreme examples with their labels, and every attribute with its range."""
    listed = [
        (
            column.split,
            int(column.rows[place]),
            column.name,
            float(column.values[place]),
            float(column.distance[place]),
            _described_target(setup, column.split, int(column.rows[place])),
        )
        for column, place in extremes(columns, LISTED_EACH)[:LISTED]
    ]
    ranges = [
        (
            column.split,
            column.name,
            *map(float, np.nanquantile(column.values, (0, 0.01, 0.5, 0.99, 1))),
            column.bounds.low,
            column.bounds.high,
            len(column.outliers),
        )
        for column in columns
        if np.isfinite(column.values).any()
    ]
    names = ("split", "example", "attribute", "value", "distance (1 is the bound)", "target")
    quantiles = ("lowest", "1 %", "median", "99 %", "highest")
    head = ("split", "attribute", *quantiles, "lower bound", "upper bound", "outliers")
    return [
        Table(title="The most extreme examples", columns=names, rows=listed),
        Table(title="Attributes", columns=head, rows=ranges),
    ]


def _described_target(setup: Setup, split: Split, row: int) -> str:
    """The stored targets of an example in a few words."""
    _, targets = splits(setup)[split].gather(np.array([row]))
    leaves: list[Any] = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(targets)]
    words = [
        ", ".join(f"{float(number):g}" for number in leaf[:4]) + (", ..." if len(leaf) > 4 else "") for leaf in leaves
    ]
    return "; ".join(words)


def distributions(columns: list[Column]) -> list[Evidence]:
    """The attributes in which the farthest examples are, the farthest first."""
    ranked = sorted(columns, key=lambda column: -float(column.distance.max(initial=0.0)))[:DRAWN]
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
