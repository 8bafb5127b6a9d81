"""What the check split_shift shows: scales, labels as predicted across the splits, mean images of both."""

from collections.abc import Mapping

import numpy as np

from jaxrecipe.checks.data.split_shift.label_maps import Relation
from jaxrecipe.checks.data.split_shift.scale import Scale
from jaxrecipe.probes.kinds import drawable
from jaxrecipe.probes.pairs import span
from jaxrecipe.probes.samples import Sample
from jaxrecipe.report.evidence import Evidence, Images, Matrix, Table

SHOWN = 8
"""Examples of each split that are shown."""
MOST_LABELS = 50
"""Labels up to which their matrix can be read."""


def scale_table(scales: Mapping[str, Scale]) -> list[Evidence]:
    """A table of means and spreads."""
    rows = [(path, *scale.means, *scale.spreads, scale.ratio, scale.shift) for path, scale in scales.items()]
    columns = ("input", "mean, train", "mean, test", "spread, train", "spread, test", "typical ratio", "typical shift")
    return [Table(title="Scale of the splits", columns=columns, rows=rows)] if rows else []


def label_matrices(related: list[Relation]) -> list[Evidence]:
    """Given against predicted test labels of each head with not too many labels."""
    found: list[Evidence] = []
    for one in related:
        if one.confusion is not None and one.levels is not None and len(one.levels) <= MOST_LABELS:
            names = [str(level) for level in one.levels]
            title = f"{one.name}: test labels" if one.name else "Test labels"
            found.append(
                Matrix(
                    title=f"{title} by a predictor fitted on the training split",
                    values=one.confusion,
                    row_label="predicted",
                    column_label="given",
                    row_names=names,
                    column_names=names,
                )
            )
    return found


def images_of_both(train: Sample, test: Sample) -> list[Evidence]:
    """The mean image of each split and some examples of both."""
    for path, leaf in train.inputs.items():
        if drawable(leaf, train.kinds[path]):
            other = test.inputs[path]
            means = [part.mean(axis=0, keepdims=True, dtype=np.float32) for part in (leaf, other)]
            shown = np.concatenate([*means, leaf[:SHOWN].astype(np.float32), other[:SHOWN].astype(np.float32)])
            captions = ["mean, train", "mean, test", *["train"] * len(leaf[:SHOWN]), *["test"] * len(other[:SHOWN])]
            low, high = span(shown)
            title = f"{path} of both splits, as the model gets it"
            return [Images(title=title, images=shown, captions=captions, low=low, high=high)]
    return []
