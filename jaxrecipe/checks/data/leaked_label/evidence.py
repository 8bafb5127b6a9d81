"""What the check leaked_label shows: the numbers that tell most, and where in an image they are."""

import numpy as np

from jaxrecipe.checks.data.leaked_label.single_features import SingleFeatures, place_name
from jaxrecipe.checks.data.leaked_label.suspects import one_an_example
from jaxrecipe.probes.questions import Question
from jaxrecipe.report.evidence import Evidence, Matrix, Table

SHOWN = 12
"""Numbers that the table lists."""


def feature_evidence(where: str, head: Question, single: SingleFeatures) -> list[Evidence]:
    """A table of the numbers that tell most, and for images a map of how much each pixel varies with the label."""
    what = "wrong, alone" if head.classes else "unexplained, alone"
    ranked = zip(single.places, single.errors, single.between, single.levels, strict=True)
    rows = [
        (place_name(head.inputs, int(place)), float(error), float(between), int(levels))
        for place, error, between, levels in list(ranked)[:SHOWN]
    ]
    columns = ("number", what, "variance between labels", "different values")
    title = f"{where}numbers that tell most alone"
    found: list[Evidence] = [Table(title=title[:1].upper() + title[1:], columns=columns, rows=rows)]
    start = 0
    for path, leaf in head.inputs.items():
        size = int(np.prod(leaf.shape[1:]))
        if head.kinds[path] == "image" and one_an_example(head):
            values = single.map[start : start + size].reshape(*leaf.shape[1:3], -1).max(axis=2)
            title = f"{where}how much each pixel of {path} varies with the label"
            found.append(Matrix(title=title, values=values, row_label="row", column_label="column"))
        start += size
    return found
