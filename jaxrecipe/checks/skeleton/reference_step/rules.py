"""What goes wrong in training steps, each as a rule that predicts what the steps add to the parameters."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.reference_step.parts_of_batch import of_micro_batches, of_one_part
from jaxrecipe.checks.skeleton.reference_step.plain_steps import Comparison, Moves, Rule, plain_moves
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.objective import mean_cost, objective_of
from jaxrecipe.probes.first_steps import vector
from jaxrecipe.probes.schedules import schedule_counters, with_counters
from jaxrecipe.setup import Setup


class Context(NamedTuple):
    """What the search for an explanation needs.

    Attributes:
        setup, key: as the check was given them.
        comparison: the steps beside plain ones.
        half: whether gradients are rounded to half precision.
        limit: how far a rule's steps may be from those taken, relative to their size.
        patience: steps to wait for the first movement.
    """

    setup: Setup
    key: PRNGKeyArray
    comparison: Comparison
    half: bool
    limit: float
    patience: int


class WrongRule(NamedTuple):
    """A rule, the gradients that it takes where they are not those of the trace, and what is wrong if it fits."""

    rule: Rule
    gradients: list[list[Any]] | None
    finding: Finding


BETTER = 0.5
"""A wrong rule must leave less than this share of what a plain step leaves unexplained."""


def wrong_rule(context: Context) -> Finding | None:
    """The wrong rule that fits as a plain step should, and much better than that does; the best of a random model."""
    comparison, fitting = context.comparison, []
    for rule, gradients, finding in _wrong_rules(context):
        match = comparison.explains(rule, gradients)
        if match.within(context.limit) and match.error < BETTER * comparison.match.error:
            if not match.high:
                return finding
            fitting.append((match.error, finding))
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _wrong_rules(context: Context) -> Iterator[WrongRule]:
    batch = context.setup.batch_size
    yield WrongRule(_summed_up, None, ACCUMULATED)
    yield WrongRule(partial(plain_moves, carry=lambda start, _after: start), None, NOT_CARRIED)
    which = schedule_counters(context.comparison.optimizer.init(context.comparison.trace.params[0]))
    if which:
        stopped = partial(plain_moves, carry=lambda _start, after: with_counters(after, which, 0))
        yield WrongRule(stopped, None, SCHEDULE_STANDS)
        yield WrongRule(partial(plain_moves, carry=_uncounted), None, SCHEDULE_STANDS)
    yield WrongRule(partial(_times, float(batch)), None, summed(batch))
    yield WrongRule(partial(_times, -1.0), None, OPPOSITE)
    for part, finding in FORGOTTEN.items():
        if (gradients := _gradients_without(context, part)) is not None:
            yield WrongRule(plain_moves, [gradients], finding)
    yield WrongRule(plain_moves, [_gradients_elsewhere(context, first_batch=True)], SAME_BATCH)
    yield WrongRule(plain_moves, [_gradients_elsewhere(context, first_batch=False)], EVALUATION_MODE)
    steps = context.comparison.trace.steps
    if len(context.comparison.trace.gradients) == 1:  # gradients of parts under a key that is not known say nothing
        for gradients, finding in chain(of_micro_batches(context.setup, steps), of_one_part(context.setup, steps)):
            yield WrongRule(plain_moves, [gradients], finding)


def collected(every: int, factor: float) -> Rule:
    """Gradients are collected over so many batches; then comes a plain step on their mean times a factor."""

    def rule(comparison: Comparison, gradients: list[Any]) -> Moves:
        state = comparison.optimizer.init(comparison.trace.params[0])
        added: Moves = []
        for step in range(len(gradients)):
            move = np.zeros_like(comparison.moves[step])
            if (step + 1) % every == 0:
                many = gradients[step + 1 - every : step + 1]
                mean = jax.tree.map(lambda *leaves: sum(leaves) * np.float32(factor / every), *many)
                params = comparison.trace.params[step]
                after, state = comparison.update(mean, state, params)
                move = vector(after) - vector(params)
            added.append(move)
        return added

    return rule


def _uncounted(start: Any, after: Any) -> Any:
    """The optimizer's state with every counter as it was at the start."""
    return jax.tree.map(
        lambda old, new: old if jnp.issubdtype(jnp.asarray(new).dtype, jnp.integer) else new, start, after
    )


def _summed_up(comparison: Comparison, gradients: list[Any]) -> Moves:
    sums = [gradients[0]]
    for grads in gradients[1:]:
        sums.append(jax.tree.map(jnp.add, sums[-1], grads))
    return plain_moves(comparison, sums)


def _times(factor: float, comparison: Comparison, gradients: list[Any]) -> Moves:
    return plain_moves(comparison, [jax.tree.map(lambda leaf: leaf * np.float32(factor), grads) for grads in gradients])


def _gradients_elsewhere(context: Context, *, first_batch: bool) -> list[Any]:
    """Gradients at the same parameters on the first batch for ever, or in evaluation mode."""
    setup = context.setup
    first = setup.training_batch(0)
    return [
        setup.gradients(*step.before, *(first if first_batch else step.batch), key=step.key, train=first_batch)[1]
        for step in context.comparison.trace.steps
    ]


def _gradients_without(context: Context, part: str) -> list[Any] | None:
    """Gradients of the objective without its weights or its extra terms; None where it has none."""
    setup = context.setup
    if setup.task.objective is None:
        return None
    if getattr(setup.costs(*setup.variables, *setup.batch, train=True), part) is None:
        return None
    objective = objective_of(setup.task)

    @jax.jit
    def gradient(params: Any, state: Any, inputs: Any, targets: Any, key: Any) -> Any:
        def cost(params: Any) -> Any:
            costs = objective(params, state, inputs, targets, train=True, key=key)
            return mean_cost(replace(costs, **{part: None}))

        return jax.grad(cost)(params)

    return [gradient(*step.before, *step.batch, step.key) for step in context.comparison.trace.steps]


FORGOTTEN = {
    "weights": failure(
        "loss/weights-forgotten",
        "The step takes the plain mean of the losses, where the objective weights its examples: a mean of means.",
    ),
    "extra": failure(
        "loss/term-forgotten", "The step takes the gradient of the losses without the extra terms of the objective."
    ),
}
ACCUMULATED = failure(
    "step/gradients-accumulate", "Each step adds its gradient to those of all the steps before: gradients accumulate."
)
NOT_CARRIED = failure(
    "step/optimizer-state-lost",
    "Each step starts from a fresh optimizer state: the first is right, and momentum and counters are lost in all that "
    "follow.",
)
SCHEDULE_STANDS = failure(
    "optimizer/schedule-stands-still",
    "Every step has the learning rate of step 0, where the declared schedule moves on at each.",
)
OPPOSITE = failure("step/goes-uphill", "The step goes up the gradient: it is the plain step of the negative loss.")
SAME_BATCH = failure("step/same-batch", "Every step uses the gradient of the first batch, whatever batch it is given.")
EVALUATION_MODE = warning(
    "step/evaluation-mode",
    "The step takes the gradient of the model in evaluation mode: dropout is off, statistics are the stored ones.",
)


def summed(batch: int) -> Finding:
    """The gradient of a sum over the batch."""
    text = (
        f"The step takes the gradient of the sum of the losses, not of their mean: it is {batch} times too large, as "
        f"the batch has {batch} examples."
    )
    return failure("loss/sum-instead-of-mean", text)
