"""Sketches: their distances follow those of the examples."""

import numpy as np
import pytest

from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.sketches import WIDEST, pooled, shares_scale, sketch


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_pooling_takes_the_means_of_blocks() -> None:
    images = rng().random((3, 9, 16, 2))
    for i, a, b, c in np.ndindex(3, 9, 8, 2):
        assert pooled(images, 8)[i, a, b, c] == pytest.approx(images[i, a, 2 * b : 2 * b + 2, c].mean(), rel=1e-6)


def test_tokens_are_not_averaged() -> None:
    """Rows whose neighboring tokens are swapped have equal means of blocks, and are far apart as tokens."""
    tokens = rng().integers(0, 50, size=(40, 4, 32))
    swapped = tokens.reshape(40, 4, 16, 2)[..., ::-1].reshape(40, 4, 32)
    apart = np.square(sketch(tokens, "tokens") - sketch(swapped, "tokens")).sum(axis=1)
    assert apart.min() > 0.3 * 2 * 4 * 32
    assert np.array_equal(pooled(tokens, 8)[:, 0], pooled(swapped, 8)[:, 0])


@pytest.mark.parametrize(
    ("shape", "kind", "width", "shared"),
    [
        ((28, 28), "image", 81, True),
        ((64,), "table", 64, False),
        ((300,), "table", WIDEST, True),
        ((64, 8), "sequence", WIDEST, True),
        ((4, 16), "tokens", 64, True),
    ],
)
def test_how_wide_a_sketch_is(shape: tuple[int, ...], kind: InputKind, width: int, *, shared: bool) -> None:
    leaf = rng().integers(0, 100, size=(3, *shape))
    assert sketch(leaf, kind).shape == (3, width)
    assert shares_scale(leaf, kind) == shared


def test_projected_rows_keep_their_distances() -> None:
    rows = rng().normal(size=(30, 2000)).astype(np.float32)
    found = sketch(rows, "table")
    ratios = [
        np.linalg.norm(found[i] - found[j]) / np.linalg.norm(rows[i] - rows[j]) for i in range(30) for j in range(i)
    ]
    assert 0.8 < min(ratios) <= max(ratios) < 1.2
