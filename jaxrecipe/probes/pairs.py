"""Pairs of examples as evidence: a table with their places and targets, and their images side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.kinds import drawable, input_kinds
from jaxrecipe.probes.reading import splits
from jaxrecipe.report.result import Evidence, Images, Table
from jaxrecipe.setup import Setup, Split

Pair = tuple[int, int]


def shown_pairs(
    setup: Setup,
    title: str,
    sides: tuple[Split, Split],
    pairs: Sequence[Pair],
    more: Mapping[str, Sequence[float]] | None = None,
    *,
    names: tuple[str, str] = ("example", "and"),
) -> list[Evidence]:
    """A table of pairs (an index into the split on each side), with their targets, and the first images among the
    inputs in pairs.
    """
    if not pairs:
        return []
    ours, theirs = (
        splits(setup)[split].gather(np.array(column))
        for split, column in zip(sides, zip(*pairs, strict=True), strict=True)
    )
    columns = (names[0], "target", names[1], "its target", *(more or {}))
    rows = [
        (
            int(a),
            described(ours[1], i),
            int(b),
            described(theirs[1], i),
            *(values[i] for values in (more or {}).values()),
        )
        for i, (a, b) in enumerate(pairs)
    ]
    return [
        Table(title=title, columns=columns, rows=rows),
        *_images(title, ours, theirs, pairs, names, list(input_kinds(setup).stored.values())),
    ]


def described(targets: Any, index: int) -> str:
    """The target of one example in a few characters."""
    leaves = [np.asarray(leaf)[index] for leaf in jax.tree.leaves(targets)]
    return "; ".join(np.array2string(np.ravel(leaf)[:4], precision=3).strip("[]") for leaf in leaves)


def _images(
    title: str, ours: Any, theirs: Any, pairs: Sequence[Pair], names: tuple[str, str], kinds: Sequence[InputKind]
) -> list[Evidence]:
    both = zip(jax.tree.leaves(ours[0]), jax.tree.leaves(theirs[0]), kinds, strict=True)
    for a, b in ((np.asarray(x), np.asarray(y)) for x, y, kind in both if drawable(np.asarray(x), kind)):
        shown = np.stack([a, b], axis=1).reshape(-1, *a.shape[1:])
        captions = [
            f"{names[side]} {pair[side]}: {described((ours, theirs)[side][1], i)}"
            for i, pair in enumerate(pairs)
            for side in (0, 1)
        ]
        low, high = span(shown)
        shown = shown.astype(np.float32)
        return [Images(title=f"{title}, in pairs", images=shown, captions=captions, low=low, high=high)]
    return []


def span(values: np.ndarray) -> tuple[float, float]:
    """The range from black to white: that of the finite values, never empty."""
    finite = np.asarray(values, np.float32)
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high if high > low else low + 1.0
