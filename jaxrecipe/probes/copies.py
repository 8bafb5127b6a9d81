"""Which examples are copies of each other: hashes for equal ones, nearest neighbours of small sketches for nearly equal ones."""

import hashlib
import weakref
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt64

from jaxrecipe.data.sources import Source

PIECE_BYTES = 2**25
"""How much of a split is read at a time."""
CELLS = 8
"""A picture is sketched by the means of 8×8 cells: noise, recompression and small marks average out."""
WIDEST = 256
"""Numbers an example in the sketch of one leaf at most; longer ones are projected at random, which keeps distances."""
SEARCHED = 32
"""Dimensions in which neighbours are searched; what is found is measured in the whole sketch."""
MOST_PAIRS = 2_000_000_000
"""Pairs compared in one search (about 3 s on two cores); beyond it an evenly spread part of the examples is looked for."""
FEWEST = 50
"""Different examples below which distances say nothing of what is near."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What is kept of the examples of a split, in their order.

    Attributes:
        inputs: a hash of all the numbers of each example's inputs.
        targets: a hash of each example's targets.
        sketch: a few numbers of each example, alike for examples that are nearly alike.
        scales: which columns of the sketch share one scale (those of one picture do, those of a table do not).
        integers: whether the inputs are integers other than pictures (tokens, categories), where equal rows are natural.
    """

    inputs: UInt64[np.ndarray, "n"]
    targets: UInt64[np.ndarray, "n"]
    sketch: Float32[np.ndarray, "n d"]
    scales: Int[np.ndarray, "d"]
    integers: bool


_READ: "weakref.WeakKeyDictionary[Source, Rows]" = weakref.WeakKeyDictionary()


def rows_of(source: Source) -> Rows:
    """Hashes and sketches of all the examples of a split, as they are stored; each source is read once, piece by piece."""
    if source not in _READ:
        _READ[source] = _read(source)
    return _READ[source]


def _read(source: Source) -> Rows:
    inputs, targets, sketches = [], [], []
    first = source.gather(np.zeros(1, np.int64))
    step = max(1, min(4096, PIECE_BYTES // max(1, sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(first)))))
    for start in range(0, source.size, step):
        x, y = source.gather(np.arange(start, min(start + step, source.size)))
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
        inputs.append(hashes(leaves))
        targets.append(hashes([np.asarray(leaf) for leaf in jax.tree.leaves(y)], count=len(leaves[0])))
        sketches.append(np.concatenate([sketch(leaf) for leaf in leaves], axis=1))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(first[0])]
    scales, used = [], 0
    for leaf in leaves:
        width = sketch(leaf).shape[1]
        shared = is_picture(leaf) or is_sequence(leaf) or leaf[0].size > WIDEST
        scales.append(np.full(width, used) if shared else used + np.arange(width))
        used += width
    return Rows(
        inputs=np.concatenate(inputs),
        targets=np.concatenate(targets),
        sketch=np.concatenate(sketches),
        scales=np.concatenate(scales),
        integers=all(is_integer(leaf) and not is_picture(leaf) for leaf in leaves),
    )


def hashes(leaves: list[np.ndarray], *, count: int | None = None) -> UInt64[np.ndarray, "n"]:
    """64 bits for each example from the bytes of all its leaves; equal examples (and 0.0 and -0.0) give equal hashes."""
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


def is_integer(leaf: np.ndarray) -> bool:
    """Whether a leaf holds whole numbers or yes and no."""
    return leaf.dtype.kind in "iub"


def is_picture(leaf: np.ndarray) -> bool:
    """Whether a leaf `[n, ...]` looks like pictures: height and width of 4 or more, then 1 to 4 channels or none."""
    channels_fit = leaf.ndim == 3 or (leaf.ndim == 4 and leaf.shape[-1] <= 4)
    return channels_fit and min(leaf.shape[1:3]) >= 4


def is_sequence(leaf: np.ndarray) -> bool:
    """Whether a leaf looks like tokens: 16 or more integers an example, not bytes of a picture."""
    return (
        is_integer(leaf)
        and leaf.dtype.kind != "b"
        and not is_picture(leaf)
        and leaf.dtype != np.uint8
        and leaf[0].size >= 16
    )


def sketch(leaf: np.ndarray) -> Float32[np.ndarray, "n d"]:
    """A few numbers of each example whose distances follow those of the examples; values that are not finite count as 0."""
    if is_sequence(leaf):
        return _signs(leaf.reshape(len(leaf), -1))
    if np.iscomplexobj(leaf):
        leaf = np.stack([np.real(leaf), np.imag(leaf)], axis=-1)
    values = pooled(leaf, CELLS) if is_picture(leaf) else leaf
    flat = np.nan_to_num(values.reshape(len(leaf), -1).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if flat.shape[1] <= WIDEST:
        return flat
    directions = np.random.default_rng(flat.shape[1]).normal(size=(flat.shape[1], WIDEST)).astype(np.float32)
    return flat @ (directions / np.float32(np.sqrt(WIDEST)))


def pooled(leaf: np.ndarray, cells: int) -> np.ndarray:
    """Pictures `[n, h, w, ...]` as means of at most `cells`×`cells` blocks, `[n, ≤cells, ≤cells, ...]`; the rest is cut off."""
    high, wide = (max(1, size // cells) for size in leaf.shape[1:3])
    if high == wide == 1:
        return leaf
    rows, columns = leaf.shape[1] // high, leaf.shape[2] // wide
    cut = leaf[:, : rows * high, : columns * wide]
    blocks = cut.reshape(len(leaf), rows, high, columns, wide, *leaf.shape[3:])
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def _signs(tokens: np.ndarray) -> Float32[np.ndarray, "n 64"]:
    """Sum over the positions of 64 signs drawn from (position, token): squared distance grows with the positions that differ."""
    total = np.zeros((len(tokens), 64), np.float32)
    shifts = np.arange(64, dtype=np.uint64)
    for position in range(tokens.shape[1]):
        bits = _mixed(tokens[:, position].astype(np.int64).view(np.uint64) + np.uint64(position) * np.uint64(2**40))
        total += ((bits[:, None] >> shifts) & np.uint64(1)).astype(np.float32) * 2 - 1
    return total


def _mixed(values: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Scatter 64-bit numbers (multiply and shift), so that each bit depends on all bits."""
    for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F):
        values = values * np.uint64(factor)
        values = values ^ (values >> np.uint64(32))
    return values


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

    For a table of a few categories it is large and equal rows are natural; for pictures or continuous numbers it is next to zero.
    At most 256 numbers of an example are looked at, evenly spread, which can only make it larger.
    """
    flat = np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1)
    columns = flat[:, np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], WIDEST)).astype(int)]
    logs = []
    for column in columns.T:
        _, counts = np.unique(column, return_counts=True)
        pairs = (counts * (counts - 1.0)).sum() / max(len(column) * (len(column) - 1.0), 1.0)
        logs.append(np.log(max(pairs, 1.0 / max(len(column), 1) ** 2)))
    return float(np.exp(np.sum(logs)))


@dataclass(frozen=True)
class Near:
    """The nearest neighbour of each query among different rows.

    Attributes:
        found: whether it is a near copy: much nearer than the tenth neighbour, more than chance explains.
        index: the neighbour's index among the references; -1 where none was measured.
        ratio: its distance as a share of the distance of the tenth neighbour; 1 where it was not measured.
        dimension: how many directions the examples vary in around each other (estimated from the fifth and tenth neighbours).
        limit: the ratio below which a neighbour counts as a near copy.
    """

    found: Bool[np.ndarray, "queries"]
    index: Int[np.ndarray, "queries"]
    ratio: Float[np.ndarray, "queries"]
    dimension: float
    limit: float


NTH = 10


def near_copies(
    queries: Float32[np.ndarray, "q d"],
    references: Float32[np.ndarray, "n d"],
    *,
    own: Int[np.ndarray, "q"] | None = None,
    most: float = 0.2,
) -> Near | None:
    """Find rows that are far nearer to another one than their surroundings explain.

    Around a point of a smooth cloud in D dimensions the nearest of ten neighbours is closer than a share t of the tenth's distance with
    probability 1 - (1 - t^D)^9. The limit is the t at which one such pair in a hundred searches is expected by chance (D estimated from the
    median ratio of the fifth and tenth neighbours, which single copies do not touch), and at most `most`.

    Args:
        queries: rows to look for, scaled by `on_one_scale`.
        references: rows to look among.
        own: the place of each query among the references where it is one of them, since a row is no neighbour of itself.
        most: a near copy is at least this many times nearer than the tenth neighbour.

    Returns:
        None where there are too few rows to say what is near.
    """
    if len(references) < FEWEST or references.shape[1] == 0 or not len(queries):
        return None
    index, distance = nearest(queries, references, own=own)
    fifth, tenth = _fifth_and_tenth(
        queries, references, np.linspace(0, len(queries) - 1, min(len(queries), 500)).astype(int)
    )
    spread = np.median(fifth[tenth > 0] / tenth[tenth > 0]) if (tenth > 0).any() else 1.0
    dimension = float(np.log(0.5) / np.log(np.clip(spread, 1e-3, 0.999)))
    limit = float(min(most, (0.01 / (9.0 * len(queries))) ** (1.0 / dimension)))
    candidates = np.flatnonzero(distance < most * np.median(tenth) * 2.0)
    candidates = candidates[np.argsort(distance[candidates], kind="stable")[:4000]]
    ratio = np.ones(len(queries))
    _, tenths = _fifth_and_tenth(queries, references, candidates)
    ratio[candidates] = np.where(tenths > 0, distance[candidates] / np.maximum(tenths, 1e-30), 1.0)
    return Near(ratio < limit, index, ratio, dimension, limit)


def nearest(
    queries: Float32[np.ndarray, "q d"],
    references: Float32[np.ndarray, "n d"],
    *,
    own: Int[np.ndarray, "q"] | None = None,
) -> tuple[Int[np.ndarray, "q"], Float[np.ndarray, "q"]]:
    """Index and distance of the nearest reference of each query, other than the one at `own`.

    Searched in the directions in which the references vary most, by blocks of a matrix product; the distance is measured between whole rows.
    """
    axes = _main_axes(references)
    q, r = (np.ascontiguousarray((rows - references.mean(axis=0)) @ axes) for rows in (queries, references))
    right = np.concatenate([r, np.square(r).sum(axis=1, keepdims=True)], axis=1).T
    left = np.concatenate([-2.0 * q, np.ones((len(q), 1), np.float32)], axis=1).astype(np.float32)
    best, index = np.full(len(q), np.inf, np.float32), np.full(len(q), -1)
    space = np.empty(
        512 * 4096, np.float32
    )  # written again for every block: new memory for each takes longer than the product
    for start in range(0, len(q), 512):
        rows = slice(start, start + 512)
        for column in range(0, len(r), 4096):
            high, wide = len(left[rows]), len(right[0, column : column + 4096])
            block = space[: high * wide].reshape(high, wide)
            np.matmul(left[rows], right[:, column : column + 4096], out=block)
            if own is not None:
                place = own[rows] - column
                inside = (place >= 0) & (place < wide)
                block[np.flatnonzero(inside), place[inside]] = np.inf
            where = block.argmin(axis=1)
            value = block[np.arange(len(where)), where]
            better = value < best[rows]
            best[rows] = np.where(better, value, best[rows])
            index[rows] = np.where(better, where + column, index[rows])
    return index, np.linalg.norm((queries - references[index]).astype(np.float64), axis=1)


def _main_axes(references: Float32[np.ndarray, "n d"]) -> np.ndarray:
    """Up to 32 directions of largest variance, `[d, 32]`; all of them for narrow rows."""
    width = references.shape[1]
    if width <= SEARCHED + 16:
        return np.eye(width, dtype=np.float32)
    part = references[:: max(1, len(references) // 4000)].astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(part, rowvar=False))
    return vectors[:, -SEARCHED:].astype(np.float32)


def _fifth_and_tenth(queries: np.ndarray, references: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the fifth and the tenth different row around each of the chosen queries."""
    centre = references.mean(axis=0)
    r = references - centre
    squares = np.square(r).sum(axis=1)
    fifth, tenth = np.empty(len(chosen)), np.empty(len(chosen))
    for start in range(0, len(chosen), 256):
        q = queries[chosen[start : start + 256]] - centre
        block = squares - 2.0 * (q @ r.T) + np.square(q).sum(axis=1, keepdims=True)
        ranked = np.partition(block, (5, NTH), axis=1)
        fifth[start : start + len(q)] = np.sqrt(np.maximum(ranked[:, 5], 0.0))
        tenth[start : start + len(q)] = np.sqrt(np.maximum(ranked[:, NTH], 0.0))
    return fifth, tenth


def looked_for(queries: int, references: int) -> Int[np.ndarray, "q"]:
    """Which of so many queries to look for among so many references: all, or evenly spread ones up to `MOST_PAIRS` pairs."""
    return np.linspace(0, queries - 1, max(1, min(queries, MOST_PAIRS // max(references, 1)))).astype(int)


def on_one_scale(rows: Rows, *others: Rows) -> list[Float32[np.ndarray, "_ d"]]:
    """The sketches with every group of columns divided by its standard deviation in `rows`; constant groups are left out."""
    variance = rows.sketch.var(axis=0, dtype=np.float64)
    of_group = np.bincount(rows.scales, weights=variance) / np.maximum(np.bincount(rows.scales), 1)
    scale = np.sqrt(of_group[rows.scales])
    kept = scale > 0
    return [(each.sketch[:, kept] / scale[kept].astype(np.float32)).astype(np.float32) for each in (rows, *others)]
