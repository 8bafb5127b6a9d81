"""What a set-up does beyond the plain model and loss, measured."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.simplify.numbers import numbers_on_host, relative_distance
from jaxrecipe.checks.skeleton.simplify.schedule import RATE
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.first_steps import lightly_trained, vector
from jaxrecipe.probes.parameter_copies import parameter_copies, parameters_at
from jaxrecipe.probes.randomness import draws_by_design
from jaxrecipe.probes.schedules import update_probe
from jaxrecipe.report.result import Curve
from jaxrecipe.setup import Setup

INWARDS = 0.5
"""Cosine with the direction to zero from which an update without gradient counts as weight decay."""
PEAK_AT_ONCE = 0.999
"""A schedule whose first rate is at least this share of its peak has no warm-up."""
SAME = 1e-3
"""Updates that differ by less than this share are the same: a gradient was cut."""
OTHER = 1e-2
"""Updates that differ by more than this share are others: a small gradient was not cut."""
LAGGING = 0.95
"""A copy that has moved less than this share of the way of the parameters lags behind them."""


class SwitchedOn(NamedTuple):
    """One thing that is on.

    Attributes:
        name: what.
        description: by how much, in words.
        measures: by how much; one with bounds and a code can be too strong.
        too_strong: what to say then.
    """

    name: str
    description: str
    measures: tuple[Measure, ...]
    too_strong: str = ""


def switched_on(
    setup: Setup, key: PRNGKeyArray, gradients: Any, curve: Curve | None, *, most_noise: float, most_decay: float
) -> list[SwitchedOn]:
    """Everything that is on."""
    return [
        *_augmentation(setup),
        *_noise(setup, key, most_noise),
        *_schedule(curve),
        *_updates_without_gradient(setup, gradients, curve, most_decay),
        *_clipping(setup, gradients),
        *_averages(setup, key),
        *_precision(setup),
    ]


def _augmentation(setup: Setup) -> Iterator[SwitchedOn]:
    if setup.task.augment is None:
        return
    plain = numbers_on_host(setup.batch)
    augmented = numbers_on_host(setup.task.augment(setup.key, *setup.batch))
    if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(plain, augmented, strict=True)):
        size = relative_distance(plain, augmented)
        yield SwitchedOn(
            "augmentation", f"moves a batch by {size:.2g} of its size", (Measure(name="augmentation", value=size),)
        )


def _noise(setup: Setup, key: PRNGKeyArray, most: float) -> Iterator[SwitchedOn]:
    """The share of the outputs' power in training that is not the same in two draws."""
    inputs, _ = setup.batch
    keys = [jax.random.fold_in(key, draw) for draw in range(2)]
    first, second = (numbers_on_host(setup.forward(*setup.variables, inputs, train=True, key=one)[0]) for one in keys)
    apart = sum(float(np.square(np.nan_to_num(a - b)).sum()) for a, b in zip(first, second, strict=True))
    power = sum(float(np.square(np.nan_to_num(leaf)).sum()) for leaf in (*first, *second))
    share = min(apart / power, 1.0) if power else 0.0
    if share:
        name = "dropout or other noise"
        measure = Measure(
            name=name,
            value=share,
            high=None if draws_by_design(setup, train=True) else most,
            severity=Severity.WARN,
            code="model/dropout-too-strong",
            thresholds={"high": "most_noise"},
        )
        text = f"{share:.0%} of what the model gives in training is noise: two draws have hardly anything in common."
        yield SwitchedOn(name, f"{share:.0%} of the outputs", (measure,), text)


def _schedule(curve: Curve | None) -> Iterator[SwitchedOn]:
    if curve is None:
        return
    rate, steps = curve.series[RATE], curve.x
    peak = int(np.argmax(rate))
    rises = f"{rate[0]:.0%} of its peak at first, the peak near step {steps[peak]}"
    shape = rises if rate[0] < PEAK_AT_ONCE else "highest at first"
    text = f"{shape}, {rate[-1]:.2g} of it near step {steps[-1]}"
    measures = (
        Measure(name="learning-rate schedule", value=float(rate[-1]), unit="of its peak at the end"),
        Measure(name="peak of the learning rate", value=float(steps[peak]), unit="steps"),
    )
    yield SwitchedOn("learning-rate schedule", text, measures)


def _updates_without_gradient(setup: Setup, gradients: Any, curve: Curve | None, most: float) -> Iterator[SwitchedOn]:
    """How far a first update goes without any gradient, and whether to zero; at the peak of the learning rate."""
    peak = 0 if curve is None else int(curve.x[np.argmax(curve.series[RATE])])
    probe = setup.memo(update_probe, lambda: update_probe(setup.task.optimizer))
    whole, pulled = (vector(probe(setup.params, gradients, peak, second=by).updates) for by in (1.0, 0.0))
    weights = vector(setup.params)
    length, size = float(np.linalg.norm(pulled)), float(np.linalg.norm(weights))
    if not np.isfinite(pulled).all() or length == 0:
        return
    text = f"{length / max(size, _TINY):.2g} of the parameters a step at the peak of the learning rate"
    if float(-(pulled @ weights)) <= INWARDS * length * size:
        name = "updates without gradient"
        yield SwitchedOn(name, text, (Measure(name=name, value=length / max(size, _TINY)),))
        return
    pull = length / max(float(np.linalg.norm(whole - pulled)), _TINY)
    against = Measure(
        name="weight decay, of the step by the gradient",
        value=pull,
        high=most,
        severity=Severity.WARN,
        code="optimizer/weight-decay-too-strong",
        thresholds={"high": "most_decay"},
    )
    strong = (
        f"Weight decay pulls the parameters back {pull:.2g} times as far in a step as the gradient of the untrained "
        "model moves them."
    )
    measure = Measure(name="weight decay", value=length / max(size, _TINY), unit="of the parameters a step")
    yield SwitchedOn("weight decay", text, (measure, against), strong)


_TINY = 1e-30
"""Keeps a division by zero from being one; far below any norm that float32 can hold."""


def _clipping(setup: Setup, gradients: Any) -> Iterator[SwitchedOn]:
    """A second gradient of any size is cut to the size of the first, although small ones are not."""
    probe = setup.memo(update_probe, lambda: update_probe(setup.task.optimizer))

    def ratio(first: float, second: float) -> float:
        """By how much the update after the first gradient is larger for the second than for the first again."""
        sizes = [float(probe(setup.params, gradients, 1, first=first, second=by).norm) for by in (second, first)]
        return sizes[0] / sizes[1] if sizes[1] else 1.0

    norm = float(np.linalg.norm(vector(gradients))) or 1.0
    large, small = ratio(1e3 / norm, 1e6 / norm), ratio(1e-3 / norm, 1e-2 / norm)
    if abs(large - 1) < SAME and abs(small - 1) > OTHER:
        measure = Measure(name="gradient clipping", value=large, unit="times the update for 1000 times the gradient")
        yield SwitchedOn("gradient clipping", "a gradient a thousand times larger gives the same update", (measure,))


def _averages(setup: Setup, key: PRNGKeyArray) -> Iterator[SwitchedOn]:
    """Copies of the parameters in the state that lag behind them."""
    places = parameter_copies(setup)
    if len(places) < 2:
        return
    start, state = vector(setup.params), lightly_trained(setup, key)
    moved = {place: float(np.linalg.norm(vector(parameters_at(setup, state, place)) - start)) for place in places}
    farthest = max(moved.values())
    for place, size in moved.items():
        if 0 < size < LAGGING * farthest:
            text = f"{place.path} has moved {size / farthest:.0%} as far as the parameters"
            measure = Measure(name=f"averaged parameters at {place.path}", value=size / farthest)
            yield SwitchedOn("averaged parameters", text, (measure,))


def _precision(setup: Setup) -> Iterator[SwitchedOn]:
    policy, scale = setup.task.precision, setup.task.loss_scale
    if policy.casts:
        bits = jnp.finfo(policy.compute_dtype).bits
        measure = Measure(name="reduced precision", value=float(bits), unit="bits")
        yield SwitchedOn("reduced precision", str(np.dtype(policy.compute_dtype)), (measure,))
    if scale.kind != "none":
        yield SwitchedOn("loss scale", scale.kind, (Measure(name="loss scale", value=float(scale.scale)),))
