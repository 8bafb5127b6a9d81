"""Training on a couple of examples until they are known by heart, with the step that will really run; and how that went."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.constant_predictor import best_constant
from jaxrecipe.probes.minimum_loss import minimum_achievable
from jaxrecipe.probes.reading import random_rows
from jaxrecipe.probes.stopwatch import Stopwatch
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Target, Tokens

SINGLES = 4
"""Examples that a step which takes one at a time is given in turn: with one alone, a constant output would be perfect."""


@dataclass
class Run:
    """How the attempt went; losses are per measurement, in step with `steps`. `batches` hold the same examples as the step takes them.

    `moved` is the size of a step's change of the parameters relative to theirs, for the steps in `steps` but the first (0).
    """

    floor: float
    best_share: float
    start: float
    state: Any
    inputs: Any
    targets: Any
    batches: list[tuple[Any, Any]]
    steps: list[int] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
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


def learn(
    setup: Setup, key: PRNGKeyArray, *, examples: int, closed: float, steps: int, patience: int, seconds: float
) -> Run:
    """Train on a few examples until success, stall or the budget's end; the arguments are those of `overfit_one_batch`."""
    inputs, targets = _few_examples(setup, min(examples, _expressible(setup)))
    state = setup.fresh_state()
    outputs = outputs_of(setup, setup.variables, inputs, train=True, key=key)
    constant = best_constant(setup, outputs, targets)
    floor, accuracy = minimum_achievable(setup, outputs, inputs, targets)
    best_share = min(accuracy.values(), default=1.0)
    start = (
        constant.loss
        if np.isfinite(constant.loss) and not constant.unbounded
        else float(setup.losses(outputs, targets).mean())
    )
    batches = list(_batches(setup, inputs, targets))
    run = Run(floor, best_share, start, state, inputs, targets, batches)
    _measure(setup, run, 0, key)
    watch, best, best_step = Stopwatch(), run.best, 0
    for step in range(1, steps + 1):
        looked_at = step <= 10 or step % 10 == 0
        before = trees.copy(setup.loop.variables(run.state)[0]) if looked_at else None
        run.state, _ = setup.step(run.state, *batches[step % len(batches)], jax.random.fold_in(key, step))
        if step == 1:  # compiling says nothing about how fast this learns
            jax.block_until_ready(run.state)
            watch = Stopwatch()
        if not looked_at:
            continue
        run.moved.append(relative_change(before, setup.loop.variables(run.state)[0]))
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

    A loss that compares the examples of a batch gets the batch as it is: repetitions would have no right answer. Where a batch
    is one example, several batches are put together, to be learnt in turn.
    """
    inputs, targets = setup.batch
    size = trees.leading_size(inputs)
    if setup.task.mixes_examples:
        return inputs, targets
    if size == 1:
        return setup.prepared("train", random_rows(setup, "train", min(examples, SINGLES)))
    return trees.take((inputs, targets), jnp.arange(size) % min(examples, size))


def _batches(setup: Setup, inputs: Any, targets: Any) -> Iterator[tuple[Any, Any]]:
    """The examples in batches of the size that the step is made for."""
    for start in range(0, trees.leading_size(inputs), setup.batch_size):
        yield trees.take((inputs, targets), jnp.arange(start, start + setup.batch_size))


def outputs_of(setup: Setup, variables: tuple[Any, Any], inputs: Any, *, train: bool, key: PRNGKeyArray) -> Any:
    """Outputs on the few examples, batch by batch as the step takes them."""
    parts = [setup.forward(*variables, part, train=train, key=key)[0] for part, _ in _batches(setup, inputs, ())]
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def relative_change(before: Any, after: Any) -> float:
    """Norm of the change of the parameters over the norm of the parameters."""
    change = jax.tree.map(lambda new, old: new.astype(jnp.float32) - old.astype(jnp.float32), after, before)
    return float(trees.global_norm(change)) / max(float(trees.global_norm(before)), 1e-12)


def _measure(setup: Setup, run: Run, step: int, key: PRNGKeyArray) -> None:
    """Loss in both modes and how many predictions are right, at the run's present state."""
    variables = setup.loop.variables(run.state)
    by_mode = [outputs_of(setup, variables, run.inputs, train=train, key=key) for train in (True, False)]
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
