"""A couple of examples under an objective, whose minimum is unknown: the cost must fall as plain Adam lowers it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.result import Curve, Result
from jaxrecipe.setup import Setup

STEPS = 300
"""Steps of a run; progress shows long before, and no minimum is waited for."""
MEASURED_EVERY = 20
ADAM_RATE = 3e-3
LITTLE = 0.02
"""A fall by less than this share of the scale of the losses counts as none."""
FAR_MORE = 10.0
"""How many times as far plain Adam must bring the cost down to show that it can be done."""
BOTTOMLESS = 100.0
"""A cost that fell by so many times its scale, below zero, has no floor where losses are of that scale."""

Batch = tuple[Any, Any]
Variables = tuple[Any, Any]


@dataclass(frozen=True)
class Descent:
    """Costs of the same examples with the same draws, along a run."""

    steps: tuple[int, ...]
    costs: tuple[float, ...]

    @property
    def fall(self) -> float:
        """From the start to the lowest cost."""
        return self.costs[0] - float(np.nanmin(self.costs))


def overfit_by_cost(setup: Setup, key: PRNGKeyArray, batches: list[Batch]) -> Result:
    """Train on the few examples; where the cost does not fall, ask plain Adam whether it can."""
    ours = _descent(setup, key, batches, _own_steps(setup, key, batches))
    scale = _scale(setup, key, batches)
    share = ours.fall / scale
    fall = Measure(name="fall of the cost, as a share of the losses", value=share, low=LITTLE)
    curve = Curve(
        title="Cost of the few examples", x=np.array(ours.steps), series={"cost": np.array(ours.costs)}, y_label="cost"
    )
    finding = _finding(setup, key, batches, ours, scale, fall)
    text = f"In {ours.steps[-1]} steps on the same few examples the cost falls from {ours.costs[0]:.4g} to "
    return Result(
        summary=f"{text}{np.nanmin(ours.costs):.4g}. How far it could fall is not known of an objective.",
        findings=() if finding is None else (finding,),
        measures=(fall, Measure(name="steps", value=float(ours.steps[-1]), unit="steps")),
        evidence=(curve,),
    )


def _finding(
    setup: Setup, key: PRNGKeyArray, batches: list[Batch], ours: Descent, scale: float, fall: Measure
) -> Finding | None:
    last = ours.costs[-1]
    if not np.isfinite(last):
        text = f"The cost is {last} after {ours.steps[-1]} steps on the same few examples; it was {ours.costs[0]:.4g}."
        likely = causes("optimizer/diverged", "optimizer/learning-rate-too-high", "loss/unbounded", "loss/sign-flipped")
        return failure("optimizer/diverged", text, measures=(fall,), causes=likely)
    if ours.fall > BOTTOMLESS * scale and last < 0:
        text = f"The cost falls without end: from {ours.costs[0]:.4g} to {last:.4g} in {ours.steps[-1]} steps."
        likely = causes("loss/unbounded", "loss/sign-flipped")
        return warning("loss/unbounded", text, measures=(fall,), causes=likely)
    if ours.fall > LITTLE * scale:
        return None
    adam = _descent(setup, key, batches, _adam_steps(setup, key, batches))
    text = f"The cost of the same few examples stays at {ours.costs[0]:.4g} in {ours.steps[-1]} steps"
    if adam.fall > FAR_MORE * max(ours.fall, LITTLE * scale / 2):
        text += f", where plain Adam brings it to {np.nanmin(adam.costs):.4g}."
        likely = causes("step/goes-uphill", "optimizer/learning-rate-too-low", "step/updates-thrown-away")
        return failure("model/does-not-memorize", text, measures=(fall,), causes=likely)
    text += ", and plain Adam hardly lowers it either."
    return warning("model/does-not-memorize", text, measures=(fall,), causes=causes("loss/flat", "model/no-gradient"))


def _descent(setup: Setup, key: PRNGKeyArray, batches: list[Batch], run: Iterator[Callable[[], Variables]]) -> Descent:
    """Mean cost in training mode, with the same draws at each measurement."""
    steps, costs = [], []
    for step, variables in enumerate(run):
        if step % MEASURED_EVERY:
            continue
        now = variables()
        steps.append(step)
        costs.append(float(np.mean([setup.mean_loss(*now, *batch, train=True, key=key) for batch in batches])))
        if not np.isfinite(costs[-1]):
            break
    return Descent(tuple(steps), tuple(costs))


def _own_steps(setup: Setup, key: PRNGKeyArray, batches: list[Batch]) -> Iterator[Callable[[], Variables]]:
    state = setup.fresh_state()
    for step in range(STEPS + 1):
        yield lambda state=state: setup.loop.variables(state)
        state, _ = setup.step(state, *batches[step % len(batches)], jax.random.fold_in(key, step))


def _adam_steps(setup: Setup, key: PRNGKeyArray, batches: list[Batch]) -> Iterator[Callable[[], Variables]]:
    """Plain Adam on the declared objective; the model's state stays as it was at the start."""
    adam = optax.adam(ADAM_RATE)
    params, model_state = setup.variables
    state = adam.init(params)
    update = jax.jit(adam.update)
    for step in range(STEPS + 1):
        yield lambda params=params: (params, model_state)
        draws = jax.random.fold_in(key, step)
        _, gradient = setup.gradients(params, model_state, *batches[step % len(batches)], key=draws)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
            updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)


def _scale(setup: Setup, key: PRNGKeyArray, batches: list[Batch]) -> float:
    """How large the losses of the examples are at the start, whatever their sign."""
    costs = [setup.costs(*setup.variables, *batch, train=True, key=key) for batch in batches]
    return max(float(np.mean([np.abs(np.asarray(one.losses, np.float64)).mean() for one in costs])), 1e-12)
