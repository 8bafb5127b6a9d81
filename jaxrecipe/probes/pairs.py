"""Pairs of examples as evidence: a table with their places and targets, and their pictures side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrecipe.data.sources import Source
from jaxrecipe.probes.copies import is_picture
from jaxrecipe.report.result import Evidence, Images, Table

Pair = tuple[int, int]


def shown_pairs(
    title: str,
    left: Source,
    right: Source,
    pairs: Sequence[Pair],
    more: Mapping[str, Sequence[float]] | None = None,
    *,
    names: tuple[str, str] = ("example", "and"),
) -> list[Evidence]:
    """A table of pairs (an index into each source), with their targets, and the first pictures among the inputs in pairs."""
    if not pairs:
        return []
    ours, theirs = (
        source.gather(np.array(column)) for source, column in zip((left, right), zip(*pairs, strict=True), strict=True)
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
    return [Table(title=title, columns=columns, rows=rows), *_pictures(title, ours, theirs, pairs, names)]


def described(targets: Any, index: int) -> str:
    """The target of one example in a few characters."""
    leaves = [np.asarray(leaf)[index] for leaf in jax.tree.leaves(targets)]
    return "; ".join(np.array2string(np.ravel(leaf)[:4], precision=3).strip("[]") for leaf in leaves)


def _pictures(title: str, ours: Any, theirs: Any, pairs: Sequence[Pair], names: tuple[str, str]) -> list[Evidence]:
    both = zip(jax.tree.leaves(ours[0]), jax.tree.leaves(theirs[0]), strict=True)
    for a, b in ((np.asarray(x), np.asarray(y)) for x, y in both):
        if is_picture(a) and a.shape[-1] != 2:
            shown = np.stack([a, b], axis=1).reshape(-1, *a.shape[1:])
            captions = [
                f"{names[side]} {pair[side]}: {described((ours, theirs)[side][1], i)}"
                for i, pair in enumerate(pairs)
                for side in (0, 1)
            ]
            low, high = span(shown)
            return [
                Images(
                    title=f"{title}, in pairs", images=shown.astype(np.float32), captions=captions, low=low, high=high
                )
            ]
    return []


def span(values: np.ndarray) -> tuple[float, float]:
    """The range from black to white: that of the finite values, never empty."""
    finite = np.asarray(values, np.float32)
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high if high > low else low + 1.0
