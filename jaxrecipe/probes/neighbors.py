"""Nearest neighbors among many sketches, and which of them are near copies."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from jaxrecipe.probes.fingerprints import Fingerprints

SEARCHED = 32
"""Dimensions in which neighbors are searched; what is found is measured in the whole sketch."""
MOST_PAIRS = 2_000_000_000
"""Pairs compared in one search (about 3 s on two cores); beyond it an evenly spread part of the examples is looked
for."""
TREE_WIDTH = 12
"""Dimensions up to which a tree is quicker than comparing all pairs."""
BLOCK_ROWS, BLOCK_COLUMNS, BLOCKS = 60, 128, 32
"""Size of one product, and how many are computed in one call: OpenBLAS leaves up to 2^18 multiplications to one
thread, here at most 60·128·33."""
SURROUNDINGS = 500
"""Rows whose surroundings say how far apart rows are."""
SLACK = 2.0
"""Surroundings differ by less than this factor: what is farther than that much of the limit is no near copy."""
MOST_CANDIDATES = 4000
"""Nearest pairs that are measured against their surroundings at most."""
FEWEST = 50
"""Different examples below which distances say nothing of what is near."""


@dataclass(frozen=True)
class Near:
    """The nearest neighbor of each query among different rows.

    Attributes:
        found: whether it is a near copy: much nearer than the tenth neighbor, more than chance explains.
        index: the neighbor's index among the references; -1 where none was measured.
        ratio: its distance as a share of the distance of the tenth neighbor; 1 where it was not measured.
        dimension: how many directions the examples vary in around each other (estimated from the fifth and tenth
            neighbors).
        limit: the ratio below which a neighbor counts as a near copy.
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

    Around a point of a smooth cloud in D dimensions the nearest of ten neighbors is closer than a share t of the
    tenth's distance with probability 1 - (1 - t^D)^9. The limit is the t at which one such pair in a hundred searches
    is expected by chance (D estimated from the median ratio of the fifth and tenth neighbors, which single copies do
    not touch), and at most `most`.

    Args:
        queries: rows to look for, scaled by `on_one_scale`.
        references: rows to look among.
        own: the place of each query among the references where it is one of them, since a row is no neighbor of itself.
        most: a near copy is at least this many times nearer than the tenth neighbor.

    Returns:
        None where there are too few rows to say what is near.
    """
    if len(references) < FEWEST or references.shape[1] == 0 or not len(queries):
        return None
    sample = np.linspace(0, len(queries) - 1, min(len(queries), SURROUNDINGS)).astype(int)
    fifth, tenth = _fifth_and_tenth(queries, references, sample)
    spread = np.median(fifth[tenth > 0] / tenth[tenth > 0]) if (tenth > 0).any() else 1.0
    dimension = float(np.log(0.5) / np.log(np.clip(spread, 1e-3, 0.999)))
    limit = float(min(most, (0.01 / (9.0 * len(queries))) ** (1.0 / dimension)))
    index, distance = nearest(queries, references, own=own, within=SLACK * most * float(np.median(tenth)))
    candidates = np.flatnonzero(np.isfinite(distance))
    candidates = candidates[np.argsort(distance[candidates], kind="stable")[:MOST_CANDIDATES]]
    ratio = np.ones(len(queries))
    _, tenths = _fifth_and_tenth(queries, references, candidates)
    ratio[candidates] = np.where(tenths > 0, distance[candidates] / np.maximum(tenths, 1e-30), 1.0)
    return Near(ratio < limit, index, ratio, dimension, limit)


def nearest(
    queries: Float32[np.ndarray, "q d"],
    references: Float32[np.ndarray, "n d"],
    *,
    own: Int[np.ndarray, "q"] | None = None,
    within: float = np.inf,
) -> tuple[Int[np.ndarray, "q"], Float[np.ndarray, "q"]]:
    """Index and distance of the nearest reference of each query, other than the one at `own`; -1 and infinity where
    none is nearer than `within`.

    Searched in the directions in which the references vary most; the distance is measured between whole rows.
    """
    axes = _main_axes(references)
    q, r = (np.ascontiguousarray((rows - references.mean(axis=0)) @ axes) for rows in (queries, references))
    index = _nearest_by_tree(q, r, own, within) if r.shape[1] <= TREE_WIDTH else _nearest_by_products(q, r, own)
    distance = np.full(len(q), np.inf)
    found = np.flatnonzero(index >= 0)
    distance[found] = np.linalg.norm((queries[found] - references[index[found]]).astype(np.float64), axis=1)
    near = distance < within
    return np.where(near, index, -1), np.where(near, distance, np.inf)


def _nearest_by_tree(
    queries: np.ndarray, references: np.ndarray, own: Int[np.ndarray, "q"] | None, within: float
) -> Int[np.ndarray, "q"]:
    """The nearest reference by a tree that leaves out what is farther than `within`; -1 where there is none."""
    from scipy.spatial import KDTree

    _, index = KDTree(references).query(queries, k=2, distance_upper_bound=within)
    index = np.where(index < len(references), index, -1)  # the tree says n for none
    if own is None:
        return index[:, 0]
    return np.where(index[:, 0] == own, index[:, 1], index[:, 0])


def _nearest_by_products(
    queries: np.ndarray, references: np.ndarray, own: Int[np.ndarray, "q"] | None
) -> Int[np.ndarray, "q"]:
    """The nearest reference by blocks of matrix products, each so small that it is computed by one thread.

    Larger products wake a second thread, which then waits at full speed while numpy looks for the least number.
    """
    right = np.concatenate([references, np.square(references).sum(axis=1, keepdims=True)], axis=1)
    count = -(-len(right) // BLOCK_COLUMNS)
    filled = np.zeros((count * BLOCK_COLUMNS, right.shape[1]), np.float32)
    filled[: len(right)] = right
    filled[len(right) :, -1] = np.inf  # infinitely far
    blocks = np.ascontiguousarray(filled.reshape(count, BLOCK_COLUMNS, -1).transpose(0, 2, 1))
    left = np.concatenate([-2.0 * queries, np.ones((len(queries), 1), np.float32)], axis=1).astype(np.float32)
    best, index = np.full(len(left), np.inf, np.float32), np.full(len(left), -1)
    for start in range(0, len(left), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for block in range(0, count, BLOCKS):
            products = np.matmul(left[rows], blocks[block : block + BLOCKS])
            table = products.transpose(1, 0, 2).reshape(products.shape[1], -1)
            if own is not None:
                place = own[rows] - block * BLOCK_COLUMNS
                inside = (place >= 0) & (place < table.shape[1])
                table[np.flatnonzero(inside), place[inside]] = np.inf
            where = table.argmin(axis=1)
            value = table[np.arange(len(where)), where]
            better = value < best[rows]
            best[rows] = np.where(better, value, best[rows])
            index[rows] = np.where(better, where + block * BLOCK_COLUMNS, index[rows])
    return index


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
    """Which of so many queries to look for among so many references: all, or evenly spread ones up to `MOST_PAIRS`
    pairs.
    """
    return np.linspace(0, queries - 1, max(1, min(queries, MOST_PAIRS // max(references, 1)))).astype(int)


def on_one_scale(rows: Fingerprints, *others: Fingerprints) -> list[Float32[np.ndarray, "_ d"]]:
    """The sketches with every group of columns divided by its standard deviation in `rows`; constant groups are left
    out.
    """
    variance = rows.sketch.var(axis=0, dtype=np.float64)
    of_group = np.bincount(rows.scales, weights=variance) / np.maximum(np.bincount(rows.scales), 1)
    scale = np.sqrt(of_group[rows.scales])
    kept = scale > 0
    return [(each.sketch[:, kept] / scale[kept].astype(np.float32)).astype(np.float32) for each in (rows, *others)]
