"""What goes wrong in evaluations, each recognized by the numbers that it would give."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxrecipe.checks.skeleton.exact_eval.answers import Answers, Values
from jaxrecipe.probes.exact_scores import explained_by_augmentation, scores
from jaxrecipe.probes.first_steps import vector
from jaxrecipe.probes.parameter_copies import parameter_copies, parameters_at
from jaxrecipe.probes.schedule_free import schedule_free_weights

Simulation = Callable[[Values, int], float]
"""What a mistake makes of the examples' values in their order, at a batch size; NaN where it has nothing to count."""
HALF_FORMATS = (np.float16, jnp.bfloat16)
FLOAT32_ROUNDING = 2e-7
"""Relative rounding of a float32 that went through a division and a product."""
TRAINING_DRAWS = 5
"""Draws of the model's randomness that show what training mode scores."""


def near(value: float, wanted: float, slack: float) -> bool:
    """Whether two numbers agree; NaN agrees with nothing."""
    return bool(abs(value - wanted) <= slack)


def _batches(values: Values, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _missing(values: Values, size: int) -> int:
    """How many examples the last batch lacks."""
    return -len(values) % size


def _whole(values: Values, size: int) -> np.ndarray:
    """The examples of the full batches."""
    return values[: len(values) - len(values) % size]


def _means(values: Values, size: int) -> list[float]:
    return [float(part.mean()) for part in _batches(values, size)]


def _dropped(values: Values, size: int) -> float:
    kept = _whole(values, size)
    return float(kept.mean()) if len(kept) else math.nan


def _padded_with(filler: Callable[[Values, int], np.ndarray], values: Values, size: int) -> float:
    """The mean when the last batch is filled up with examples that count."""
    missing = _missing(values, size)
    return float((values.sum() + np.resize(filler(values, size), missing).sum()) / (len(values) + missing))


def _over_whole(total: Callable[[Values, int], float], count: Callable[[Values, int], int]) -> Simulation:
    """A sum over a count that may be nothing."""

    def simulate(values: Values, size: int) -> float:
        number = count(values, size)
        return total(values, size) / number if number else math.nan

    return simulate


def _in_half(dtype: Any, parts: Callable[[Values, int], Sequence[float]], values: Values, size: int) -> float:
    """A running sum in half precision, over the number of examples."""
    total = np.zeros((), dtype)
    for part in parts(values, size):
        total = (total + np.asarray(part, dtype)).astype(dtype)
    return float(total) / len(values)


def _sum(values: Values, _: int) -> float:
    return float(values.sum())


MISTAKES: tuple[tuple[str, Simulation], ...] = (
    ("evaluation/last-batch-dropped", _dropped),
    ("evaluation/mean-of-batch-means", lambda values, size: float(np.mean(_means(values, size)))),
    ("evaluation/padding-counted", partial(_padded_with, lambda values, _: values[-1:])),
    ("evaluation/padding-counted", partial(_padded_with, lambda values, _: values)),
    ("evaluation/padding-counted", partial(_padded_with, lambda values, _: values[:1])),
    ("evaluation/padding-counted", partial(_padded_with, lambda values, size: _batches(values, size)[-1])),
    ("evaluation/wrong-divisor", _over_whole(_sum, lambda values, size: len(values) + _missing(values, size))),
    ("evaluation/wrong-divisor", _over_whole(_sum, lambda values, size: len(_whole(values, size)))),
    ("evaluation/wrong-divisor", lambda values, size: float(_whole(values, size).sum() / len(values))),
    (
        "evaluation/mean-of-batch-means",
        _over_whole(lambda values, size: sum(_means(values, size)), lambda values, size: len(values) // size),
    ),
    ("evaluation/one-batch-only", lambda values, size: _means(values, size)[-1]),
    ("evaluation/one-batch-only", lambda values, size: _means(values, size)[0]),
    ("evaluation/counted-twice", lambda values, _: float(2 * values.mean())),
    ("evaluation/sum-not-mean", _sum),
    ("evaluation/sum-not-mean", lambda values, size: sum(_means(values, size))),
    *(
        ("evaluation/half-precision-sum", partial(_in_half, dtype, parts))
        for dtype in HALF_FORMATS
        for parts in (
            lambda values, size: [float(part.sum()) for part in _batches(values, size)],
            lambda values, _: list(values),
        )
    ),
)
"""Codes with what each mistake gives, the most certain first."""


def cause_of(answers: Answers, name: str, values: Values, slack: float) -> str | None:
    """The code of the mistake whose numbers are those that came back; None when no usual one fits."""
    exact = float(values.mean())
    said = [(call, call.value(name)) for call in answers.calls if call.values is not None]
    for code, mistake in MISTAKES:
        fits, telling = True, False
        for call, number in said:
            would = mistake(values[call.order], call.batch_size)
            if math.isnan(would):  # no full batch: nothing counted (0/0 or 0), or the only batch kept after all
                fits &= not math.isfinite(number) or number == 0 or near(number, exact, slack)
                continue
            fits &= near(number, would, slack * max(1.0, abs(would / exact) if exact else 1.0))
            telling |= not near(would, exact, slack)
        if fits and telling:
            return code
    in_model = _cause_in_model(answers, name, slack)
    return in_model or ("evaluation/half-precision-sum" if sums_in_half(answers, name) else None)


def _cause_in_model(answers: Answers, name: str, slack: float) -> str | None:
    """Other parameters, another mode or other inputs than there should be."""
    setup, known = answers.setup, answers.known[name]
    some = np.resize(answers.indices, setup.batch_size)
    number = answers.evaluate(answers.state, answers.split, some, setup.batch_size).get(name, math.nan)
    if near(number, float(scores(setup, setup.variables, answers.split, some)[known].mean()), slack):
        return "evaluation/stale-parameters"
    given = (setup, answers.evaluate, answers.state, answers.split, answers.key, answers.tolerance)
    if explained_by_augmentation(*given) is not None:
        return "evaluation/augmented"
    variables = answers.variables
    keys = [jax.random.fold_in(answers.key, 100 + draw) for draw in range(TRAINING_DRAWS)]
    draws = [scores(setup, variables, answers.split, some, train=True, key=one)[known].mean() for one in keys]
    middle, spread = float(np.mean(draws)), float(np.std(draws))
    exact = float(scores(setup, variables, answers.split, some)[known].mean())
    if abs(number - middle) <= slack + 4 * spread and abs(number - middle) < 0.5 * abs(number - exact):
        return "evaluation/training-mode"
    return None


def evaluates_an_average(answers: Answers, name: str, slack: float) -> str:
    """Where the state holds other parameters, moved by training, that score what came back; empty if nowhere.

    Those are averaged weights, with which an evaluation may rightly work. They must explain it better than the initial
    parameters do, from which a slow average is hardly away.
    """
    setup, start = answers.setup, vector(answers.setup.params)
    params, model_state = answers.variables
    held = [(place.path, parameters_at(setup, answers.state, place)) for place in parameter_copies(setup)]
    for path, other in [*held, *((one.path, one.averaged) for one in schedule_free_weights(setup, answers.state))]:
        if np.array_equal(vector(other), start) or np.array_equal(vector(other), vector(params)):
            continue
        known, split, indices = answers.known[name], answers.split, answers.indices
        average = float(scores(setup, (other, model_state), split, indices)[known].mean())
        initial = float(scores(setup, setup.variables, split, indices)[known].mean())
        said = [call.value(name) for call in answers.calls if call.values]
        fits = all(near(number, average, slack) for number in said)
        if fits and max(abs(number - average) for number in said) < min(abs(number - initial) for number in said):
            return path
    return ""


def sums_in_half(answers: Answers, name: str) -> bool:
    """Whether every sum behind the numbers is one that a half-precision format holds, though the true sums are not.

    One in two thousand numbers is so near to one of float16; that those of the examples and of the large set both are
    is no accident.
    """
    values, batch = answers.each[answers.known[name]], answers.setup.batch_size
    size, large = answers.copies
    said = [(len(values), call.batch_size, call.value(name)) for call in answers.calls if call.values]
    said += [(size, batch, large.get(name, math.nan))]
    true = np.array([values.sum(), np.resize(values, size).sum()])
    for dtype in HALF_FORMATS:
        if exactly_held(true, dtype).any():
            continue
        for sums in ([count * mean for count, _, mean in said], [-(-count // by) * mean for count, by, mean in said]):
            if exactly_held(np.array(sums), dtype).all():
                return True
    return False


def exactly_held(numbers: Float[np.ndarray, "n"], dtype: Any) -> Bool[np.ndarray, "n"]:
    """Which numbers a format holds, up to the rounding of float32."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(dtype).astype(np.float64)
    return np.isfinite(rounded) & (np.abs(rounded - numbers) <= FLOAT32_ROUNDING * np.abs(numbers))
