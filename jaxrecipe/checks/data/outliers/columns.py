"""One attribute of the examples of a split, with what it may be and who is beyond."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from jaxrecipe.checks.data.outliers.attributes import attributes
from jaxrecipe.checks.data.outliers.tails import Bounds, bounds
from jaxrecipe.data.sources import Source
from jaxrecipe.probes.kinds import input_kinds
from jaxrecipe.probes.multiple_tests import chance_of_each
from jaxrecipe.probes.reading import readable_rows, splits
from jaxrecipe.setup import Setup, Split


@dataclass(frozen=True)
class Column:
    """One attribute of one split: its values, the examples that they belong to, and what they may be."""

    split: Split
    name: str
    rows: Int[np.ndarray, "n"]
    values: Float64[np.ndarray, "n"]
    bounds: Bounds

    @property
    def attribute(self) -> str:
        """What was computed ("brightness"), without the input that it belongs to."""
        return self.name.rsplit(": ", 1)[-1]

    @property
    def median(self) -> float:
        """The median; NaN where there is no number."""
        finite = self.values[np.isfinite(self.values)]
        return float(np.median(finite)) if finite.size else float("nan")

    @property
    def distance(self) -> Float64[np.ndarray, "n"]:
        """How far out each example is: 1 at the bound on its side, 0 at the median or where there is no bound."""
        apart = self.values - self.median
        reach = np.where(apart > 0, self.bounds.high - self.median, self.median - self.bounds.low)
        return np.nan_to_num(np.abs(apart) / np.maximum(reach, 1e-30), posinf=0.0)

    @property
    def outliers(self) -> Int[np.ndarray, "k"]:
        """Places of the examples beyond the bounds, the farthest first."""
        distance = self.distance
        beyond = np.flatnonzero(distance > 1)
        return beyond[np.argsort(-distance[beyond], kind="stable")]


def read_columns(setup: Setup, chance: float) -> list[Column]:
    """Every attribute of every split; `chance` is shared among all of them (Bonferroni)."""
    sources: Mapping[Split, Source] = splits(setup)
    rows: dict[Split, np.ndarray] = {split: readable_rows(setup, split) for split in sources}
    kinds = input_kinds(setup).stored
    found: dict[Split, dict[str, np.ndarray]] = {
        split: attributes(source, setup.task.target, rows[split], kinds) for split, source in sources.items()
    }
    each = chance_of_each(chance, sum(map(len, found.values())))
    return [
        Column(split, name, rows[split], values, bounds(values, each))
        for split, several in found.items()
        for name, values in several.items()
    ]


def extremes(columns: list[Column], each: int) -> list[tuple[Column, int]]:
    """Of every attribute the examples farthest out, on both sides, the farthest of all first; each example once."""
    ends = []
    for column in columns:
        order = np.argsort(np.where(np.isfinite(column.values), column.values, column.median), kind="stable")
        distance = column.distance
        ends += [(float(distance[place]), column, int(place)) for place in (*order[:each], *order[::-1][:each])]
    ends.sort(key=lambda end: -end[0])
    seen: dict[tuple[str, int], tuple[Column, int]] = {}
    for _, column, place in ends:
        seen.setdefault((column.split, int(column.rows[place])), (column, place))
    return list(seen.values())
