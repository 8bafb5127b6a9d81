"""An evaluation asked for the same examples in several ways, with what each example scores beside it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.exact_scores import Evaluate, Scores, common_name, evaluation_under_test, lightly_trained, scores
from jaxrecipe.setup import Setup, Split

Values = Float[np.ndarray, "examples"]


LARGE_BYTES = 2**26
"""The large set is not made larger than this in memory."""


PATIENCE = 10.0
"""Seconds that the large set may take; a slower evaluation gets a quarter of the examples, and so on."""


class Call(NamedTuple):
    """One way to ask for the same examples: positions in the sorted order, batch size, and what came back (None: it raised)."""

    name: str
    order: np.ndarray
    batch_size: int
    values: Mapping[str, float] | None
    error: str = ""


@dataclass(frozen=True)
class Asked:
    """Everything that was asked for, and what each example scores.

    Attributes:
        setup, key, state, evaluate, split: what was asked with.
        indices: the examples, sorted by loss.
        each: what each of them scores, in this order.
        calls: the same examples asked for in several ways; the first two are the same way.
        other: other examples of as many, what each scores, and what was said of them; None when there are none.
        copies: of how many examples the large set consists, and what was said of it.
        tolerance: as given.
    """

    setup: Setup
    key: PRNGKeyArray
    state: Any
    evaluate: Evaluate
    own: bool
    split: Split
    indices: np.ndarray
    each: Scores
    calls: tuple[Call, ...]
    other: tuple[Scores, Mapping[str, float]] | None
    copies: tuple[int, Mapping[str, float]]
    tolerance: float

    @property
    def known(self) -> dict[str, str]:
        """Names that came back in any way and that the task knows, with the task's name."""
        said = [*(call.values or {} for call in self.calls), self.copies[1]]
        return {name: common_name(name) for values in said for name in values if common_name(name) in self.each}

    def slack(self, values: Values) -> float:
        """How far a mean of these may be off; where each is 0 or 1, one of them may fall to the other side by rounding."""
        one = 1.01 / len(values) if np.isin(values, (0.0, 1.0)).all() else 0.0
        return self.tolerance * (abs(float(values.mean())) + float(values.std())) + one


def ask(setup: Setup, key: PRNGKeyArray, split: Split, tolerance: float, large: int) -> Asked:
    evaluate, own = evaluation_under_test(setup)
    state = lightly_trained(setup, key)
    variables = trees.copy(setup.loop.variables(state))
    source = setup.train if split == "train" or setup.test is None else setup.test
    batch = setup.batch_size
    count = min(source.size, batch + batch // 2 + 1 if batch > 1 else 33)
    shuffled = np.random.default_rng([setup.seed, 41]).permutation(source.size)
    each = scores(setup, variables, split, shuffled[:count])
    worst_last = np.argsort(each["loss"], kind="stable")
    indices = shuffled[:count][worst_last]
    each = {name: values[worst_last] for name, values in each.items()}
    small = next((size for size in (7, 5, 3, 2) if size < count and count % size), 2)
    straight = np.arange(count)
    ways = [("usual", straight, batch), ("usual again", straight, batch), ("small batches", straight, small)]
    ways += [("one large batch", straight, count + 3)] if own else []
    ways += [("reverse order", straight[::-1], batch)]
    calls = [_call(evaluate, state, split, indices, *way) for way in ways]
    other = _other(setup, evaluate, state, variables, split, shuffled[count : 2 * count], count)
    copies = _copies(setup, evaluate, state, split, indices, large)
    return Asked(setup, key, state, evaluate, own, split, indices, each, tuple(calls), other, copies, tolerance)


def _call(
    evaluate: Evaluate, state: Any, split: Split, indices: np.ndarray, name: str, order: np.ndarray, size: int
) -> Call:
    """Ask in one way. To raise is an answer: whole batches must do, or the check itself ends with the error."""
    try:
        return Call(name, order, size, evaluate(state, split, indices[order], size))
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return Call(name, order, size, None, f"{type(error).__name__}: {lines[0]}")


def _other(
    setup: Setup, evaluate: Evaluate, state: Any, variables: Any, split: Split, rest: np.ndarray, count: int
) -> tuple[Scores, Mapping[str, float]] | None:
    """As many other examples: of the same split, or of the training split."""
    if len(rest) < count:
        if split == "train" or setup.train.size < count:
            return None
        split, rest = "train", np.random.default_rng([setup.seed, 43]).permutation(setup.train.size)[:count]
    said = _call(evaluate, state, split, rest, "other", np.arange(count), setup.batch_size).values
    return None if said is None else (scores(setup, variables, split, rest), said)


def _copies(
    setup: Setup, evaluate: Evaluate, state: Any, split: Split, indices: np.ndarray, large: int
) -> tuple[int, Mapping[str, float]]:
    """Many copies of the examples, a whole number of batches of them, so that nothing but their number is new."""
    batch = setup.batch_size
    example = trees.nbytes(setup.prepared(split, indices[:1]))
    wanted = min(large, LARGE_BYTES // max(example, 1))
    seconds = []
    for _ in range(2):  # the first may compile
        began = time.perf_counter()
        evaluate(state, split, np.resize(indices, batch), batch)
        seconds.append(time.perf_counter() - began)
    each = min(seconds) / batch
    while wanted * each > PATIENCE and wanted > 4 * batch:
        wanted //= 4
    whole = max(wanted // batch, 1) * batch
    return whole, evaluate(state, split, np.resize(indices, whole), batch)
