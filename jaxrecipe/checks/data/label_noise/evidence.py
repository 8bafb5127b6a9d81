"""What the check label_noise shows: suspicious labels surest first, the confident joint, residuals."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from jaxrecipe.checks.data.label_noise.confident_labels import Confident
from jaxrecipe.probes.kinds import drawable
from jaxrecipe.probes.pairs import span
from jaxrecipe.probes.questions import Question
from jaxrecipe.probes.samples import Sample
from jaxrecipe.report.evidence import Evidence, Histogram, Images, Matrix, Table

SHOWN = 16
"""Examples that are listed and shown."""
MOST_LABELS = 50
"""Labels up to which their matrix can be read."""


def suspects(
    train: Question,
    drawn: Sample,
    levels: Int[np.ndarray, "k"],
    learned: Confident,
    probability: Float[np.ndarray, "n k"],
    given: Int[np.ndarray, "n"],
) -> Iterator[Evidence]:
    """The labels that are most likely wrong, surest first, with their images."""
    shown = learned.suspects[:SHOWN]
    if not len(shown):
        return
    rows = [
        (
            int(drawn.indices[train.example[i]]),
            int(levels[given[i]]),
            int(levels[k]),
            float(probability[i, given[i]]),
            float(probability[i, k]),
        )
        for i, k in zip(shown, learned.true[:SHOWN], strict=True)
    ]
    columns = ("example", "given", "likely", "probability of given", "of likely")
    yield Table(title="Training labels that are most likely wrong", columns=columns, rows=rows)
    for path, leaf in train.inputs.items():
        if drawable(leaf, train.kinds[path]):
            images = leaf[shown].astype(np.float32)
            low, high = span(images)
            captions = [f"{example}: given {label}, likely {other}" for example, label, other, *_ in rows]
            title = "Training labels that are most likely wrong, images"
            yield Images(title=title, images=images, captions=captions, low=low, high=high)
            return


def confident_matrix(levels: Int[np.ndarray, "k"], learned: Confident) -> Iterator[Evidence]:
    """Given against likely labels."""
    if len(levels) <= MOST_LABELS:
        names = [str(level) for level in levels]
        yield Matrix(
            title="Given and likely true labels, by confident learning (off the diagonal: wrong)",
            values=learned.joint,
            row_label="given",
            column_label="likely true",
            row_names=names,
            column_names=names,
        )


def residual_histogram(residuals: Float[np.ndarray, "n"]) -> Evidence:
    """How far targets are from their predictions."""
    counts, edges = np.histogram(residuals, bins=40)
    return Histogram(
        title="Residuals of a simple predictor, each held out",
        edges=edges,
        counts={"training targets": counts},
        x_label="in typical residuals",
        log_y=True,
    )


def farthest_targets(
    train: Question, drawn: Sample, order: np.ndarray, predicted: np.ndarray, residuals: np.ndarray
) -> Evidence:
    """The targets that are farthest from their predictions."""
    rows = [
        (int(drawn.indices[train.example[i]]), float(train.values[i, 0]), float(predicted[i, 0]), float(residuals[i]))
        for i in order[:SHOWN]
    ]
    columns = ("example", "target", "predicted", "in typical residuals")
    return Table(title="Training targets farthest from their predictions", columns=columns, rows=rows)
