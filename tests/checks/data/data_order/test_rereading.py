"""Items that do not follow their index, alone, in bulk or the second time."""

import numpy as np
import pytest

from jaxrecipe.checks.data.data_order.rereading import rereading_findings
from jaxrecipe.data.sources import Source, as_source

X = np.arange(80.0, dtype=np.float32).reshape(40, 2)
Y = np.arange(40, dtype=np.int32)


def items(source: str) -> Source:
    if source == "arrays":
        return as_source((X, Y))
    rng = np.random.default_rng(0)

    class Items:
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            x = X[index] + (rng.random() if source == "random inputs" else 0)
            return np.where(index == 0, np.nan, x).astype(np.float32), Y[
                rng.integers(40) if "targets" in source else index
            ]

    return as_source(Items())


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("arrays", []),
        ("items with NaN", []),
        ("random inputs", ["data/random-reader"]),
        ("random targets", ["data/misaligned-targets"]),
    ],
)
def test_items_follow_their_index(source: str, codes: list[str]) -> None:
    assert [one.code for one in rereading_findings(items(source))] == codes
