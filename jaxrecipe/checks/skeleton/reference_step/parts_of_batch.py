"""Gradients of parts of a batch: micro-batches that weigh alike, and one part that stands for all."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.probes.first_steps import Step
from jaxrecipe.setup import Setup

NUMBERS = (2, 4, 8)
"""Parts that a batch is cut into, as micro-batches or over devices."""
SAME_LOSS = 1e-4
"""Losses of an example that differ by less than this share are the same."""

Rows = list[np.ndarray]


def ways_to_cut(size: int) -> Iterator[tuple[int, Rows]]:
    """How a batch may be cut into equal parts: one after the other, or every so many-th example."""
    for number in NUMBERS:
        if size % number == 0 and size > number:
            yield number, list(np.arange(size).reshape(number, -1))
            yield number, list(np.arange(size).reshape(-1, number).T)


def of_micro_batches(setup: Setup, steps: list[Step]) -> Iterator[tuple[list[Any], Finding]]:
    """The mean of the gradients of micro-batches, where it is another than that of the batch; and what is wrong if the
    step takes it.
    """
    if _is_mean_over_examples(setup):
        return
    for number, rows in ways_to_cut(setup.batch_size):
        gradients = [_mean([_of_rows(setup, step, one) for one in rows]) for step in steps]
        text = (
            f"The step averages the gradients of {number} micro-batches, each divided by its own count, where the "
            "loss divides once by the count of the whole batch: micro-batches with few tokens weigh too much."
        )
        yield gradients, failure("step/micro-batches-weigh-alike", text)


def of_one_part(setup: Setup, steps: list[Step]) -> Iterator[tuple[list[Any], Finding]]:
    """The gradient of the first part of a batch alone; and what is wrong if the step takes it."""
    for number, rows in ways_to_cut(setup.batch_size):
        gradients = [_of_rows(setup, step, rows[0]) for step in steps]
        text = (
            f"The step takes the gradient of one of {number} parts of its batch: devices that do not exchange their "
            "gradients, or a loop over micro-batches that keeps one."
        )
        yield gradients, failure("step/part-of-batch", text)


def _of_rows(setup: Setup, step: Step, rows: np.ndarray) -> Any:
    part = jax.tree.map(lambda leaf: leaf[rows], step.batch)
    return setup.gradients(*step.before, *part, key=step.key)[1]


def _mean(many: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / np.float32(len(leaves)), *many)


def _is_mean_over_examples(setup: Setup) -> bool:
    """Whether the loss of an example is the same in a part of its batch as in the whole, whatever the part."""
    inputs, targets = setup.batch
    outputs, _ = setup.forward(*setup.variables, inputs, train=True, key=setup.key)
    whole, size = np.asarray(setup.losses(outputs, targets)), setup.batch_size

    def same(count: int) -> bool:
        first = jax.tree.map(lambda leaf: leaf[:count], (outputs, targets))
        return np.allclose(whole[:count], np.asarray(setup.losses(*first)), rtol=SAME_LOSS, atol=SAME_LOSS)

    return all(map(same, {1, size // 2, size - 1} - {0}))  # a half may hold half of the tokens by chance
