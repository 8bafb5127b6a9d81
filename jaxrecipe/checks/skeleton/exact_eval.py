"""Exact evaluation: the whole set, every example once, whatever the batch size and the order."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.exact_scores import (
    Evaluate,
    Scores,
    as_if_augmented,
    common_name,
    evaluation_under_test,
    in_half,
    lightly_trained,
    scores,
)
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.setup import Setup, Split

_result = partial(Result, name="exact_eval", stage="skeleton")
Values = Float[np.ndarray, "examples"]
LARGE_BYTES = 2**26
"""The large set is not made larger than this in memory."""
PATIENCE = 10.0
"""Seconds that the large set may take; a slower evaluation gets a quarter of the examples, and so on."""


def exact_eval(
    setup: Setup, *, key: PRNGKeyArray, tolerance: float = 2e-3, tolerance_half: float = 2e-2, large: int = 20_000
) -> Result:
    """Evaluation gives the mean over all examples, each counted once, at any batch size and in any order.

    What it does: after a few training steps asks your own `evaluate` (or the library's) for the same held-out examples in several ways: at the
    task's batch size, at a small one that does not divide their number, at one larger than the set, and in the reverse order. All must
    agree with the mean of the task's own loss and metrics of each example, computed apart in float64 at the parameters that the state holds.
    The examples are sorted by loss, so that those in the last batch are the worst: leaving them out, or giving them another weight, shows. Then
    other examples must give other numbers, and a large set made of copies the same ones. Where the numbers are wrong, those that the usual
    mistakes would give are computed too, and the mistake that fits is named. Names that the task does not know are only asked to stay the same.

    Why it matters: an evaluation that drops the last batch or averages batch means is wrong by as much as the differences that one hopes to
    see, and one on the training split looks wonderful.

    What to do: sum over the examples that count, in float32 or on the host, and divide once by their number. Pad the last batch and mask
    the padding.

    Args:
        setup: the set-up.
        key: seeds the few training steps.
        tolerance: how far two numbers may differ, relative to mean and spread of the examples; TF32 gives 1e-3.
        tolerance_half: the same when the model computes in half precision.
        large: examples of the large set, enough that a sum in half precision stops growing (at 256 in bfloat16, 2048 in float16).

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "add significant digits to your eval".
    """
    if setup.task.mixes_examples:
        return _result(
            status=Status.SKIP,
            finding="The loss compares the examples of a batch, so what it is depends on the batch size on purpose.",
            hint="To have the rest of an evaluation checked, give a task without mixes_examples and with metrics of single examples.",
        )
    split: Split = "train" if setup.test is None else "test"
    source = setup.test or setup.train
    if source.size < 3:
        return _result(
            status=Status.SKIP, finding=f"There are only {source.size} held-out examples.", hint="Give more."
        )
    asked = _ask(setup, key, split, tolerance_half if in_half(setup) else tolerance, large)
    return _told(asked, _verdict(asked))


class Verdict(NamedTuple):
    """How the check ends."""

    status: Status
    finding: str
    hint: str = ""


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


def _ask(setup: Setup, key: PRNGKeyArray, split: Split, tolerance: float, large: int) -> Asked:
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


def _verdict(asked: Asked) -> Verdict:
    """The first thing that is wrong, most telling first."""
    for look in (_random, _same_whatever_is_given, _wrong_mean, _refused, _unknown_names_vary, _shrinks_when_large):
        verdict = look(asked)
        if verdict is not None:
            return verdict
    names = ", ".join(asked.known) or "What it returns"
    whose = "Your evaluate" if asked.own else "The evaluation"
    equal = (
        " and equal the mean over the examples"
        if asked.known
        else " (no name is the task's, so there was nothing to compare with)"
    )
    return Verdict(
        Status.PASS,
        f"{whose} is exact: {names} of {len(asked.indices)} examples are the same at {len(asked.calls) - 1} batch sizes and orders{equal}.",
    )


def _random(asked: Asked) -> Verdict | None:
    first, second = asked.calls[0].values or {}, asked.calls[1].values or {}
    for name, known in asked.known.items():
        if abs(first.get(name, math.nan) - second.get(name, math.nan)) > 0.1 * asked.slack(asked.each[known]):
            return Verdict(
                Status.FAIL,
                f"The same state on the same examples scores {name} {first[name]:.4g} once and {second[name]:.4g} the next time.",
                "Evaluation is random: dropout is on, or augmentation is. Run the model in evaluation mode on the examples as they are.",
            )
    return None


def _same_whatever_is_given(asked: Asked) -> Verdict | None:
    """Other examples give the very same numbers: the evaluation has data of its own."""
    if asked.other is None or not asked.known:
        return None
    each, said = asked.other
    first = asked.calls[0].values or {}
    differ = {name for name, known in asked.known.items() if abs(each[known].mean() - asked.each[known].mean()) > 1e-6}
    if not differ or any(first.get(name) != said.get(name) or name not in said for name in differ):
        return None
    name = min(differ, key=lambda one: one != "loss")
    splits: tuple[tuple[Split, Any], ...] = (("train", asked.setup.train), ("test", asked.setup.test))
    for split, source in splits:
        if source is None:
            continue
        everything = np.arange(source.size)[: LARGE_BYTES // max(trees.nbytes(source.gather(np.zeros(1, int))), 1)]
        whole = scores(asked.setup, asked.setup.loop.variables(trees.copy(asked.state)), split, everything)
        values = whole[asked.known[name]]
        if abs(values.mean() - first[name]) <= asked.slack(values):
            if split == "train":
                return Verdict(
                    Status.FAIL,
                    f"evaluate gives {name} {first[name]:.4g} whatever examples it is given: that is the {name} of the training split.",
                    "It evaluates the training split: use the inputs and targets that evaluate is given.",
                )
            return Verdict(
                Status.WARN,
                f"evaluate gives {name} {first[name]:.4g} whatever examples it is given: that is the {name} of the test split.",
                "Use the inputs and targets that evaluate is given; with data of its own it cannot be checked for batch size, order and size.",
            )
    return Verdict(
        Status.FAIL,
        f"evaluate gives {name} {first[name]:.4g} whatever examples it is given, and neither split scores that.",
        "Use the inputs and targets that evaluate is given, and the parameters of the state that it is given.",
    )


def _wrong_mean(asked: Asked) -> Verdict | None:
    """A number that is not the mean over the examples, with the mistake that explains it."""
    for name, known in sorted(asked.known.items(), key=lambda pair: pair[1] != "loss"):
        values = asked.each[known]
        slack = asked.slack(values)
        exact = float(values.mean())
        told = [(call, call.values.get(name, math.nan)) for call in asked.calls if call.values is not None]
        factor = _factor([number for _, number in told], exact, slack)
        wrong = [(call, number) for call, number in told if not _near(number, exact * factor, slack * factor)]
        if not wrong:
            continue
        shown = "; ".join(dict.fromkeys(f"{number:.4g} at batch size {call.batch_size}" for call, number in wrong))
        finding = f"evaluate gives {name} {shown}, where the mean over the {len(values)} examples is {exact:.4g}."
        hint = _cause(asked, name, told, values, slack)
        if hint is not None:
            return Verdict(Status.FAIL, finding, hint)
        numbers = [number for _, number in told]
        if max(numbers) - min(numbers) > 2 * slack or not all(map(math.isfinite, numbers)):
            return Verdict(
                Status.FAIL,
                f"{finding} The same examples score from {min(numbers):.4g} to {max(numbers):.4g} by batch size and order.",
                "Each example must count once and alike: sum over the examples that count and divide once by their number. If the model sees "
                "the batch (batch statistics in training mode), switch it to evaluation.",
            )
        return Verdict(
            Status.WARN,
            f"{finding} It is the same at every batch size and order.",
            f"If your {name} is defined in another way than the task's (another weighting, no label smoothing, per token), give the task the same "
            "one or another name. If not, look at what evaluate does to inputs and outputs.",
        )
    return None


def _near(value: float, wanted: float, slack: float) -> bool:
    return bool(abs(value - wanted) <= slack)


def _factor(numbers: list[float], exact: float, slack: float) -> float:
    """100 when every number is the percentage of what is expected, which is no mistake; else 1."""
    return 100.0 if all(_near(number, 100 * exact, 100 * slack) for number in numbers) and exact else 1.0


Simulation = Callable[[Values, int], float]
"""What a mistake makes of the examples' values in their order, at a batch size."""


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


def _cause(asked: Asked, name: str, told: list[tuple[Call, float]], values: Values, slack: float) -> str | None:
    """The mistake whose numbers are those that came back; None when no usual one fits."""
    exact = float(values.mean())
    for hint, mistake in _mistakes():
        fits, telling = True, False
        for call, number in told:
            would = mistake(values[call.order], call.batch_size)
            if math.isnan(would):  # no full batch: nothing counted (0/0 or 0), or the only batch kept after all
                fits &= not math.isfinite(number) or number == 0 or _near(number, exact, slack)
                continue
            fits &= _near(number, would, slack * max(1.0, abs(would / exact) if exact else 1.0))
            telling |= not _near(would, exact, slack)
        if fits and telling:
            return hint
    return _cause_in_model(asked, name, slack) or (HALF if _sums_in_half(asked, name) else None)


def _cause_in_model(asked: Asked, name: str, slack: float) -> str | None:
    """Other parameters, another mode or other inputs than there should be."""
    setup, known = asked.setup, asked.known[name]
    some = asked.indices[: setup.batch_size]
    if len(some) < setup.batch_size:
        some = np.resize(asked.indices, setup.batch_size)
    number = asked.evaluate(asked.state, asked.split, some, setup.batch_size).get(name, math.nan)
    variables = trees.copy(setup.loop.variables(asked.state))
    if _near(number, float(scores(setup, setup.variables, asked.split, some)[known].mean()), slack):
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


def _sums_in_half(asked: Asked, name: str) -> bool:
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


def _refused(asked: Asked) -> Verdict | None:
    refused = [call for call in asked.calls if call.values is None]
    if not refused:
        return None
    call = refused[0]
    return Verdict(
        Status.WARN,
        f"evaluate does not take {len(asked.indices)} examples at batch size {call.batch_size}: {call.error}",
        "An evaluation should take any set at any batch size: pad the last batch, mask the padding, and let a batch be larger than the set.",
    )


def _unknown_names_vary(asked: Asked) -> Verdict | None:
    """Numbers that the task does not know must at least be the same each time, unless they differ without reason (times)."""
    first, second = asked.calls[0].values or {}, asked.calls[1].values or {}
    for name, value in first.items():
        if name in asked.known or second.get(name) != value:
            continue
        others = [call.values[name] for call in asked.calls[2:] if call.values and name in call.values]
        far = max((abs(other - value) for other in others), default=0.0)
        if far > max(asked.tolerance, 0.01) * max(abs(value), 1e-12):
            return Verdict(
                Status.WARN,
                f"{name} of the same examples depends on batch size or order: {value:.4g}, and up to {far:.2g} off.",
                "If it is a mean over examples, sum and divide once. What is no mean over examples (AUC, F1) has to be computed from all "
                "predictions at once, not batch by batch.",
            )
    return None


def _shrinks_when_large(asked: Asked) -> Verdict | None:
    """On many copies of the same examples the numbers must stay."""
    size, said = asked.copies
    for name, known in asked.known.items():
        values = asked.each[known]
        full = np.resize(values, size)
        exact, slack = float(full.mean()), asked.slack(values)
        number = said.get(name, math.nan)
        if not (_near(number, exact, slack) or _near(number, 100 * exact, 100 * slack)):
            return Verdict(
                Status.FAIL,
                f"evaluate is right on {len(values)} examples and wrong on {size:,} made of the same ones: {name} {number:.4g}, not {exact:.4g}.",
                HALF,
            )
        if _sums_in_half(asked, name):
            return Verdict(
                Status.FAIL,
                f"Every sum behind evaluate's {name} is a number that half precision can hold, which the true sums are not.",
                HALF,
            )
    return None


def _told(asked: Asked, verdict: Verdict) -> Result:
    """The result with its numbers."""
    rows = [
        (
            call.name,
            call.batch_size,
            name,
            "raised" if call.values is None else call.values.get(name, math.nan),
            float(asked.each[known].mean()),
        )
        for name, known in asked.known.items()
        for call in asked.calls
    ]
    off = [abs(float(row[3]) - row[4]) for row in rows if row[3] != "raised" and math.isfinite(float(row[3]))]
    size, said = asked.copies
    rows += [
        (f"{size:,} copies", asked.setup.batch_size, name, said[name], float(asked.each[known].mean()))
        for name, known in asked.known.items()
        if name in said
    ]
    return _result(
        status=verdict.status,
        finding=verdict.finding,
        hint=verdict.hint,
        measured={
            "largest difference from the exact mean": float(max(off, default=0.0)),
            "examples": len(asked.indices),
        },
        expected={"largest difference from the exact mean": f"up to {asked.tolerance:g} of mean and spread"},
        evidence=(
            Table(
                title="The same examples, asked for in several ways",
                columns=("way", "batch size", "number", "evaluate", "exact"),
                rows=rows,
            ),
        ),
    )
