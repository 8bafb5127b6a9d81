"""Hashes and sketches of the examples of a split: which are equal, and what near copies are searched by."""

import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int, UInt64

from jaxrecipe.data.sources import Source
from jaxrecipe.probes.kinds import input_kinds
from jaxrecipe.probes.reading import splits
from jaxrecipe.probes.sketches import WIDEST, shares_scale, sketch
from jaxrecipe.setup import Setup, Split

PIECE_BYTES = 2**25
"""How much of a split is read at a time."""
COUNTED = 1000
"""Examples from which the frequencies of single numbers are estimated."""


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What is kept of the examples of a split, in their order.

    Attributes:
        inputs: a hash of all the numbers of each example's inputs.
        targets: a hash of each example's targets.
        sketch: a few numbers of each example, alike for examples that are nearly alike.
        scales: which columns of the sketch share one scale (those of one image do, those of a table do not).
        integers: whether the inputs are integers other than images (tokens, categories), where equal rows are natural.
    """

    inputs: UInt64[np.ndarray, "n"]
    targets: UInt64[np.ndarray, "n"]
    sketch: Float32[np.ndarray, "n d"]
    scales: Int[np.ndarray, "d"]
    integers: bool


def fingerprints(setup: Setup, split: Split) -> Fingerprints:
    """Hashes and sketches of all the examples of a split, as they are stored; read once, piece by piece."""
    return setup.memo((fingerprints, split), lambda: _read(setup, split))


def _read(setup: Setup, split: Split) -> Fingerprints:
    source, kinds = splits(setup)[split], list(input_kinds(setup).stored.values())
    inputs, targets, sketches = [], [], []
    first = source.gather(np.zeros(1, np.int64))
    step = max(1, min(4096, PIECE_BYTES // max(1, sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first)))))
    for start in range(0, source.size, step):
        x, y = source.gather(np.arange(start, min(start + step, source.size)))
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
        inputs.append(hashes(leaves))
        targets.append(hashes([np.asarray(leaf) for leaf in jax.tree.leaves(y)], count=len(leaves[0])))
        sketches.append(np.concatenate([sketch(leaf, kind) for leaf, kind in zip(leaves, kinds, strict=True)], axis=1))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(first[0])]
    scales, used = [], 0
    for leaf, kind in zip(leaves, kinds, strict=True):
        width = sketch(leaf, kind).shape[1]
        scales.append(np.full(width, used) if shares_scale(leaf, kind) else used + np.arange(width))
        used += width
    return Fingerprints(
        inputs=np.concatenate(inputs),
        targets=np.concatenate(targets),
        sketch=np.concatenate(sketches),
        scales=np.concatenate(scales),
        integers=all(leaf.dtype.kind in "iub" and kind != "image" for leaf, kind in zip(leaves, kinds, strict=True)),
    )


def hashes(leaves: list[np.ndarray], *, count: int | None = None) -> UInt64[np.ndarray, "n"]:
    """64 bits for each example from the bytes of all its leaves; equal examples (and 0.0 and -0.0) give equal
    hashes.
    """
    if not leaves:
        return np.zeros(count or 0, np.uint64)
    rows = [_bytes(leaf) for leaf in leaves]
    joined = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(joined))
    return np.frombuffer(digests, np.uint64)


def _bytes(leaf: np.ndarray) -> np.ndarray:
    flat = leaf.reshape(len(leaf), -1)
    flat = flat + flat.dtype.type(0) if np.issubdtype(flat.dtype, np.inexact) else flat
    return np.ascontiguousarray(flat).view(np.uint8).reshape(len(leaf), -1)


@dataclass(frozen=True)
class Groups:
    """Equal rows.

    Attributes:
        group: the number of the group that each row belongs to.
        sizes: how many rows each group has.
    """

    group: Int[np.ndarray, "n"]
    sizes: Int[np.ndarray, "groups"]

    @property
    def repeated(self) -> Bool[np.ndarray, "n"]:
        """Whether a row has an equal one elsewhere."""
        return self.sizes[self.group] > 1


def groups_of(hashed: UInt64[np.ndarray, "n"]) -> Groups:
    """Rows gathered by equal hash."""
    _, group, sizes = np.unique(hashed, return_inverse=True, return_counts=True)
    return Groups(group.reshape(-1), sizes)


def chance_of_equal_rows(leaves: list[Any]) -> float:
    """Probability that two examples are equal if their numbers were independent of each other.

    For a table of a few categories it is large and equal rows are natural; for pictures or continuous numbers it is
    next to zero. At most 256 numbers of an example are looked at, evenly spread, which can only make it larger.
    """
    flat = np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1)
    columns = flat[:, np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], WIDEST)).astype(int)]
    logs = []
    for column in columns.T:
        _, counts = np.unique(column, return_counts=True)
        pairs = (counts * (counts - 1.0)).sum() / max(len(column) * (len(column) - 1.0), 1.0)
        logs.append(np.log(max(pairs, 1.0 / max(len(column), 1) ** 2)))
    return float(np.exp(np.sum(logs)))


def chance_of_equal_examples(source: Source) -> float:
    """Share of a split's examples that would have an equal one in it if the numbers of an example were independent."""
    part = np.linspace(0, source.size - 1, min(source.size, COUNTED)).astype(int)
    one = chance_of_equal_rows(jax.tree.leaves(source.gather(part)[0]))
    return float(-np.expm1(-source.size * one))
