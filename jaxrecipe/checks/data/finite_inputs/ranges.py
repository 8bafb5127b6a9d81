"""The inputs of a split read once: what range each feature has, how large each example is, and which are not finite."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int

from jaxrecipe import trees
from jaxrecipe.data.sources import Source
from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.reading import chunks, real


@dataclass
class Scan:
    """What is kept of one input of one split.

    Attributes:
        path: the input.
        kind: what it is.
        dtype: as stored.
        shape: of one example.
        rows: the examples that were read.
        bad: those that hold NaN or infinity.
        low, high: of each feature over the finite examples, `[features]`; empty when there are none.
        sizes: the largest absolute value of each example, NaN where it is not finite.
    """

    path: str
    kind: InputKind
    dtype: np.dtype
    shape: tuple[int, ...]
    rows: Int[np.ndarray, "rows"]
    bad: list[int] = field(default_factory=list)
    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sizes: Float64[np.ndarray, "rows"] = field(default_factory=lambda: np.zeros(0))

    @property
    def finite(self) -> int:
        """How many examples are finite."""
        return len(self.rows) - len(self.bad)

    @property
    def constant(self) -> Bool[np.ndarray, "features"]:
        """Which features are the same in every example."""
        return np.asarray(self.low == self.high)

    @property
    def integer(self) -> bool:
        """Whether these are whole numbers or yes and no."""
        return self.dtype.kind in "iub"


def scans(source: Source, rows: Int[np.ndarray, "rows"], kinds: Mapping[str, InputKind]) -> dict[str, Scan]:
    """Every input of a split by path, over the given examples."""
    found: dict[str, Scan] = {}
    sizes: dict[str, list[np.ndarray]] = {}
    for part, (inputs, _) in chunks(source, rows):
        for path, leaf in trees.named_leaves(inputs).items():
            numbers = real(leaf)
            flat = numbers.reshape(len(part), -1)
            if not flat.shape[1]:
                continue
            scan = Scan(path or "inputs", kinds[path or "inputs"], np.dtype(leaf.dtype), numbers.shape[1:], rows)
            scan = found.setdefault(scan.path, scan)
            sizes.setdefault(scan.path, []).append(_take(scan, part, flat))
    for path, parts in sizes.items():
        found[path].sizes = np.concatenate(parts)
    return found


def _take(scan: Scan, part: Int[np.ndarray, "k"], flat: np.ndarray) -> Float64[np.ndarray, "k"]:
    """Take some examples into the scan; the largest absolute value of each."""
    with np.errstate(invalid="ignore"):
        ends = flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64)  # NaN goes through both
    finite = np.isfinite(ends[0]) & np.isfinite(ends[1])
    scan.bad += part[~finite].tolist()
    if finite.any():
        kept = flat if finite.all() else flat[finite]
        low, high = kept.min(axis=0), kept.max(axis=0)
        scan.low = np.minimum(scan.low, low) if scan.low.size else low
        scan.high = np.maximum(scan.high, high) if scan.high.size else high
    return np.where(finite, np.maximum(np.abs(ends[0]), np.abs(ends[1])), np.nan)
