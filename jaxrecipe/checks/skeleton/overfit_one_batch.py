"""Overfit one batch: a couple of examples, to the lowest loss that can be reached."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.constant_output import are_probabilities, best_constant, is_flat, wants_probabilities
from jaxrecipe.checks.lowest_loss import frequencies_given_input, lowest_losses
from jaxrecipe.checks.stopwatch import Stopwatch
from jaxrecipe.report.result import Curve, Result, Status, Table
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Target, Tokens

_result = partial(Result, name="overfit_one_batch", stage="skeleton")


def overfit_one_batch(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    examples: int = 8,
    closed: float = 0.95,
    nearly: float = 0.9,
    steps: int = 1500,
    patience: int = 200,
    seconds: float = 20.0,
) -> Result:
    """A couple of examples can be learnt by heart, with your own optimizer and your own training step.

    What it does: trains on a few examples (repeated to a full batch, without augmentation) with the training step that will really
    run, until the loss has closed the gap between knowing nothing and the lowest loss there is, and predictions and labels align. It
    stops as soon as that has happened, or when the loss has stalled. The lowest loss comes from your own loss at the best
    outputs, so label smoothing and noisy targets do not confuse it. A failure is taken apart: parameters that do not move, steps
    that go uphill, updates that are too small or too large, outputs that are dead or confined by an activation.

    Why it matters: a set-up that cannot learn eight examples by heart has a bug, and everything else would be built on top of it.

    What to do: follow the hint; it names what the failing run looks like. Plot the curve in the evidence.

    Args:
        setup: the set-up.
        key: seeds the steps.
        examples: how many different examples are learnt; fewer, two at least, where that would be more numbers than half of the parameters.
        closed: the share of the gap that must be closed.
        nearly: a run that stalls with this share closed, and of no known cause, is only a WARN: outputs that are bounded by design (normalised embeddings and a
            temperature) cannot reach the lowest loss of free outputs.
        steps: at most this many steps.
        patience: steps without progress after which the run counts as stalled.
        seconds: at most this much time, compiling and the work of others on the machine not counted; a run that is still falling then is a WARN.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "overfit one batch".
    """
    run = _train(setup, key, examples=examples, closed=closed, steps=steps, patience=patience, seconds=seconds)
    measured: dict[str, Any] = {
        "loss": run.best,
        "lowest loss there is": run.floor,
        "gap closed": run.closed,
        "steps": run.steps[-1],
    }
    expected: dict[str, Any] = {
        "gap closed": f"{closed:g} or more",
        "loss": f"{run.start - closed * (run.start - run.floor):.4g} or less",
    }
    if run.aligned is not None:
        measured["predictions right"], expected["predictions right"] = run.aligned, run.best_share
    status, finding, hint = _judge(setup, run, key, closed, nearly)
    curve = Curve(
        title="Loss on the few examples",
        x=np.asarray(run.steps),
        series={"training mode": np.asarray(run.training), "evaluation mode": np.asarray(run.evaluation)},
        y_label="loss",
        levels={"knowing nothing": run.start, "lowest there is": run.floor},
    )
    evidence = (curve,) if status is Status.PASS else (curve, _outputs_table(run))
    return _result(status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=evidence)


@dataclass
class Run:
    """How the attempt went; losses are per measurement, in step with `steps`."""

    floor: float
    best_share: float
    start: float
    state: Any
    inputs: Any
    targets: Any
    steps: list[int] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)
    outputs: Any = None
    aligned: float | None = None
    succeeded: bool = False
    stalled: bool = False
    out_of_time: bool = False

    @property
    def best(self) -> float:
        """Lowest mean loss reached in either mode."""
        return float(np.nanmin([*self.training, *self.evaluation], initial=np.inf))

    @property
    def closed(self) -> float:
        """Share of the gap between ignorance and the lowest loss that is closed now, at most 1."""
        now = min(self.training[-1], self.evaluation[-1])
        return float(min((self.start - now) / max(self.start - self.floor, 1e-12), 1.0))


def _train(
    setup: Setup, key: PRNGKeyArray, *, examples: int, closed: float, steps: int, patience: int, seconds: float
) -> Run:
    """Train on the few examples until success, stall or the budget's end."""
    inputs, targets = _few_examples(setup, min(examples, _expressible(setup)))
    state = setup.fresh_state()
    outputs, _ = setup.forward(setup.params, setup.model_state, inputs, train=True, key=key)
    constant = best_constant(setup, outputs, targets)
    floor, best_share = _floor(setup, outputs, inputs, targets)
    start = (
        constant.loss
        if np.isfinite(constant.loss) and not constant.unbounded
        else float(setup.losses(outputs, targets).mean())
    )
    run = Run(floor=floor, best_share=best_share, start=start, state=state, inputs=inputs, targets=targets)
    _measure(setup, run, 0, key)
    watch, best, best_step = Stopwatch(), run.best, 0
    for step in range(1, steps + 1):
        run.state, _ = setup.step(run.state, inputs, targets, jax.random.fold_in(key, step))
        if step == 1:  # compiling says nothing about how fast this learns
            jax.block_until_ready(run.state)
            watch = Stopwatch()
        if step > 10 and step % 10:
            continue
        _measure(setup, run, step, key)
        run.succeeded = run.closed >= closed and (run.aligned is None or run.aligned > run.best_share - 1e-6)
        if run.succeeded or not np.isfinite(run.training[-1]):
            break
        if run.best < best - 0.01 * abs(run.start - run.floor):
            best, best_step = run.best, step
        run.stalled = step - best_step >= patience
        run.out_of_time = watch.over(seconds)
        if run.stalled or run.out_of_time:
            break
    return run


def _expressible(setup: Setup) -> int:
    """How many examples a model has parameters for, two for each number that is predicted; two examples at least."""
    targets = jax.tree.leaves(setup.batch[1])
    numbers = sum(leaf.size for leaf in targets) / max(trees.leading_size(setup.batch[0]), 1)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(setup.params))
    return max(2, int(parameters / (2 * max(numbers, 1.0))))


def _few_examples(setup: Setup, examples: int) -> tuple[Any, Any]:
    """A full batch that holds only a few different examples, so that no new program is compiled.

    A loss that compares the examples of a batch gets the batch as it is: repetitions would have no right answer.
    """
    inputs, targets = setup.batch
    size = trees.leading_size(inputs)
    if setup.task.mixes_examples:
        return inputs, targets
    return trees.take((inputs, targets), jnp.arange(size) % min(examples, size))


def _floor(setup: Setup, outputs: Any, inputs: Any, targets: Any) -> tuple[float, float]:
    """The lowest mean loss and the largest share of right predictions that these examples allow.

    Equal inputs with different labels (the first tokens of several rows, conflicting duplicates) cannot all be predicted.
    """
    lowest = float(lowest_losses(setup, outputs, targets).mean())
    counts = frequencies_given_input(setup, outputs, inputs, targets)
    if counts is None or wants_probabilities(setup, outputs, targets):
        return lowest, 1.0
    shares = counts / counts.sum(axis=-1, keepdims=True)
    best = shares.max(axis=-1)
    if (best == 1).all():
        return lowest, 1.0
    informed = setup.losses(jnp.asarray(np.log(np.maximum(shares, 1e-13)), jnp.float32), targets)
    return max(lowest, float(informed.mean())), float(best.mean())


def _measure(setup: Setup, run: Run, step: int, key: PRNGKeyArray) -> None:
    """Loss in both modes and how many predictions are right, at the run's present state."""
    params, model_state = setup.loop.variables(run.state)
    by_mode = [setup.forward(params, model_state, run.inputs, train=train, key=key)[0] for train in (True, False)]
    losses = [float(setup.losses(outputs, run.targets).mean()) for outputs in by_mode]
    run.steps.append(step)
    run.training.append(losses[0])
    run.evaluation.append(losses[1])
    run.outputs = by_mode[int(losses[1] <= losses[0])]
    run.aligned = _aligned(setup, run.outputs, run.targets)


def _aligned(setup: Setup, outputs: Any, targets: Any) -> float | None:
    """Share of labels that are predicted right; None where the target is not a label or the metric is the user's own."""
    target = setup.task.target
    labelled = isinstance(target, (Classes, Binary, MultiLabel, Tokens)) if isinstance(target, Target) else False
    metrics = setup.task.all_metrics
    if not labelled or setup.task.metrics is not None or "accuracy" not in metrics:
        return None
    return float(metrics["accuracy"](outputs, targets).mean())


def _judge(setup: Setup, run: Run, key: PRNGKeyArray, closed: float, nearly: float) -> tuple[Status, str, str]:
    """Status, finding and hint of a run."""
    if _confined_loss(setup, run):
        finding = (
            f"No output at all scores less than {run.floor:.4g} in this loss; knowing nothing scores {run.start:.4g}."
        )
        return Status.FAIL, finding, TWICE_IN_LOSS
    if run.succeeded:
        return (
            Status.PASS,
            f"Learnt by heart in {run.steps[-1]} steps: loss {run.best:.3g}, the lowest there is {run.floor:.3g}.",
            "",
        )
    reached = f"After {run.steps[-1]} steps the loss is {run.training[-1]:.4g}; knowing nothing scores {run.start:.4g}, the lowest is {run.floor:.4g}"
    hint = _diagnosis(setup, run, key)
    if not np.isfinite(run.training[-1]):
        return (
            Status.FAIL,
            f"The loss is no longer finite after {run.steps[-1]} steps on the same few examples.",
            DIVERGED,
        )
    if run.closed >= closed and run.aligned is not None and run.aligned < 0.5:
        return (
            Status.FAIL,
            f"{reached}, yet only {100 * run.aligned:.0f} % of the predictions are right.",
            LOW_BUT_WRONG,
        )
    if run.stalled and run.closed >= closed and run.aligned is not None and run.aligned >= 0.9 * run.best_share:
        return (
            Status.PASS,
            f"{reached}: as good as learnt by heart, {100 * run.aligned:.0f} % of the predictions are right.",
            "",
        )
    if run.stalled and run.closed >= nearly and hint == UNKNOWN:
        return Status.WARN, f"{reached}: it stalled with {100 * run.closed:.0f} % of the gap closed.", hint
    if run.stalled or not run.out_of_time:
        return Status.FAIL, f"{reached}: it {'stalled' if run.stalled else 'is too slow'}.", hint
    return Status.WARN, f"{reached}: {100 * run.closed:.0f} % of the gap is closed and it was still falling.", hint


DIVERGED = "The learning rate is too high, or an operation overflows (log of zero, division by zero, half precision). Try a tenth of the learning rate."
STILL = "No parameter moves: the updates are computed and thrown away, everything is frozen, or the learning rate is zero (a schedule that starts at zero and counts in the wrong unit)."
UPHILL = "The training step goes uphill: its changes have a positive product with the gradient of the loss. The sign of the loss or of the update is flipped."
ZERO_GRADIENT = "The gradient of the loss is zero for every parameter: a softmax over a single output, a stop_gradient, dead activations, or a metric used as the loss."
FLAT_LOSS = "The loss is flat where the outputs are: its gradient with respect to the outputs is zero. It is clipped or saturated (clip gradients, not the loss), rounds, takes the softmax over a single output, or is a metric."
TWICE_IN_LOSS = "That floor is log(1 + (n - 1)/e), where a softmax (or sigmoid) applied twice ends: the loss squashes its outputs and then applies a softmax again. Give it the logits as they are."
TWICE = "The loss sits where a softmax applied twice ends, log(1 + (n - 1)/e): the model's outputs are probabilities and the loss applies a softmax again. Return logits from the model."
SIGMOID_TWICE = "The model's outputs are probabilities and the loss takes a sigmoid of them again, so it cannot get below 0.31: the sigmoid is applied twice. Return logits from the model."
CONFINED = "The outputs are never negative: an activation (ReLU, softmax, sigmoid) after the final layer confines them. Return the final layer's outputs as they are."
SAME = "All examples get the same output although their inputs differ: dead activations, an input that is ignored or blank, or a learning rate that killed the units in the first steps."
TOO_SMALL = "The parameters move too little at each step (updates are about {ratio:.1e} of their size; about 1e-3 is usual): the learning rate is too small, a clip is too tight, or a schedule is still near zero."
TOO_LARGE = "The parameters move a lot at each step (updates are about {ratio:.1e} of their size; about 1e-3 is usual): the learning rate is too high."
NOISY = "In training the model's own randomness moves its outputs more than the inputs do: dropout is far too strong (drop and keep rates mixed up?), or noise is added. Lower the dropout rate."
LOW_BUT_WRONG = "A low loss with wrong predictions: the sign of the loss is flipped, the loss reads other targets than the metric, or the classes are in another order."
REGULARISED = "The loss is reached in one mode but not in the other or hovers: look at strong dropout, weight decay that swamps the gradient, and noise in the step."
UNKNOWN = "Check that inputs and targets belong together and arrive at the model as they should, that the targets are what the loss expects, and that the model can express them."


def _diagnosis(setup: Setup, run: Run, key: PRNGKeyArray) -> str:
    """The first explanation that the failing run's own numbers support."""
    n = setup.task.target.n if isinstance(setup.task.target, Classes) else 0
    outputs = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(run.outputs)]
    if n > 1 and are_probabilities(run.outputs) and not wants_probabilities(setup, run.outputs, run.targets):
        return TWICE
    if isinstance(setup.task.target, (Binary, MultiLabel)) and _sigmoid_twice(setup, run, outputs):
        return SIGMOID_TWICE
    moved, along, gradient = _first_steps(setup, run, key)
    if moved == 0 and gradient > 0:
        return STILL
    if n > 1 and all((leaf >= 0).all() for leaf in outputs) and any((leaf == 0).mean() > 0.1 for leaf in outputs):
        return CONFINED
    if gradient == 0:
        return FLAT_LOSS if is_flat(setup, run.outputs, run.targets) else ZERO_GRADIENT
    if along > 0:
        return UPHILL
    if moved > 0.1:
        return TOO_LARGE.format(ratio=moved)
    if all(np.ptp(leaf, axis=0).max(initial=0.0) < 1e-6 * (1 + np.abs(leaf).max(initial=0.0)) for leaf in outputs):
        return SAME
    if _noise(setup, run, key) > 1.0:
        return NOISY
    if moved < 2e-4 or _still_falling(run):
        return TOO_SMALL.format(ratio=moved)
    return REGULARISED if abs(run.training[-1] - run.evaluation[-1]) > 0.2 * abs(run.start - run.floor) else UNKNOWN


def _sigmoid_twice(setup: Setup, run: Run, outputs: list[np.ndarray]) -> bool:
    """Whether all outputs lie in [0, 1] though a right and certain answer there is far from the lowest loss."""
    if not all(((leaf >= 0) & (leaf <= 1)).all() for leaf in outputs) or not isinstance(run.outputs, jax.Array):
        return False
    certain = jnp.asarray(run.targets).reshape(run.outputs.shape).astype(run.outputs.dtype)
    return bool(float(setup.losses(certain, run.targets).mean()) > run.floor + 0.5 * (run.start - run.floor))


def _confined_loss(setup: Setup, run: Run) -> bool:
    """Whether the loss itself has the floor of a softmax applied twice, whatever the model gives it."""
    if not isinstance(setup.task.target, Classes):
        return False
    floor = np.log1p((setup.task.target.n - 1) / np.e)
    return bool(abs(run.floor - floor) < 0.01 * floor)


def _first_steps(setup: Setup, run: Run, key: PRNGKeyArray, steps: int = 10) -> tuple[float, float, float]:
    """Mean relative size of the first steps' changes, the product of the first change with the gradient, the gradient's norm."""
    state = setup.fresh_state()
    before, model_state = trees.copy(setup.loop.variables(state))
    _, gradient = setup.gradients(before, model_state, run.inputs, run.targets, key=key, train=True)
    sizes, along = [], 0.0
    for step in range(steps):
        state, _ = setup.step(state, run.inputs, run.targets, jax.random.fold_in(key, step))
        after = trees.copy(setup.loop.variables(state)[0])
        change = jax.tree.map(lambda new, old: new.astype(jnp.float32) - old.astype(jnp.float32), after, before)
        sizes.append(float(trees.global_norm(change)) / max(float(trees.global_norm(before)), 1e-12))
        if along == 0.0 and sizes[-1] > 0:
            along = sum(
                float(jnp.vdot(c, g.astype(jnp.float32)))
                for c, g in zip(*map(jax.tree.leaves, (change, gradient)), strict=True)
            )
        before = after
    return float(np.mean(sizes)), along, float(trees.global_norm(gradient))


def _noise(setup: Setup, run: Run, key: PRNGKeyArray, draws: int = 8) -> float:
    """How much the outputs in training mode differ from draw to draw, relative to how much their means differ between the examples."""
    params, model_state = setup.loop.variables(run.state)
    drawn = []
    for draw in range(draws):
        outputs, _ = setup.forward(params, model_state, run.inputs, train=True, key=jax.random.fold_in(key, draw))
        leaves = [
            np.asarray(leaf, np.float64).reshape(trees.leading_size(leaf), -1) for leaf in jax.tree.leaves(outputs)
        ]
        drawn.append(np.concatenate(leaves, axis=1))
    stacked = np.stack(drawn)
    within, between = stacked.std(axis=0).mean(), stacked.mean(axis=0).std(axis=0).mean()
    return float(within / max(between, 1e-12))


def _still_falling(run: Run) -> bool:
    """Whether the loss above its floor was still on its way down at the end: the last tenth clearly below the tenth before."""
    tenth = len(run.training) // 10
    if tenth < 2:
        return False
    above = np.asarray(run.training) - run.floor
    return bool(np.median(above[-tenth:]) < 0.98 * np.median(above[-2 * tenth : -tenth]))


def _outputs_table(run: Run) -> Table:
    """What the model says about each of the few examples at the end."""
    leaf = np.asarray(jax.tree.leaves(run.outputs)[0], np.float64)
    targets = np.asarray(jax.tree.leaves(run.targets)[0])
    rows = [
        (
            i,
            np.array2string(np.ravel(targets[i])[:8], precision=3),
            np.array2string(np.ravel(leaf[i])[:10], precision=3, max_line_width=200),
        )
        for i in range(min(8, len(leaf)))
    ]
    return Table(title="Targets and outputs at the end", columns=("example", "target", "output"), rows=rows)
