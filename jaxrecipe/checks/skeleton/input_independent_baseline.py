"""Input-independent baseline: real inputs must do better than blank ones, on data that was not trained on."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.constant_predictor import best_constant, losses_at_constant
from jaxrecipe.probes.stopwatch import Stopwatch
from jaxrecipe.report.result import Curve, Result, Status, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="input_independent_baseline", stage="skeleton")


def input_independent_baseline(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 400,
    standard_errors: float = 4.0,
    at_best: float = 3.0,
    margin: float = 0.1,
    held_out: int = 512,
    seconds: float = 12.0,
) -> Result:
    """Training on the real inputs beats training on blank inputs, on held-out data.

    What it does: trains twice from the same start, with the same batches and your own training step, once with the inputs as they are and
    once with every input set to zero, and compares the two, and the best constant output too, on held-out examples. It stops as soon as the real inputs are clearly
    ahead. If they never are, it says whether at least the training loss went ahead. Inputs that were ahead for a while, and sure to be, are a WARN.

    Why it matters: a model that does no better with its inputs than without them has not learnt anything from them: labels that
    belong to other examples, an input pipeline that blanks or shuffles, an input that is ignored, a learning rate that does nothing.

    What to do: follow the hint. Look at inputs and labels side by side just before the model.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: at most this many steps of each training.
        standard_errors: how many standard errors the held-out losses must be apart, pair by pair.
        at_best: standard errors that the real inputs must have been ahead at some comparison for a run that fell back to be a WARN. Of ten
            comparisons of unrelated inputs, were they independent, one in seventy goes so far.
        margin: the least lead, as a share of the blind loss. Shuffled labels agree with the true ones here and there by chance, and whole
            classes of held-out examples share that luck, which standard errors over examples do not see. A lead that is sure but
            smaller is a WARN.
        held_out: at most this many held-out examples.
        seconds: at most this much time for the two trainings, compiling and the work of others on the machine not counted; a WARN if that is too little to decide.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "input independent baseline".
    """
    if setup.train.size < 2 * setup.batch_size and setup.test is None:
        finding = "There is no test data and too little training data to hold some back; give Task(test=...)."
        return _result(status=Status.SKIP, finding=finding)
    race = _race(
        setup, key, steps=steps, standard_errors=standard_errors, margin=margin, held_out=held_out, seconds=seconds
    )
    measured = {
        "held-out loss, real inputs": race.real[-1],
        "held-out loss, blank inputs": race.blank[-1],
        "held-out loss, best constant": race.constant,
        "lead in standard errors": race.lead,
        "steps": race.steps[-1],
    }
    expected = {
        "lead in standard errors": f"{standard_errors:g} or more",
        "held-out loss, real inputs": f"below {race.best_blind:.4g}",
    }
    curve = Curve(
        title="Held-out loss with real and with blank inputs",
        x=np.asarray(race.steps),
        series={"real inputs": np.asarray(race.real), "blank inputs": np.asarray(race.blank)},
        y_label="loss",
    )
    status, finding, hint = _judge(race, at_best)
    return _result(status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=(curve,))


@dataclass
class Race:
    """Mean held-out losses at each comparison, and the training losses at the end."""

    steps: list[int] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    blank: list[float] = field(default_factory=list)
    constant: float = float("inf")
    lead: float = 0.0
    best_lead: float = -float("inf")
    best_step: int = 0
    training_lead: float = 0.0
    won: bool = False
    out_of_time: bool = False

    @property
    def best_blind(self) -> float:
        """The better of training on blank inputs and the best constant output; a blank run may be poor by its own bad luck."""
        return float(np.nanmin([self.blank[-1], self.constant]))


def _race(
    setup: Setup, key: PRNGKeyArray, *, steps: int, standard_errors: float, margin: float, held_out: int, seconds: float
) -> Race:
    """Train both, compare at growing intervals, stop when the real inputs are clearly ahead."""
    states = {"real": setup.fresh_state(), "blank": setup.fresh_state()}
    batches = _held_out_batches(setup, held_out)
    training = [setup.training_batch(0)]
    constant = _constant_losses(setup, batches)
    race, watch, due = Race(constant=float(constant.mean())), Stopwatch(), 20
    for step in range(1, steps + 1):
        inputs, targets = _training_batch(setup, step - 1)
        step_key = jax.random.fold_in(key, step)
        states["real"], _ = setup.step(states["real"], inputs, targets, step_key)
        states["blank"], _ = setup.step(states["blank"], _blank(inputs), targets, step_key)
        if step == 1:  # compiling is not counted: it says nothing about how fast this learns
            jax.block_until_ready(states)
            watch = Stopwatch()
        race.out_of_time = watch.over(seconds)
        if step < min(due, steps) and not race.out_of_time:
            continue
        due = max(step + 10, int(1.4 * step))
        real, blank = (_losses(setup, states[kind], batches, key, blank=kind == "blank") for kind in ("real", "blank"))
        race.steps.append(step)
        race.real.append(float(real.mean()))
        race.blank.append(float(blank.mean()))
        race.lead = min(_lead(real, blank), _lead(real, constant))
        if race.lead > race.best_lead:
            race.best_lead, race.best_step = race.lead, step
        race.won = race.lead >= standard_errors and race.real[-1] < race.best_blind - margin * abs(race.best_blind)
        if race.won or race.out_of_time:
            break
    seen = [_losses(setup, states[kind], training, key, blank=kind == "blank") for kind in ("real", "blank")]
    race.training_lead = _lead(*seen)
    return race


def _judge(race: Race, at_best: float) -> tuple[Status, str, str]:
    """Status, finding and hint of a race."""
    real, blank, steps = race.real[-1], race.blank[-1], race.steps[-1]
    if race.won:
        return (
            Status.PASS,
            f"After {steps} steps real inputs score {real:.4g} on held-out data, blank ones {blank:.4g}.",
            "",
        )
    finding = f"After {steps} steps real inputs score {real:.4g} on held-out data, knowing nothing {race.best_blind:.4g}: the inputs do not help."
    if not np.isfinite(real):
        return Status.FAIL, finding, "Training is not finite: see overfit_one_batch."
    hint = UNRELATED if race.training_lead > 2 else NOTHING_LEARNT
    if race.out_of_time and steps < FEW_STEPS and race.lead > -4:
        return Status.WARN, f"Only {steps} steps were taken in the time there was, which decides nothing.", OUT_OF_TIME
    if race.best_lead > at_best and race.lead < race.best_lead - 1:
        text = f"Real inputs were ahead by {race.best_lead:.2g} standard errors after {race.best_step} steps, and by {race.lead:.2g} after {steps}."
        return Status.WARN, text, BY_HEART
    slow = race.out_of_time or race.lead > 0
    return (Status.WARN if slow and race.lead > 2 else Status.FAIL), finding, hint


FEW_STEPS = 100
"""Fewer steps than this in the time there was decide nothing: a slow machine is no fault of the set-up."""
BY_HEART = (
    "There is something in the inputs, but little of it (or there are few examples): the model finds it first and then learns its training examples by heart. Stop earlier, "
    "regularise, make the model smaller or get more data; and ask whether noise in the labels hides the rest."
)
OUT_OF_TIME = "Give it more time (seconds) or a machine with less to do, or make the model smaller while you check it."
UNRELATED = (
    "The model learns its training examples but nothing that carries over: labels that do not belong to their inputs (one shuffled and not the "
    "other), labels that are random, or a test set that is prepared differently (scale, channels, label map)."
)
NOTHING_LEARNT = (
    "Neither on training nor on held-out data do the inputs help: look for inputs that are blank or ignored, updates that are thrown away, frozen "
    "parameters, a learning rate that is far too small or too large, or labels that have nothing to do with the inputs."
)


def _training_batch(setup: Setup, step: int) -> tuple[Any, Any]:
    """The step's batch; without test data the last tenth of the training data is held back."""
    if setup.test is not None:
        return setup.training_batch(step)
    kept = setup.train.size - _held_back(setup)
    chosen = np.random.default_rng([setup.seed, step]).integers(kept, size=setup.batch_size)
    return setup.prepared("train", chosen)


def _held_back(setup: Setup) -> int:
    return max(setup.train.size // 10, setup.batch_size)


def _held_out_batches(setup: Setup, most: int) -> list[tuple[Any, Any]]:
    """Full held-out batches, so that no other program is needed."""
    split, source = ("test", setup.test) if setup.test is not None else ("train", setup.train)
    if setup.test is not None:
        pool = np.random.default_rng([setup.seed, 1]).permutation(source.size)
    else:
        pool = np.arange(source.size - _held_back(setup), source.size)
    size = setup.batch_size
    count = max(1, min(most, len(pool)) // size)
    return [setup.prepared(split, np.resize(pool, count * size)[i * size : (i + 1) * size]) for i in range(count)]


def _constant_losses(setup: Setup, batches: list[tuple[Any, Any]]) -> np.ndarray:
    """Held-out losses of the constant output that is best on training examples; infinite where there is none."""
    start = setup.at_init
    fit = best_constant(setup, start.outputs, start.targets)
    if fit.unbounded or not np.isfinite(fit.loss):
        return np.full(sum(trees.leading_size(inputs) for inputs, _ in batches), np.inf)
    template = jax.tree.map(lambda leaf: leaf[: setup.batch_size], start.outputs)
    return np.concatenate([losses_at_constant(setup, fit.output, template, targets) for _, targets in batches])


def _blank(inputs: Any) -> Any:
    """Every input set to zero."""
    return jax.tree.map(jnp.zeros_like, inputs)


def _losses(setup: Setup, state: Any, batches: list[tuple[Any, Any]], key: PRNGKeyArray, *, blank: bool) -> np.ndarray:
    """Losses of every held-out example; of training and evaluation mode the one that is lower on average.

    Early in training the running statistics of a BatchNorm lag behind, which is not this check's question.
    """
    params, model_state = trees.copy(setup.loop.variables(state))
    by_mode = []
    for train in (False, True):
        parts = []
        for inputs, targets in batches:
            seen = _blank(inputs) if blank else inputs
            outputs, _ = setup.forward(params, model_state, seen, train=train, key=key)
            parts.append(np.asarray(setup.losses(outputs, targets), np.float64))
        by_mode.append(np.concatenate(parts))
    return min(by_mode, key=lambda losses: np.inf if np.isnan(losses.mean()) else losses.mean())


def _lead(real: np.ndarray, blank: np.ndarray) -> float:
    """How far the real inputs are ahead, in standard errors of the paired difference."""
    if np.isposinf(blank).all():
        return float("inf")
    difference = blank - real
    error = difference.std() / np.sqrt(len(difference))
    return float(difference.mean() / max(error, 1e-12)) if np.isfinite(difference).all() else float("-inf")
