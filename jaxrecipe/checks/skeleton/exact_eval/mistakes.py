"""What goes wrong in evaluations, each told by the numbers that it would give."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.exact_eval.probing import Asked, Call, Values
from jaxrecipe.probes.exact_scores import (
    as_if_augmented,
    scores,
)

Simulation = Callable[[Values, int], float]
"""What a mistake makes of the examples' values in their order, at a batch size."""


def near(value: float, wanted: float, slack: float) -> bool:
    return bool(abs(value - wanted) <= slack)


def _batches(values: Values, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _padded(values: Values, size: int) -> int:
    return -(-len(values) // size) * size - len(values)


def _in_half(dtype: Any, parts: list[Any], divide: int) -> float:
    """A running sum in half precision."""
    total = np.zeros((), dtype)
    for part in parts:
        total = (total + np.asarray(part, dtype)).astype(dtype)
    return float(total) / divide


def _mistakes() -> Iterator[tuple[str, Simulation]]:
    yield DROPPED, lambda v, b: float(v[: len(v) - len(v) % b].mean()) if len(v) >= b else math.nan
    yield BATCH_MEANS, lambda v, b: float(np.mean([part.mean() for part in _batches(v, b)]))
    yield PADDING, lambda v, b: float((v.sum() + _padded(v, b) * v[-1]) / (len(v) + _padded(v, b)))
    yield PADDING, lambda v, b: float((v.sum() + np.resize(v, _padded(v, b)).sum()) / (len(v) + _padded(v, b)))
    yield PADDING, lambda v, b: float((v.sum() + _padded(v, b) * v[0]) / (len(v) + _padded(v, b)))
    yield (
        PADDING,
        lambda v, b: float((v.sum() + np.resize(_batches(v, b)[-1], _padded(v, b)).sum()) / (len(v) + _padded(v, b))),
    )
    yield WRONG_COUNT, lambda v, b: float(v.sum() / (len(v) + _padded(v, b)))
    yield WRONG_COUNT, lambda v, b: float(v.sum() / (len(v) - len(v) % b)) if len(v) >= b else math.nan
    yield WRONG_COUNT, lambda v, b: float(v[: len(v) - len(v) % b].sum() / len(v))
    yield (
        BATCH_MEANS,
        lambda v, b: sum(float(part.mean()) for part in _batches(v, b)) / (len(v) // b) if len(v) >= b else math.nan,
    )
    yield ONE_BATCH, lambda v, b: float(_batches(v, b)[-1].mean())
    yield ONE_BATCH, lambda v, b: float(v[:b].mean())
    yield TWICE, lambda v, _: float(2 * v.mean())
    yield SUM, lambda v, _: float(v.sum())
    yield SUM, lambda v, b: sum(float(part.mean()) for part in _batches(v, b))
    for dtype in (np.float16, jnp.bfloat16):
        yield HALF, lambda v, b, dtype=dtype: _in_half(dtype, [float(part.sum()) for part in _batches(v, b)], len(v))
        yield HALF, lambda v, _, dtype=dtype: _in_half(dtype, list(v), len(v))


DROPPED = "The last batch is dropped when it is not full: its examples are never counted. Pad it and mask the padding, or take a smaller last batch."


BATCH_MEANS = "It is the mean of the batch means, in which the examples of a smaller last batch weigh more. Sum over examples and divide once by their number."


PADDING = "The padding of the last batch is counted: mask it before you sum, and divide by the number of real examples."


WRONG_COUNT = (
    "The sum is divided by the wrong number: count the examples that were summed, not batches times batch size."
)


ONE_BATCH = "Only one batch is kept: add to the running sum instead of overwriting it (or returning inside the loop)."


TWICE = "Every example counts twice, or the sum is divided by half their number."


SUM = "It is a sum and not a mean: divide by the number of examples."


HALF = "The sum is kept in half precision, where it stops growing: sum in float32 or on the host."


STALE = "These are the scores of the initial parameters: evaluate uses those that it closed over and not those of the state that it is given."


TRAINING = "The model is evaluated in training mode (dropout, batch statistics): pass train=False and use the running statistics."


AUGMENTED = "The examples are augmented at evaluation: augmentation is for training only."


def cause_of(asked: Asked, name: str, told: list[tuple[Call, float]], values: Values, slack: float) -> str | None:
    """The mistake whose numbers are those that came back; None when no usual one fits."""
    exact = float(values.mean())
    for hint, mistake in _mistakes():
        fits, telling = True, False
        for call, number in told:
            would = mistake(values[call.order], call.batch_size)
            if math.isnan(would):  # no full batch: nothing counted (0/0 or 0), or the only batch kept after all
                fits &= not math.isfinite(number) or number == 0 or near(number, exact, slack)
                continue
            fits &= near(number, would, slack * max(1.0, abs(would / exact) if exact else 1.0))
            telling |= not near(would, exact, slack)
        if fits and telling:
            return hint
    return _cause_in_model(asked, name, slack) or (HALF if sums_in_half(asked, name) else None)


def _cause_in_model(asked: Asked, name: str, slack: float) -> str | None:
    """Other parameters, another mode or other inputs than there should be."""
    setup, known = asked.setup, asked.known[name]
    some = asked.indices[: setup.batch_size]
    if len(some) < setup.batch_size:
        some = np.resize(asked.indices, setup.batch_size)
    number = asked.evaluate(asked.state, asked.split, some, setup.batch_size).get(name, math.nan)
    variables = trees.copy(setup.loop.variables(asked.state))
    if near(number, float(scores(setup, setup.variables, asked.split, some)[known].mean()), slack):
        return STALE
    if as_if_augmented(setup, asked.evaluate, asked.state, asked.split, asked.key, asked.tolerance):
        return AUGMENTED
    keys = [jax.random.fold_in(asked.key, 100 + draw) for draw in range(5)]
    draws = [scores(setup, variables, asked.split, some, train=True, key=one)[known].mean() for one in keys]
    middle, spread = float(np.mean(draws)), float(np.std(draws))
    exact = float(scores(setup, variables, asked.split, some)[known].mean())
    if abs(number - middle) <= slack + 4 * spread and abs(number - middle) < 0.5 * abs(number - exact):
        return TRAINING
    return None


def sums_in_half(asked: Asked, name: str) -> bool:
    """Whether every sum behind the numbers is one that a half-precision format holds exactly, though the true sums are not.

    One in two thousand numbers is so near to one of float16; that those of the examples and of the large set both are is no accident.
    """
    values, batch = asked.each[asked.known[name]], asked.setup.batch_size
    size, large = asked.copies
    told = [(len(values), call.batch_size, call.values.get(name, math.nan)) for call in asked.calls if call.values]
    told += [(size, batch, large.get(name, math.nan))]
    true = np.array([values.sum(), np.resize(values, size).sum()])
    for dtype in (np.float16, jnp.bfloat16):
        if _held(true, dtype).any():
            continue
        for sums in ([n * mean for n, _, mean in told], [-(-n // b) * mean for n, b, mean in told]):
            if _held(np.array(sums), dtype).all():
                return True
    return False


def _held(numbers: np.ndarray, dtype: Any) -> np.ndarray:
    """Which numbers a format holds, up to the rounding of float32."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(dtype).astype(np.float64)
    return np.isfinite(rounded) & (np.abs(rounded - numbers) <= 2e-7 * np.abs(numbers))
