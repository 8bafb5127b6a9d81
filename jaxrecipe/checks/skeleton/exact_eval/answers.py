"""An evaluation asked for the same examples in several ways, with what each example scores beside it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.exact_scores import Evaluate, Scores, common_name, evaluation_under_test, scores
from jaxrecipe.probes.first_steps import lightly_trained
from jaxrecipe.probes.randomness import evaluation_randomness
from jaxrecipe.probes.rounding import measured_rounding
from jaxrecipe.setup import Setup, Split

Values = Float[np.ndarray, "examples"]
"""What each example scores, float64."""
LARGE_BYTES = 2**26
"""The large set is not made larger than this in memory."""
LARGE_FLOPS = 2e12
"""... nor so large that the model needs more operations for it: some ten seconds of a few processor cores."""
SMALL_BATCHES = (7, 5, 3, 2)
"""Small batch sizes to choose from: the first that does not divide the number of examples."""
EXAMPLES_OF_SINGLE_BATCHES = 33
"""Examples that are asked for where a batch is one example."""

DRAWS = 8
"""Draws of a model that is random at evaluation, whose mean and spread its evaluation is compared with."""
DEVIATIONS = 5.0
"""Standard deviations of such a mean within which it must lie."""
ROUNDED = 4.0
"""Times that a mean may be off what one rounding of each parameter moves it by."""
TINY = 1e-300


class Call(NamedTuple):
    """One way to ask for the same examples.

    Attributes:
        name: the way, in words.
        order: positions in the order of the examples.
        batch_size: that was asked for.
        values: what came back; None where it raised.
        error: what it raised.
    """

    name: str
    order: Int[np.ndarray, "examples"]
    batch_size: int
    values: Mapping[str, float] | None
    error: str = ""

    def value(self, name: str) -> float:
        """One number, NaN where it did not come back."""
        return (self.values or {}).get(name, math.nan)


class Others(NamedTuple):
    """Other examples, as many: what each scores, and what the evaluation says of them."""

    each: Scores
    said: Mapping[str, float]


class Copies(NamedTuple):
    """A large set made of copies of the examples: how many, and what the evaluation says of them."""

    size: int
    said: Mapping[str, float]


@dataclass(frozen=True)
class Answers:
    """Everything that was asked for, and what each example scores.

    Attributes:
        setup, key, state, evaluate, split: what was asked with.
        indices: the examples, sorted by loss, so that those of the last batch are the worst.
        each: what each of them scores, in this order.
        calls: the same examples asked for in several ways; the first two are the same way.
        others: None when there are no other examples.
        copies: the large set.
        tolerance: how far numbers may differ, relative to mean and spread of the examples.
        threshold: the name of that threshold; empty where rounding or draws of the model decide.
    """

    setup: Setup
    key: PRNGKeyArray
    state: Any
    evaluate: Evaluate
    split: Split
    indices: Int[np.ndarray, "examples"]
    each: Scores
    calls: tuple[Call, ...]
    others: Others | None
    copies: Copies
    tolerance: float
    threshold: str

    @property
    def variables(self) -> tuple[Any, Any]:
        """Parameters and model state of the state."""
        return trees.copy(self.setup.loop.variables(self.state))

    @property
    def known(self) -> dict[str, str]:
        """Names that came back in any way and that the task knows, with the task's name."""
        said = [*(call.values or {} for call in self.calls), self.copies.said]
        names = {name: common_name(name) for values in said for name in values}
        return {
            name: known for name, known in names.items() if known in self.each and np.isfinite(self.each[known]).all()
        }

    @property
    def own(self) -> bool:
        """Whether the evaluation is the user's and not the library's."""
        return self.setup.task.loop is not None

    @property
    def random_by_design(self) -> bool:
        """Whether the model draws in evaluation mode and nothing says that it should not."""
        return evaluation_randomness(self.setup).accepted

    @property
    def first(self) -> Mapping[str, float]:
        """What came back the first time."""
        return self.calls[0].values or {}

    @property
    def again(self) -> Mapping[str, float]:
        """What came back when the same was asked again."""
        return self.calls[1].values or {}

    def slack(self, values: Values) -> float:
        """How far a mean of these may be off."""
        return self.tolerance * scale_of(values) + one_example(values)


def scale_of(values: Values) -> float:
    """Mean and spread of the values, to which a tolerance is relative."""
    return abs(float(values.mean())) + float(values.std())


def one_example(values: Values) -> float:
    """How far the mean moves where values are 0 or 1 and one of them falls to the other side by rounding; else 0."""
    return 1.01 / len(values) if np.isin(values, (0.0, 1.0)).all() else 0.0


def ask_in_several_ways(
    setup: Setup, key: PRNGKeyArray, split: Split, *, tolerance: float, threshold: str, large: int
) -> Answers:
    """Train a little, sort some examples by loss, and ask for them."""
    evaluate, state = evaluation_under_test(setup), lightly_trained(setup, key)
    variables = trees.copy(setup.loop.variables(state))
    source = setup.train if split == "train" or setup.test is None else setup.test
    batch = setup.batch_size
    count = min(source.size, batch + batch // 2 + 1 if batch > 1 else EXAMPLES_OF_SINGLE_BATCHES)
    shuffled = np.random.default_rng([setup.seed, 41]).permutation(source.size)
    each, noise = _each(setup, variables, split, shuffled[:count], key)
    if noise > tolerance:
        tolerance, threshold = noise, ""
    worst_last = np.argsort(each["loss"], kind="stable")
    indices = shuffled[:count][worst_last]
    small = next((size for size in SMALL_BATCHES if size < count and count % size), SMALL_BATCHES[-1])
    straight = np.arange(count)
    ways = (
        ("usual", straight, batch),
        ("usual again", straight, batch),
        ("small batches", straight, small),
        ("one large batch", straight, count + 3),
        ("reverse order", straight[::-1], batch),
    )
    return Answers(
        setup=setup,
        key=key,
        state=state,
        evaluate=evaluate,
        split=split,
        indices=indices,
        each={name: values[worst_last] for name, values in each.items()},
        calls=tuple(_call(evaluate, state, split, indices, *way) for way in ways),
        others=_others(setup, evaluate, state, split, shuffled[count : 2 * count], count),
        copies=_copies(setup, evaluate, state, split, indices, large),
        tolerance=tolerance,
        threshold=threshold,
    )


def _each(
    setup: Setup, variables: tuple[Any, Any], split: Split, indices: np.ndarray, key: PRNGKeyArray
) -> tuple[Scores, float]:
    """What each example scores, and how far a mean of them may be off by rounding or by draws, of mean and spread.

    Of a model that draws in evaluation mode the mean of several draws.
    """
    if not evaluation_randomness(setup).accepted:
        each = scores(setup, variables, split, indices)

        def losses(params: Any, state: Any) -> Values:
            return scores(setup, (params, state), split, indices)["loss"]

        off = measured_rounding(setup, losses, variables) / max(scale_of(each["loss"]), TINY)
        return each, ROUNDED * off
    keys = [jax.random.fold_in(key, 700 + draw) for draw in range(DRAWS)]
    draws = [scores(setup, variables, split, indices, key=one, draws=True) for one in keys]
    stacked = {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}
    each = {name: values.mean(axis=0) for name, values in stacked.items()}
    errors = [
        max(values.mean(axis=1).std(ddof=1), np.sqrt(values.var(axis=0, ddof=1).mean() / len(indices)))
        / max(scale_of(each[name]), TINY)
        for name, values in stacked.items()
    ]
    return each, DEVIATIONS * float(np.nanmax(errors))


def _call(
    evaluate: Evaluate, state: Any, split: Split, indices: np.ndarray, name: str, order: np.ndarray, size: int
) -> Call:
    """Ask in one way. To raise is an answer: whole batches must do, or the check itself ends with the error."""
    try:
        return Call(name, order, size, evaluate(state, split, indices[order], size))
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return Call(name, order, size, None, f"{type(error).__name__}: {lines[0]}")


def _others(setup: Setup, evaluate: Evaluate, state: Any, split: Split, rest: np.ndarray, count: int) -> Others | None:
    """As many other examples: of the same split, or of the training split."""
    if len(rest) < count:
        if split == "train" or setup.train.size < count:
            return None
        split, rest = "train", np.random.default_rng([setup.seed, 43]).permutation(setup.train.size)[:count]
    said = _call(evaluate, state, split, rest, "others", np.arange(count), setup.batch_size).values
    variables = trees.copy(setup.loop.variables(state))
    return None if said is None else Others(scores(setup, variables, split, rest), said)


def _copies(setup: Setup, evaluate: Evaluate, state: Any, split: Split, indices: np.ndarray, large: int) -> Copies:
    """Many copies of the examples, a whole number of batches of them, so that nothing but their number is new."""
    batch = setup.batch_size
    example = trees.nbytes(jax.eval_shape(lambda: setup.prepared(split, indices[:batch]))) / batch
    flops = setup.forward_flops() / batch
    wanted = min(large, int(LARGE_BYTES / max(example, 1.0)), int(LARGE_FLOPS / max(flops, 1.0)))
    size = max(wanted // batch, 1) * batch
    return Copies(size, evaluate(state, split, np.resize(indices, size), batch))
