"""A prepared sample of a split as numpy arrays, and what its declared heads ask to predict, in a form that simple predictors take."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxrecipe import trees
from jaxrecipe.probes.copies import is_integer
from jaxrecipe.setup import Setup, Split
from jaxrecipe.targets import Binary, Classes, MultiLabel, Target, Tokens, Unspecified, Values

PIECE = 512
MOST_BYTES = 2**28
"""A sample takes no more memory than this, so it has fewer examples where they are large."""
MOST_COLUMNS = 16
"""Columns of a target that are predicted one by one; more are a reconstruction, which is another question."""


@dataclass(frozen=True)
class Sample:
    """Examples of a split after `task.prepare`.

    Attributes:
        indices: where they stand in the split, in rising order.
        inputs: each leaf of the inputs by path, `[n, ...]`, floats as float32.
        targets: the tree of targets, `[n, ...]`.
    """

    indices: Int[np.ndarray, "n"]
    inputs: dict[str, np.ndarray]
    targets: Any


@dataclass(frozen=True)
class Head:
    """One thing to predict for each example.

    Attributes:
        name: the path of the head, "" for a single target.
        target: what is declared.
        values: `[n]` integer labels, or `[n, columns]` float64 values.
        classes: whether the values are labels.
        inputs: the inputs that belong to them: those of the sample, or of its positions where the target has one value a position.
        example: which example of the sample each value belongs to.
    """

    name: str
    target: Target
    values: np.ndarray
    classes: bool
    inputs: dict[str, np.ndarray]
    example: Int[np.ndarray, "n"]


def sample(setup: Setup, split: Split, most: int) -> Sample:
    """At most `most` examples of a split, drawn without replacement by the seed, prepared piece by piece at one shape."""
    source = setup.train if split == "train" else setup.test
    if source is None:
        raise ValueError("the task has no test data: look at setup.test before taking a sample of it")
    each = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(setup.prepared(split, np.zeros(1, np.int64))))
    count = min(source.size, most, max(64, MOST_BYTES // max(each, 1)))
    chosen = np.sort(np.random.default_rng([setup.seed, 78]).permutation(source.size)[:count])
    pieces = []
    for start in range(0, count, PIECE):
        part = chosen[start : start + PIECE]
        whole = jax.tree.map(_host, setup.prepared(split, np.resize(part, min(PIECE, count))))
        pieces.append(trees.take(whole, np.arange(len(part))))
    inputs, targets = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
    return Sample(chosen, {path or "inputs": leaf for path, leaf in trees.named_leaves(inputs).items()}, targets)


def heads(setup: Setup, drawn: Sample, *, positions: int = 4000) -> list[Head]:
    """What each declared head asks to predict; dense labels (segmentation, tokens) at some positions of each example.

    Reconstructions, undeclared targets and dense targets that no input lines up with are left out.
    """
    found: list[Head] = []
    everyone = np.arange(len(drawn.indices))
    for name, target, leaf in _walk(setup.task.target, drawn.targets):
        if isinstance(target, Unspecified) or not hasattr(leaf, "shape"):
            continue
        if isinstance(target, Values):
            columns = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
            if columns.shape[1] <= MOST_COLUMNS:
                found.append(_finite(Head(name, target, columns, False, drawn.inputs, everyone)))
        elif isinstance(target, MultiLabel):
            columns = (np.asarray(leaf, np.float64).reshape(len(leaf), -1) > 0.5).astype(np.int64)
            labels = [
                (f"{name}[{column}]", columns[:, column]) for column in range(min(columns.shape[1], MOST_COLUMNS))
            ]
            found += [Head(title, target, values, True, drawn.inputs, everyone) for title, values in labels]
        elif isinstance(target, Binary) or leaf.ndim == 1:
            labels = (
                (np.asarray(leaf, np.float64).reshape(-1) > 0.5) if isinstance(target, Binary) else np.asarray(leaf)
            )
            if len(labels) == len(everyone):
                found.append(Head(name, target, labels.astype(np.int64), True, drawn.inputs, everyone))
        elif isinstance(target, Classes | Tokens):
            found += _dense(setup, name, target, np.asarray(leaf), drawn, positions)
    return found


def _finite(head: Head) -> Head:
    """The examples whose values are all finite; what others are missing is another check's question."""
    kept = np.isfinite(head.values).all(axis=1)
    if kept.all():
        return head
    inputs = {path: leaf[kept] for path, leaf in head.inputs.items()}
    return Head(head.name, head.target, head.values[kept], False, inputs, head.example[kept])


def _walk(target: Any, leaf: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each declared target with its path and what stands there among the targets."""
    if not isinstance(target, Mapping):
        yield path, target, leaf
        return
    for head, inner in target.items():
        if isinstance(leaf, Mapping) and head in leaf:
            yield from _walk(inner, leaf[head], f"{path}/{head}".strip("/"))


def _host(leaf: Any) -> np.ndarray:
    """On the host, floats of any width as float32, complex numbers as pairs."""
    array = np.asarray(leaf)
    if array.dtype.kind in "iub":
        return array
    if np.iscomplexobj(array):
        return np.stack([np.real(array), np.imag(array)], axis=-1).astype(np.float32)
    return array.astype(np.float32)


def _dense(setup: Setup, name: str, target: Any, labels: np.ndarray, drawn: Sample, most: int) -> list[Head]:
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
    kept = np.ones(len(values), bool) if getattr(target, "pad", None) is None else values != target.pad
    example, where = example[kept], tuple(axis[kept] for axis in where)
    around = {path: _around(leaf, example, where, causal=setup.task.causal) for path, leaf in lined_up.items()}
    return [Head(name, target, values[kept].astype(np.int64), True, around, example)] if kept.any() else []


def _around(leaf: np.ndarray, example: np.ndarray, where: tuple[np.ndarray, ...], *, causal: bool) -> np.ndarray:
    """The inputs within two places of each position (none after it where the model is causal), the edge repeated: `[n, places, ...]`."""
    steps = np.arange(-2, 1 if causal else 3)
    offsets = np.stack(np.meshgrid(*[steps] * len(where), indexing="ij"), axis=-1).reshape(-1, len(where))
    shifted = [
        np.clip(axis[:, None] + offsets[None, :, number], 0, leaf.shape[1 + number] - 1)
        for number, axis in enumerate(where)
    ]
    return leaf[(example[:, None], *shifted)]


def integer_inputs(inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether every input is made of whole numbers."""
    return all(is_integer(leaf) for leaf in inputs.values())
