"""What is wrong with the data as they are, before any function of the task has seen them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.data.sources import Source, as_source
from jaxrecipe.validate.problem import Problem, PyTree, differences, listed, message_of

SAMPLED = 16
"""Examples that are looked at of data which cannot be had as a whole."""
CHUNK = 4096
"""Rows of whole arrays that are looked at in one go."""


class Split(NamedTuple):
    """One split that could be read: where it came from, its source, and rows to look at (the whole arrays if there are
    any).
    """

    where: str
    source: Source
    rows: np.ndarray
    examples: tuple[PyTree, PyTree]
    whole: bool


def read(data: Any, where: str) -> tuple[Split | None, list[Problem]]:
    """A split as arrays of examples, or what is wrong with it."""
    try:
        source = as_source(data)
    except Exception as error:
        return None, [
            Problem(
                where=where,
                got=message_of(error),
                wanted="(inputs, targets), arrays of numbers with one leading size, or len and [] giving one such pair",
                fix="Encode words as numbers, stack ragged lists, and bring all arrays to one number of examples.",
            )
        ]
    if source.arrays is not None:
        return Split(where, source, np.arange(source.size), source.arrays, True), []
    rows = np.unique(np.linspace(0, source.size - 1, SAMPLED).astype(np.int64))
    try:
        return Split(where, source, rows, source.gather(rows), False), []
    except Exception as error:
        return None, [
            Problem(
                where=where,
                got=f"{message_of(error)} while reading examples {rows.tolist()}",
                wanted="examples that can be read and are all alike in structure, shape and dtype",
                fix="Decode, crop, pad or convert them, so that every item is (inputs, targets) of the same form.",
            )
        ]


def find(train: Split, test: Split | None, batch_size: int | None) -> Iterator[Problem]:
    """Sizes that make no sense, and splits that differ in form; `batch_size` is None when it is wrong itself."""
    for split in [train] + ([test] if test else []):
        if split.source.size < 2:
            yield Problem(
                where=split.where,
                got="1 example",
                wanted="at least 2",
                fix="Is the leading axis the one of the examples? A single one can be trained on, but nothing be "
                "told from it.",
            )
    if batch_size is not None and batch_size > train.source.size >= 2:
        yield Problem(
            where="task.batch_size",
            got=f"a batch of {batch_size} for {train.source.size} training examples",
            wanted=f"at most {train.source.size}",
            fix=f"Give batch_size={train.source.size} or less, or more data.",
        )
    if test is None:
        return
    lines = differences(one_of(train), one_of(test))
    if lines:
        yield Problem(
            where="task.test",
            got=f"examples of another form than those of task.train: {listed(lines)}",
            wanted="the same structure, shapes and dtypes in both splits",
            fix="Put both splits through the same code; what is only for training belongs into task.augment.",
        )


def one_of(split: Split) -> dict[str, PyTree]:
    """Shapes and dtypes of one example, as JAX will have them."""
    inputs, targets = split.examples
    named = {"inputs": inputs} | ({} if targets is None else {"targets": targets})
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], _dtype(leaf)), named)


def batch_of(split: Split, size: int) -> tuple[PyTree, PyTree]:
    """Shapes and dtypes of a batch."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), _dtype(leaf)), split.examples)


def _dtype(leaf: Any) -> Any:
    """JAX narrows 64 bits unless told otherwise."""
    return jax.dtypes.canonicalize_dtype(leaf.dtype)


def chunks(split: Split) -> Iterator[tuple[np.ndarray, tuple[PyTree, PyTree]]]:
    """The rows to look at, some at a time, on the host."""
    host = jax.tree.map(np.asarray, split.examples)
    for start in range(0, len(split.rows), CHUNK):
        part = slice(start, start + CHUNK)
        yield split.rows[part], jax.tree.map(lambda leaf, part=part: leaf[part], host)


def nonfinite_rows(split: Split) -> dict[str, np.ndarray]:
    """By side ("inputs", "targets"): the rows that hold NaN or infinity somewhere."""
    found: dict[str, list[np.ndarray]] = {"inputs": [], "targets": []}
    for rows, pair in chunks(split):
        for side, tree in zip(found, pair, strict=True):
            bad = np.zeros(len(rows), bool)
            for leaf in jax.tree.leaves(tree):
                if trees.is_inexact(leaf):
                    bad |= ~np.isfinite(leaf).reshape(len(rows), -1).all(axis=1)
            found[side].append(rows[bad])
    return {side: np.concatenate(rows) for side, rows in found.items()}
