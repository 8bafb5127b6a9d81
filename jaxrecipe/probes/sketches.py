"""A few numbers of each example whose distances follow those of the examples, so that near copies can be searched among
many.
"""

import numpy as np
from jaxtyping import Float32, UInt64

from jaxrecipe.inputs import InputKind

CELLS = 8
"""An image is sketched by the means of 8×8 cells: noise, recompression and small marks average out."""
WIDEST = 256
"""Numbers an example in the sketch of one leaf at most; longer ones are projected at random, which keeps distances."""


def sketch(leaf: np.ndarray, kind: InputKind) -> Float32[np.ndarray, "n d"]:
    """A few numbers of each example whose distances follow those of the examples; values that are not finite count as
    0.
    """
    if kind == "tokens":
        return _signs(leaf.reshape(len(leaf), -1))
    if np.iscomplexobj(leaf):
        leaf = np.stack([np.real(leaf), np.imag(leaf)], axis=-1)
    values = pooled(leaf, CELLS) if kind == "image" else leaf
    flat = np.nan_to_num(values.reshape(len(leaf), -1).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if flat.shape[1] <= WIDEST:
        return flat
    directions = np.random.default_rng(flat.shape[1]).normal(size=(flat.shape[1], WIDEST)).astype(np.float32)
    return flat @ (directions / np.float32(np.sqrt(WIDEST)))


def shares_scale(leaf: np.ndarray, kind: InputKind) -> bool:
    """Whether all the numbers of a sketch share one scale; those of a table have each their own."""
    return kind != "table" or int(np.prod(leaf.shape[1:])) > WIDEST


def pooled(leaf: np.ndarray, cells: int) -> np.ndarray:
    """Images `[n, h, w, ...]` as means of at most `cells`×`cells` blocks, `[n, ≤cells, ≤cells, ...]`; the rest is cut
    off.
    """
    high, wide = (max(1, size // cells) for size in leaf.shape[1:3])
    if high == wide == 1:
        return leaf
    rows, columns = leaf.shape[1] // high, leaf.shape[2] // wide
    cut = leaf[:, : rows * high, : columns * wide]
    blocks = cut.reshape(len(leaf), rows, high, columns, wide, *leaf.shape[3:])
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def _signs(tokens: np.ndarray) -> Float32[np.ndarray, "n 64"]:
    """Sum over the positions of 64 signs drawn from (position, token): squared distance grows with the positions that
    differ.
    """
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
