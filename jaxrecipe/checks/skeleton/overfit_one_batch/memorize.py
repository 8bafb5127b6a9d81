"""Training on a few examples until they are memorized, with the step that will really run; and how that went."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.overfit_one_batch.few_examples import all_alike, few_examples, mean_loss, outputs_of
from jaxrecipe.checks.skeleton.overfit_one_batch.plain_adam import plain_adam
from jaxrecipe.probes.constant_predictor import best_constant
from jaxrecipe.probes.minimum_loss import Minimum, minimum_achievable
from jaxrecipe.probes.other_rates import TakeStep, other_start, plain_step, step_at_rate
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Metric, default_metrics, heads

EVERY_STEP_UNTIL = 10
"""The first steps are all measured, since they show what kind of failure it is."""
MEASURED_EVERY = 10
ALL = 1.0 - 1e-6
"""The whole of an accuracy, up to rounding in float32."""
PROGRESS = 0.01
"""Share of the gap by which the loss must fall to count as progress."""
NO_GAP = 1e-3
"""A gap of less than this share of what the untrained model scores is none: constants do as well as free outputs."""
BY_TRIAL = "a constant output scores as little as the best ones"
"""Why the minimum is not known where there is no gap between free outputs and constant ones."""


@dataclass
class Run:
    """How the attempt went.

    Attributes:
        minimum: the minimum achievable loss on these examples, or what stands in for it.
        undetermined: why the minimum achievable loss is not known; empty where it is.
        best_accuracy: by head, the largest accuracy that these examples allow; below 1 where equal inputs have
            different labels. Empty where there are no labels.
        uninformed: the constant predictor's loss on them; the untrained model's where the minimum was found by trial.
        state: the loop's state at the end.
        inputs, targets: the examples.
        batches: the same examples as the step takes them.
        steps: after which the losses were measured.
        training, evaluation: mean losses in either mode, one a measurement.
        moved: how far a step moved the parameters, relative to their size; one a measurement but the first.
        outputs: on the examples at the end, in the mode with the lower loss.
        accuracy: by head, the share of right predictions at the end.
        memorized: whether the gap is closed and the predictions are right.
        stalled: whether it ended for want of progress.
    """

    minimum: float
    best_accuracy: dict[str, float]
    uninformed: float
    state: Any
    inputs: Any
    targets: Any
    batches: list[tuple[Any, Any]]
    undetermined: str = ""
    steps: list[int] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    outputs: Any = None
    accuracy: dict[str, float] = field(default_factory=dict)
    memorized: bool = False
    stalled: bool = False

    @property
    def gap(self) -> float:
        """From the constant predictor's loss to the minimum achievable one."""
        return self.uninformed - self.minimum

    @property
    def best(self) -> float:
        """Lowest mean loss reached in either mode."""
        return float(np.fmin.reduce([*self.training, *self.evaluation], initial=np.inf))

    @property
    def closed(self) -> float:
        """Fraction of the gap that is closed now, at most 1."""
        return self.fraction_closed(min(self.training[-1], self.evaluation[-1]))

    @property
    def closed_in_training(self) -> float:
        """Fraction of the gap that is closed now in training mode."""
        return self.fraction_closed(self.training[-1])

    @property
    def reached(self) -> float:
        """The largest fraction of the gap that was closed at any time."""
        return self.fraction_closed(self.best)

    def right(self, share: float, *, least: float = 0.0) -> bool:
        """Whether the accuracy of every head is that share of the best one, and `least` at least."""
        return all(self.accuracy[head] >= max(share * best, least) for head, best in self.best_accuracy.items())

    def fraction_closed(self, loss: float) -> float:
        """Fraction of the gap that a loss closes, at most 1."""
        return float(min((self.uninformed - loss) / max(self.gap, 1e-12), 1.0))


def memorize(setup: Setup, key: PRNGKeyArray, *, examples: int, closed: float, steps: int, patience: int) -> Run:
    """Train on a few examples until success, stall or the last step; the arguments are those of `overfit_one_batch`."""
    run = _start(setup, key, examples)
    return _train(setup, run, plain_step(setup), key, closed=closed, steps=steps, patience=patience)


def again(
    setup: Setup, run: Run, key: PRNGKeyArray, *, start: int, factor: float, closed: float, steps: int, patience: int
) -> Run | None:
    """The same examples from another start or at another rate; None where the rate of this loop cannot be changed.

    Args:
        setup: the set-up.
        run: the run that is repeated.
        key: seeds the steps.
        start: 0 for the same initial parameters, other numbers for others.
        factor: times the learning rate.
        closed: as `overfit_one_batch` has it.
        steps: likewise.
        patience: likewise.
    """
    take = step_at_rate(setup, factor)
    if take is None:
        return None
    run = replace(run, state=other_start(setup, start), memorized=False, stalled=False)
    fresh = replace(run, steps=[], training=[], evaluation=[], moved=[])
    return _train(setup, fresh, take, jax.random.fold_in(key, start), closed=closed, steps=steps, patience=patience)


def _train(
    setup: Setup, run: Run, take: TakeStep, key: PRNGKeyArray, *, closed: float, steps: int, patience: int
) -> Run:
    """Take steps until success, stall or the last one; `run` is filled."""
    _measure(setup, run, 0, key)
    best, best_step = run.best, 0
    for step in range(1, steps + 1):
        measured = step <= EVERY_STEP_UNTIL or step % MEASURED_EVERY == 0
        before = trees.copy(setup.loop.variables(run.state)[0]) if measured else None
        batch = run.batches[step % len(run.batches)]
        run.state = take(run.state, *batch, jax.random.fold_in(key, step))
        if not measured:
            continue
        run.moved.append(float(relative_change(before, setup.loop.variables(run.state)[0])))
        _measure(setup, run, step, key)
        run.memorized = run.closed >= closed and run.right(ALL)
        if run.best < best - PROGRESS * abs(run.gap):
            best, best_step = run.best, step
        run.stalled = not run.memorized and step - best_step >= patience
        if run.memorized or run.stalled or not np.isfinite(run.training[-1]):
            break
    return run


def _start(setup: Setup, key: PRNGKeyArray, examples: int) -> Run:
    """The examples, what a constant predictor and a perfect one score on them, and a fresh state.

    Where a constant output is perfect, the examples are augmented, which may be what gives them their targets; and
    where it is so still, what plain Adam reaches is what can be reached.
    """
    run, untrained = _on_examples(setup, key, examples, augmented=False)
    if not _no_gap(run, untrained):
        return run
    if setup.task.augment is not None:
        run, untrained = _on_examples(setup, key, examples, augmented=True)
    if not _no_gap(run, untrained):
        return run
    reached = plain_adam(setup, setup.variables, (run.inputs, run.targets), key).loss
    return replace(run, uninformed=untrained, minimum=min(reached, untrained), undetermined=BY_TRIAL)


def _no_gap(run: Run, untrained: float) -> bool:
    """Whether a constant output is as good as any, though the untrained model is worse, and inputs differ."""
    return abs(run.gap) <= NO_GAP * abs(untrained) and not all_alike(run.inputs)


def _on_examples(setup: Setup, key: PRNGKeyArray, examples: int, *, augmented: bool) -> tuple[Run, float]:
    """A run that has not begun, and what the untrained model scores on its examples."""
    inputs, targets, batches = few_examples(setup, examples, augmented=augmented)
    outputs = outputs_of(setup, setup.variables, batches, train=True, key=key)
    untrained = mean_loss(setup, outputs, targets)
    constant = best_constant(setup, outputs, targets)
    uninformed = constant.loss if constant.exists else untrained
    best = Minimum(np.nan, {})
    if np.isfinite(constant.loss) or np.isfinite(uninformed):
        best = minimum_achievable(setup, outputs, inputs, targets)
    run = Run(
        minimum=best.loss,
        best_accuracy={head: best.accuracy.get(head, 1.0) for head in _accuracy_metrics(setup)},
        uninformed=uninformed,
        state=setup.fresh_state(),
        inputs=inputs,
        targets=targets,
        batches=batches,
    )
    return run, untrained


@jax.jit
def relative_change(before: Any, after: Any) -> Float[Array, ""]:
    """Norm of the change of the parameters over the norm of the parameters."""
    change = jax.tree.map(lambda new, old: new.astype(jnp.float32) - old.astype(jnp.float32), after, before)
    return trees.global_norm(change) / jnp.maximum(trees.global_norm(before), 1e-12)


def _measure(setup: Setup, run: Run, step: int, key: PRNGKeyArray) -> None:
    """Loss in both modes and how many predictions are right, at the run's present state."""
    variables = setup.loop.variables(run.state)
    by_mode = [outputs_of(setup, variables, run.batches, train=train, key=key) for train in (True, False)]
    losses = [mean_loss(setup, outputs, run.targets) for outputs in by_mode]
    run.steps.append(step)
    run.training.append(losses[0])
    run.evaluation.append(losses[1])
    run.outputs = by_mode[int(losses[1] <= losses[0])]
    run.accuracy = _accuracy(setup, run.outputs, run.targets)


def _accuracy(setup: Setup, outputs: Any, targets: Any) -> dict[str, float]:
    """Share of predictions that are right, by head."""
    metrics = _accuracy_metrics(setup)
    if not metrics:
        return {}
    program = setup.memo(
        (_accuracy, "program"),
        lambda: jax.jit(lambda outputs, targets: {path: metric(outputs, targets) for path, metric in metrics.items()}),
    )
    return {path: float(np.asarray(hits, np.float64).mean()) for path, hits in program(outputs, targets).items()}


def _accuracy_metrics(setup: Setup) -> dict[str, Metric]:
    """The accuracy of each head with labels, by path; nothing where the metrics are the user's own."""
    if setup.task.metrics is not None:
        return {}
    metrics = default_metrics(setup.task.target)
    labeled = [head.path for head in heads(setup.task.target) if head.behavior.labeled]
    return {path: metrics[f"{path}/accuracy" if path else "accuracy"] for path in labeled}
