"""Training on a few examples until they are memorized, with the step that will really run; and how that went."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.constant_predictor import best_constant
from jaxrecipe.probes.minimum_loss import Minimum, minimum_achievable
from jaxrecipe.probes.reading import random_rows
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Metric, default_metrics, heads

SINGLES = 4
"""Examples that a step which takes one at a time is given in turn: with one alone, a constant would be perfect."""
NUMBERS_PER_PARAMETER = 0.5
"""Targets may hold at most this many numbers a parameter: more, and no model of that size could memorize them."""
EVERY_STEP_UNTIL = 10
"""The first steps are all measured, since they show what kind of failure it is."""
MEASURED_EVERY = 10
ALL = 1.0 - 1e-6
"""The whole of an accuracy, up to rounding in float32."""
PROGRESS = 0.01
"""Share of the gap by which the loss must fall to count as progress."""


@dataclass
class Run:
    """How the attempt went.

    Attributes:
        minimum: the minimum achievable loss on these examples.
        best_accuracy: by head, the largest accuracy that these examples allow; below 1 where equal inputs have
            different labels. Empty where there are no labels.
        uninformed: the constant predictor's loss on them.
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

    def right(self, share: float, *, least: float = 0.0) -> bool:
        """Whether the accuracy of every head is that share of the best one, and `least` at least."""
        return all(self.accuracy[head] >= max(share * best, least) for head, best in self.best_accuracy.items())

    def fraction_closed(self, loss: float) -> float:
        """Fraction of the gap that a loss closes, at most 1."""
        return float(min((self.uninformed - loss) / max(self.gap, 1e-12), 1.0))


def memorize(setup: Setup, key: PRNGKeyArray, *, examples: int, closed: float, steps: int, patience: int) -> Run:
    """Train on a few examples until success, stall or the last step; the arguments are those of `overfit_one_batch`."""
    run = _start(setup, key, examples)
    _measure(setup, run, 0, key)
    best, best_step = run.best, 0
    for step in range(1, steps + 1):
        measured = step <= EVERY_STEP_UNTIL or step % MEASURED_EVERY == 0
        before = trees.copy(setup.loop.variables(run.state)[0]) if measured else None
        batch = run.batches[step % len(run.batches)]
        run.state, _ = setup.step(run.state, *batch, jax.random.fold_in(key, step))
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
    """The examples, what a constant predictor and a perfect one score on them, and a fresh state."""
    inputs, targets, batches = _few_examples(setup, min(examples, _expressible(setup)))
    outputs = outputs_of(setup, setup.variables, batches, train=True, key=key)
    constant = best_constant(setup, outputs, targets)
    uninformed = constant.loss if constant.exists else mean_loss(setup, outputs, targets)
    best = Minimum(np.nan, {})
    if np.isfinite(constant.loss) or np.isfinite(uninformed):
        best = minimum_achievable(setup, outputs, inputs, targets)
    return Run(
        minimum=best.loss,
        best_accuracy={head: best.accuracy.get(head, 1.0) for head in _accuracy_metrics(setup)},
        uninformed=uninformed,
        state=setup.fresh_state(),
        inputs=inputs,
        targets=targets,
        batches=batches,
    )


def _expressible(setup: Setup) -> int:
    """How many examples a model has parameters for, two examples at least."""
    targets = jax.tree.leaves(setup.batch[1])
    numbers = sum(leaf.size for leaf in targets) / max(trees.leading_size(setup.batch[0]), 1)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(setup.params))
    return max(2, int(NUMBERS_PER_PARAMETER * parameters / max(numbers, 1.0)))


def _few_examples(setup: Setup, examples: int) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """Inputs, targets, and both as full batches that hold only a few different examples: no new program is compiled.

    A loss that compares the examples of a batch gets the batch as it is: repetitions would have no right answer. Where
    a batch is one example, several batches are put together, to be learned in turn.
    """
    size = setup.batch_size
    if setup.task.mixes_examples:
        return *setup.batch, [setup.batch]
    if size == 1:
        inputs, targets = setup.prepared("train", random_rows(setup, "train", min(examples, SINGLES)))
        on_host = jax.tree.map(np.asarray, (inputs, targets))
        singles = [trees.take(on_host, np.arange(i, i + 1)) for i in range(trees.leading_size(inputs))]
        return inputs, targets, jax.device_put(singles)
    on_host = jax.tree.map(np.asarray, setup.batch)
    chosen = _differing(on_host[1], min(examples, size))
    batch = jax.device_put(trees.take(on_host, chosen[np.arange(size) % len(chosen)]))
    return *batch, [batch]


def _differing(targets: Any, count: int) -> Int[np.ndarray, "count"]:
    """The first `count` examples of a batch; where those all have one target and others do not, the first other one
    too.

    Were all targets alike, a constant output would be perfect and nothing about the inputs would have to be learned.
    """
    leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(targets)]
    others = np.flatnonzero(np.any([(leaf != leaf[:1]).any(axis=1) for leaf in leaves], axis=0)) if leaves else []
    chosen = np.arange(count)
    if len(others) and others[0] >= count:
        chosen[-1] = others[0]
    return chosen


def outputs_of(
    setup: Setup, variables: tuple[Any, Any], batches: list[tuple[Any, Any]], *, train: bool, key: PRNGKeyArray
) -> Any:
    """Outputs on the few examples, batch by batch as the step takes them."""
    parts = [setup.forward(*variables, inputs, train=train, key=key)[0] for inputs, _ in batches]
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate([np.asarray(leaf) for leaf in leaves])), *parts)


def mean_loss(setup: Setup, outputs: Any, targets: Any) -> float:
    """Mean of the task's losses at some outputs."""
    return float(np.asarray(setup.losses(outputs, targets), np.float64).mean())


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
