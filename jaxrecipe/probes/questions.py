"""What the declared heads ask to predict for the examples of a sample, in a form that simple predictors take."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jaxrecipe.inputs import InputKind, are_names
from jaxrecipe.probes.heads import heads_with_arrays
from jaxrecipe.probes.samples import Sample
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Target, Tokens, Unspecified, Values

MOST_COLUMNS = 16
"""Columns of a target that are predicted one by one; more are a reconstruction, which is another question."""
WINDOW = 2
"""Places on either side of a position whose inputs are shown to predict its label."""


@dataclass(frozen=True)
class Question:
    """One thing to predict for each example.

    Attributes:
        name: the path of the head, "" for a single target; with the label's number where the head has several.
        target: what is declared.
        values: `[n]` integer labels, or `[n, columns]` float64 values.
        classes: whether the values are labels.
        inputs: the inputs that belong to them: those of the sample, or of its positions where the target has one value
            a position.
        kinds: what each of the inputs is.
        example: which example of the sample each value belongs to.
    """

    name: str
    target: Target
    values: np.ndarray
    classes: bool
    inputs: dict[str, np.ndarray]
    kinds: Mapping[str, InputKind]
    example: Int[np.ndarray, "n"]

    def of(self, kept: np.ndarray) -> "Question":
        """The same for some of the values, given by index or by yes and no."""
        inputs = {path: leaf[kept] for path, leaf in self.inputs.items()}
        return Question(self.name, self.target, self.values[kept], self.classes, inputs, self.kinds, self.example[kept])


def questions(setup: Setup, drawn: Sample, *, positions: int = 4000) -> list[Question]:
    """What each declared head asks to predict; dense labels (segmentation, tokens) at some positions of each example.

    Reconstructions, undeclared targets and dense targets that no input lines up with are left out.
    """
    found: list[Question] = []
    everyone = np.arange(len(drawn.indices))

    def asked(name: str, target: Target, values: np.ndarray, *, classes: bool) -> Question:
        return Question(name, target, values, classes, drawn.inputs, drawn.kinds, everyone)

    for head in heads_with_arrays(setup.task.target, drawn.targets):
        name, target, leaf = head.path, head.target, head.targets
        if isinstance(target, Unspecified):
            continue
        if isinstance(target, Values):
            columns = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
            if columns.shape[1] <= MOST_COLUMNS:
                one = asked(name, target, columns, classes=False)
                finite = np.asarray(
                    np.isfinite(columns).all(axis=1)
                )  # what others are missing is another check's question
                found.append(one if finite.all() else one.of(finite))
        elif isinstance(target, MultiLabel):
            columns = (np.asarray(leaf, np.float64).reshape(len(leaf), -1) > 0.5).astype(np.int64)
            found += [
                asked(f"{name}[{column}]", target, columns[:, column], classes=True)
                for column in range(min(columns.shape[1], MOST_COLUMNS))
            ]
        elif isinstance(target, Binary) or leaf.ndim == 1:
            labels = np.asarray(leaf, np.float64).reshape(-1) > 0.5 if isinstance(target, Binary) else leaf
            if len(labels) == len(everyone):
                found.append(asked(name, target, labels.astype(np.int64), classes=True))
        elif isinstance(target, Classes | Tokens):
            found += _dense(setup, name, target, leaf, drawn, positions)
    return found


def _dense(
    setup: Setup, name: str, target: Classes | Tokens, labels: np.ndarray, drawn: Sample, most: int
) -> list[Question]:
    """Labels at random positions, with the inputs around each of them as its inputs."""
    places = labels.shape[1:]
    lined_up = {path: leaf for path, leaf in drawn.inputs.items() if leaf.shape[1 : 1 + len(places)] == places}
    if not lined_up or len(places) > 2:
        return []
    each = max(1, min(int(np.prod(places)), -(-most // len(labels))))
    rng = np.random.default_rng([setup.seed, 79])
    example = np.repeat(np.arange(len(labels)), each)[: max(most, len(labels))]
    where = tuple(rng.integers(size, size=len(example)) for size in places)
    values = labels[(example, *where)]
    pad = target.pad if isinstance(target, Tokens) else None
    kept = np.ones(len(values), bool) if pad is None else values != pad
    example, where = example[kept], tuple(axis[kept] for axis in where)
    around = {path: _around(leaf, example, where, causal=setup.task.causal) for path, leaf in lined_up.items()}
    kinds: dict[str, InputKind] = {
        path: "tokens" if are_names(drawn.kinds[path], leaf.dtype) else "sequence" for path, leaf in around.items()
    }
    if not kept.any():
        return []
    return [Question(name, target, values[kept].astype(np.int64), True, around, kinds, example)]


def _around(leaf: np.ndarray, example: np.ndarray, where: tuple[np.ndarray, ...], *, causal: bool) -> np.ndarray:
    """The inputs within two places of each position (none after it where the model is causal), the edge repeated: `[n,
    places, ...]`.
    """
    steps = np.arange(-WINDOW, 1 if causal else WINDOW + 1)
    offsets = np.stack(np.meshgrid(*[steps] * len(where), indexing="ij"), axis=-1).reshape(-1, len(where))
    shifted = [
        np.clip(axis[:, None] + offsets[None, :, number], 0, leaf.shape[1 + number] - 1)
        for number, axis in enumerate(where)
    ]
    return leaf[(example[:, None], *shifted)]
