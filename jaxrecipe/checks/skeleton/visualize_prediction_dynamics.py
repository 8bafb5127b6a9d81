"""Visualize prediction dynamics: the predictions on one fixed batch, at every step of the first training steps."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.report.result import Curve, Result, Status, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="visualize_prediction_dynamics", stage="skeleton")
FAR = 10.0
"""A loss that grows this many times within the steps, where shorter steps would have lowered it, is no accident."""
FARTHER = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""How many times as far as the steps went the loss is looked at, along the line that they took."""
SHORTER = (0.001, 0.01, 0.1)
"""Parts of a single step at which the loss is looked at."""
MOST_NUMBERS = 4096
"""Numbers of the predictions that are followed; evenly spread where there are more."""


def visualize_prediction_dynamics(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 40,
    farther_fail: float = 100.0,
    farther_warn: float = 30.0,
    jump: float = 3.0,
    noise: float = 0.5,
    seconds: float = 20.0,
) -> Result:
    """The predictions on a fixed batch move steadily: neither to and fro nor hardly at all.

    What it does: takes the first steps with your own training step on successive batches and follows the predictions on one fixed batch at every
    step: how much of their way is to and fro (jitter), and whether one step takes back what the last one did. It notes the loss of each step's
    own batch before and after the step, then looks at the loss along the lines that were taken: at parts of the first step, which tells a step
    that is too long from one in a wrong direction, and at 3 to 1000 times the whole way, which tells a learning rate that is far too low from a
    problem that is hard. A schedule that is still warming up is recognised by updates that keep growing. For very small batches it measures
    how much of a step's gradient is noise.

    Why it matters: too high a learning rate shows as predictions that jump to and fro long before the averaged loss does; too low a one as
    predictions that barely move, with a loss that goes down so nicely that nobody asks how far it could have gone.

    What to do: draw the curves in the evidence. Change the learning rate by factors of three to ten in the direction that the hint names.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: training steps that are followed.
        farther_fail: FAIL when the loss is lowest this many times as far along the line that the steps took, or farther, and they gained
            less than a twenty-fifth of what was to gain there. A usual learning rate is within a factor of ten of that point.
        farther_warn: WARN from this many times on, when less than a tenth was gained.
        jump: WARN when the loss on the fixed batch grows to this many times what it was, while a shorter first step would have lowered it;
            FAIL at ten times, or when nothing is gained in the end.
        noise: WARN when more than this share of a step's gradient is noise and a batch holds one or two examples.
        seconds: after this much time no more steps are taken.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "visualize prediction dynamics".
    """
    run = _train(setup, key, steps, seconds)
    ahead, first = _ahead(setup, key, run), _first(setup, key, run)
    share = (
        _gradient_noise(setup, key) if setup.batch_size <= 2 < setup.train.size / 8 and (run.moved > 0).all() else 0.0
    )
    measured: dict[str, Any] = {
        "loss on the fixed batch, start": float(run.fixed[0]),
        "loss on the fixed batch, end": run.last,
        "largest loss on the fixed batch": float(run.fixed.max()),
        "jitter": run.jitter,
        "turning back": run.turning,
        "steps that raise the loss of their own batch": float((run.own[:, 1] > run.own[:, 0]).mean()),
    }
    expected: dict[str, Any] = {"largest loss on the fixed batch": f"up to {jump:g} times the start"}
    if len(ahead):
        gain = ahead[0] - ahead
        measured["lowest loss along the line, times as far"] = _best(ahead)
        measured["gained of what was to gain"] = float(gain[1] / gain.max()) if gain.max() > 0 else 1.0
        expected["lowest loss along the line, times as far"] = f"below {farther_warn:g}"
    if share:
        measured["share of noise in a step's gradient"] = share
        expected["share of noise in a step's gradient"] = f"up to {noise:g}"
    limits = Limits(farther_fail=farther_fail, farther_warn=farther_warn, jump=jump, steps=steps)
    status, finding, hint = _judge(run, ahead, first, limits)
    if status is Status.PASS and share > noise:
        finding = f"{share:.0%} of a step's gradient is noise, at a batch size of {setup.batch_size}."
        status, hint = Status.WARN, NOISY.format(size=setup.batch_size)
    return _result(
        status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=_evidence(run, ahead)
    )


class Limits(NamedTuple):
    """Thresholds of the check."""

    farther_fail: float
    farther_warn: float
    jump: float
    steps: int


@dataclass(frozen=True)
class Run:
    """The steps that were taken.

    Attributes:
        own: `[steps, 2]`, the loss of each step's own batch, before and after the step, in training mode.
        fixed: `[steps + 1]`, the loss of the fixed batch.
        predictions: `[steps + 1, examples, numbers]`, the predictions on it.
        moved: `[steps]`, how far the parameters moved.
        start, end: the parameters before and after the steps.
        before_first, first, first_step: the parameters around the first step that moved them, and which it was.
    """

    own: np.ndarray
    fixed: np.ndarray
    predictions: np.ndarray
    moved: np.ndarray
    start: Any
    end: Any
    before_first: Any
    first: Any
    first_step: int

    @property
    def finite(self) -> bool:
        """Whether all losses and predictions are numbers."""
        return bool(
            np.isfinite(self.own).all() and np.isfinite(self.fixed).all() and np.isfinite(self.predictions).all()
        )

    @property
    def last(self) -> float:
        """Median loss on the fixed batch over the last quarter of the steps."""
        return float(np.median(self.fixed[-max(1, len(self.own) // 4) :]))

    @property
    def changes(self) -> Float[np.ndarray, "steps numbers"]:
        """What each step changed in the predictions."""
        return np.diff(self.predictions.reshape(len(self.predictions), -1).astype(np.float64), axis=0)

    @property
    def jitter(self) -> float:
        """Share of the way of the predictions that led nowhere: one less the net distance over the distance covered."""
        covered = np.linalg.norm(self.changes, axis=1).sum()
        return float(1 - np.linalg.norm(self.changes.sum(axis=0)) / covered) if self.finite and covered > 0 else 0.0

    @property
    def turning(self) -> float:
        """Mean cosine between a change of the predictions and the next one; -1 goes to and fro, 1 straight on."""
        if not self.finite or len(self.changes) < 2:
            return 0.0
        sizes = np.linalg.norm(self.changes, axis=1)
        products = (self.changes[1:] * self.changes[:-1]).sum(axis=1)
        return float(np.mean(products / np.maximum(sizes[1:] * sizes[:-1], 1e-300)))

    @property
    def restless(self) -> float:
        """Size of a change in the second half of the steps, as a share of the spread of the predictions."""
        half = self.changes[len(self.changes) // 2 :]
        spread = np.std(self.predictions[-1].astype(np.float64)) * np.sqrt(half.shape[1])
        return float(np.linalg.norm(half, axis=1).mean() / max(spread, 1e-300)) if self.finite else np.inf

    @property
    def warming_up(self) -> bool:
        """Whether the updates still grow: those of the last quarter against those of the second."""
        quarters = [quarter.mean() for quarter in np.array_split(self.moved, 4)] if len(self.moved) >= 8 else [1.0] * 4
        return bool(quarters[3] > 1.5 * quarters[1])


TOO_HIGH = "The learning rate is far too high: a part of the first step lowers the loss of its own batch, the whole step jumps over. Try a tenth, then a hundredth, and a warm-up."
BLOWN_UP = "Training diverges: the learning rate is far too high, or an operation overflows (log of zero, half precision). Try a hundredth of the learning rate."
UPHILL = "The steps go uphill however short they are: the sign of the loss or of the update is flipped, or the step optimizes something other than the task's loss."
TO_AND_FRO = "Each step takes back much of what the last one did: the learning rate is probably too high (or the batch very small). Try a third of it."
TOO_LOW = (
    "The learning rate is far too low (or a clip too tight, a schedule still near zero, counted in epochs instead of steps): {factor:g} times as far in the same direction the loss "
    "would be {lowest:.3g} instead of {reached:.3g}. Try {factor:g} times the learning rate, or less by a factor of three."
)
STILL = (
    "No parameter moves: the updates are computed and thrown away, everything is frozen, or the learning rate is zero."
)
NOISY = "A batch of {size} makes every step follow a single example: use a larger batch (or accumulate gradients over several); BatchNorm has no statistics to speak of in a batch of one."


def _judge(run: Run, ahead: np.ndarray, first: np.ndarray, limits: Limits) -> tuple[Status, str, str]:
    """Status, finding and hint."""
    start, steps = float(run.fixed[0]), len(run.own)
    size = max(abs(start), 1e-12)
    if not run.finite:
        return Status.FAIL, f"The loss or the predictions are no longer finite after {steps} steps.", BLOWN_UP
    if not run.moved.any():
        return Status.FAIL, f"No parameter moved in {steps} steps.", STILL
    gained, raised = start - run.last, float((run.own[:, 1] > run.own[:, 0]).mean())
    told = f"The loss on a fixed batch goes from {start:.4g} to {run.last:.4g} in {steps} steps"
    shorter_helps = len(first) > 0 and first[1:-1].min() < first[0]
    if raised > 0.9 and gained < 0 and not shorter_helps:
        return Status.FAIL, f"{told}, and {raised:.0%} of the steps raise the loss of their own batch.", UPHILL
    peak = float(run.fixed.max())
    jumped = peak > start + (limits.jump - 1) * size
    if (jumped or raised > 0.3) and shorter_helps:
        lost = gained < 0.1 * size or peak > start + (FAR - 1) * size
        text = f"{told}, by way of {peak:.4g}; {raised:.0%} of the steps raise the loss of their own batch."
        return (Status.FAIL if lost else Status.WARN), text, TOO_HIGH
    if run.turning < -0.4 and run.jitter > 0.9 and run.restless > 0.2:
        text = f"The predictions go to and fro: {run.jitter:.0%} of their way led nowhere, and steps point against the last one."
        return Status.WARN, text, TO_AND_FRO
    low = _too_low(run, ahead, limits)
    if low is not None:
        factor, best = _best(ahead), float(ahead.min())
        text = f"{told}, a small part of what was to gain: {factor:g} times as far the training loss would be {best:.4g}, not {ahead[1]:.4g}."
        return low, text, TOO_LOW.format(factor=factor, lowest=best, reached=ahead[1])
    warm = "; the updates still grow, as in a warm-up" if run.warming_up else ""
    return Status.PASS, f"{told}, with {run.jitter:.0%} of jitter{warm}.", ""


def _too_low(run: Run, ahead: np.ndarray, limits: Limits) -> Status | None:
    """Whether the steps were far too short, by the loss along the line that they took."""
    if run.warming_up or not len(ahead):
        return None
    gain = ahead[0] - ahead
    if gain.max() < 0.05 * max(abs(ahead[0]), 1e-12):
        return None
    taken = len(run.own) / limits.steps  # where time ran out, as far as all steps would have gone
    share, factor = gain[1] / gain.max() / taken, _best(ahead) * taken
    if factor >= limits.farther_fail and share < 0.04:
        return Status.FAIL
    return Status.WARN if factor >= limits.farther_warn and share < 0.1 else None


def _best(ahead: np.ndarray) -> float:
    """How many times as far as the steps went the loss is lowest."""
    return FARTHER[int(np.nanargmin(ahead[1:]))] if np.isfinite(ahead[1:]).any() else 1.0


def _train(setup: Setup, key: PRNGKeyArray, steps: int, seconds: float) -> Run:
    """Take the steps with the set-up's own training step, and look at everything before and after each."""
    probe, began = _fixed_batch(setup), 0.0
    state = setup.fresh_state()
    params, model_state = trees.copy(setup.loop.variables(state))
    start, around_first, first_step = params, (params, None), 0
    own, moved, looks = [], [], [_look(setup, key, params, model_state, probe)]
    for step in range(steps):
        batch = setup.training_batch(step)
        step_key = jax.random.fold_in(key, step)
        before = setup.mean_loss(params, model_state, *batch, train=True, key=step_key)
        state, _ = setup.step(state, *batch, step_key)
        after, model_state = trees.copy(setup.loop.variables(state))
        own.append((before, setup.mean_loss(after, model_state, *batch, train=True, key=step_key)))
        moved.append(float(_distance(params, after)))
        if around_first[1] is None and moved[-1] > 0:
            around_first, first_step = (params, after), step
        params = after
        looks.append(_look(setup, key, params, model_state, probe))
        began = began or time.perf_counter()  # the first step compiles, which says nothing about the others
        if not np.isfinite(own[-1]).all() or (step >= 10 and time.perf_counter() - began > seconds):
            break
    return Run(
        own=np.array(own),
        fixed=np.array([loss for loss, _ in looks]),
        predictions=np.stack([numbers for _, numbers in looks]),
        moved=np.array(moved),
        start=start,
        end=params,
        before_first=around_first[0],
        first=around_first[1],
        first_step=first_step,
    )


def _look(setup: Setup, key: PRNGKeyArray, params: Any, model_state: Any, probe: Any) -> tuple[float, np.ndarray]:
    """Loss and predictions on the fixed batch; with its own statistics where the model keeps some, since running ones lag behind."""
    train = bool(jax.tree.leaves(model_state))
    outputs, _ = setup.forward(params, model_state, probe[0], train=train, key=key)
    return float(setup.losses(outputs, probe[1]).mean()), _numbers(outputs)


def _fixed_batch(setup: Setup) -> tuple[Any, Any]:
    """One batch that is not trained on, where there are test data."""
    split, source = ("train", setup.train) if setup.test is None else ("test", setup.test)
    return setup.prepared(split, np.resize(np.arange(source.size), setup.batch_size))


def _numbers(outputs: Any) -> Float[np.ndarray, "examples numbers"]:
    """The floating outputs of each example in one row, thinned out evenly."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(outputs) if trees.is_floating(leaf)]
    rows = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
    return rows[:, :: max(1, rows.size // MOST_NUMBERS)]


@jax.jit
def _distance(before: Any, after: Any) -> Float[Array, ""]:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return trees.global_norm([b.astype(jnp.float32) - a.astype(jnp.float32) for a, b in pairs if trees.is_floating(a)])


@jax.jit
def _along(start: Any, end: Any, factor: Float[Array, ""]) -> Any:
    """Parameters on the line through two others."""

    def move(a: Array, b: Array) -> Array:
        if not trees.is_floating(a):
            return a
        return (a.astype(jnp.float32) + factor * (b.astype(jnp.float32) - a.astype(jnp.float32))).astype(a.dtype)

    return jax.tree.map(move, start, end)


def _ahead(setup: Setup, key: PRNGKeyArray, run: Run, batches: int = 4) -> Float[np.ndarray, "points"]:
    """Training loss at the start and at multiples of the whole way; nothing where the run broke down or stood still."""
    if not run.finite or not run.moved.any():
        return np.zeros(0)
    data = [setup.training_batch(step) for step in range(batches)]

    def loss(factor: float) -> float:
        params = _along(run.start, run.end, np.float32(factor))
        return float(np.mean([setup.mean_loss(params, setup.model_state, *one, train=True, key=key) for one in data]))

    with np.errstate(all="ignore"):
        return np.array([loss(factor) for factor in (0.0, *FARTHER)])


def _first(setup: Setup, key: PRNGKeyArray, run: Run) -> Float[np.ndarray, "points"]:
    """Loss of its own batch along the first step that moved: before it, at parts of it, after it."""
    if run.first is None:
        return np.zeros(0)
    batch, step_key = setup.training_batch(run.first_step), jax.random.fold_in(key, run.first_step)

    def loss(factor: float) -> float:
        params = _along(run.before_first, run.first, np.float32(factor))
        return setup.mean_loss(params, setup.model_state, *batch, train=True, key=step_key)

    return np.array([loss(factor) for factor in (0.0, *SHORTER, 1.0)])


def _gradient_noise(setup: Setup, key: PRNGKeyArray, batches: int = 16) -> float:
    """Share of the squared size of a batch's gradient that the next batch's does not share, at the initial parameters."""
    sizes, products, last = [], [], None
    for step in range(batches):
        _, gradient = setup.gradients(setup.params, setup.model_state, *setup.training_batch(step), key=key, train=True)
        sizes.append(float(_product(gradient, gradient)))
        if last is not None:
            products.append(float(_product(gradient, last)))
        last = gradient
    return float(np.clip(1 - np.mean(products) / max(np.mean(sizes), 1e-300), 0.0, 1.0))


@jax.jit
def _product(a: Any, b: Any) -> Float[Array, ""]:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum((jnp.vdot(x.astype(jnp.float32), y.astype(jnp.float32)) for x, y in pairs), jnp.float32(0))


def _evidence(run: Run, ahead: np.ndarray, most: int = 6) -> tuple[Curve, ...]:
    """The predictions, the losses, and the loss along the line."""
    steps = np.arange(len(run.predictions))
    followed = np.nan_to_num(np.ptp(run.predictions, axis=0)).argmax(axis=1)
    lines = {f"example {i}": run.predictions[:, i, followed[i]] for i in range(min(most, run.predictions.shape[1]))}
    losses = {"fixed batch": run.fixed[1:], "own batch, before": run.own[:, 0], "own batch, after": run.own[:, 1]}
    found = [
        Curve(
            title="Predictions on a fixed batch, step by step", x=steps, series=lines, y_label="output that moves most"
        ),
        Curve(title="Loss of the first steps", x=steps[1:], series=losses, y_label="loss"),
    ]
    if len(ahead):
        title = "Training loss farther along the line that the steps took"
        level = {"start": float(ahead[0])}
        x = np.log10(np.array(FARTHER))
        found.append(
            Curve(
                title=title,
                x=x,
                series={"loss": ahead[1:]},
                x_label="log10 of times as far",
                y_label="loss",
                levels=level,
                log_y=True,
            )
        )
    return tuple(found)
