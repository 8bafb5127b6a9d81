"""What goes wrong in training steps, each told by what it adds to the parameters where a plain step would add something else."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.reference_step.plain_steps import (
    Comparison,
    Moves,
    Rule,
    by_leaf,
    compare,
    epsilons,
    frozen,
    plain_moves,
    still,
)
from jaxrecipe.probes.recorded_steps import alike, like_params, vector, watch
from jaxrecipe.probes.schedules import clocks, with_clocks
from jaxrecipe.report.result import Status
from jaxrecipe.setup import Setup


class Verdict(NamedTuple):
    """How the check ends, and what explains the steps."""

    status: Status
    finding: str
    hint: str = ""


class Context(NamedTuple):
    """What the search for a cause needs."""

    setup: Setup
    key: PRNGKeyArray
    comparison: "Comparison"
    half: bool
    limit: float
    patience: int


def explained(context: Context) -> Verdict:
    """The first cause whose signature fits, most certain first."""
    finders = (_thrown_away, _accumulated_on_purpose, by_a_rule, _averaged, _by_a_factor, _by_decay, _partly_frozen)
    for find in finders:
        verdict = find(context)
        if verdict is not None:
            return verdict
    error = context.comparison.match.error
    worst = max(by_leaf(context.comparison), key=lambda row: row[3] / max(row[2], 1e-12))[0]
    return Verdict(
        Status.WARN,
        f"Your step differs from a plain optax step by {error:.2g} of its size, most in {worst}, and no usual fault explains it.",
        "If this is a rule of your own, make it part of the declared optimizer, or say so with expect. If not, compare your step with "
        "jax.value_and_grad, optimizer.update and optax.apply_updates line by line; look for another loss, another optimizer than the declared "
        "one, or a batch that is changed inside the step.",
    )


def _thrown_away(context: Context) -> Verdict | None:
    """Nothing moves, for longer than anybody accumulates."""
    comparison = context.comparison
    if any(move.any() for move in comparison.moves):
        return None
    first = _first_movement(context)
    if first is not None:
        trace = watch(context.setup, context.key, first + 1 if first > 7 else 2 * (first + 1))
        return _accumulated_on_purpose(
            context._replace(comparison=compare(comparison.optimizer, trace, half=context.half))
        )
    return Verdict(
        Status.FAIL,
        f"{context.patience} steps leave every parameter as it was, where plain steps move them.",
        "The updates are thrown away: assign what optax.apply_updates returns, and put it into the state that the step returns.",
    )


def _first_movement(context: Context) -> int | None:
    """The first step, counted from 0, that moves a parameter; None when none does for the patience given."""
    setup, trace = context.setup, context.comparison.trace
    start, state = vector(trace.params[-1]), trace.state
    for step in range(trace.steps, context.patience):
        inputs, targets = setup.training_batch(step)
        state, _ = setup.step(trees.copy(state), inputs, targets, jax.random.fold_in(context.key, step))
        if not np.array_equal(vector(trees.copy(setup.loop.variables(state)[0])), start):
            return step
    return None


def _accumulated_on_purpose(context: Context) -> Verdict | None:
    """Steps that stand still until the k-th: gradients are collected over k batches, as one large batch."""
    comparison = context.comparison
    moved = [bool(move.any()) for move in comparison.moves]
    every = moved.index(True) + 1 if any(moved) else 0
    if every < 2 or moved != [(step + 1) % every == 0 for step in range(len(moved))]:
        return None
    if comparison.explains(_collected(every, 1.0)).within(context.limit):
        return Verdict(
            Status.PASS,
            f"Your step collects gradients over {every} batches and then equals a plain step on their mean.",
        )
    if comparison.explains(_collected(every, float(every))).within(context.limit):
        return Verdict(
            Status.WARN,
            f"Your step collects gradients over {every} batches and takes their sum, not their mean.",
            f"Divide by {every}, or the learning rate is {every} times what is declared.",
        )
    return None


def _collected(every: int, factor: float) -> Rule:
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


def _averaged(context: Context) -> Verdict | None:
    """`variables` may give averaged parameters, and others in the state take the plain step."""
    setup, comparison = context.setup, context.comparison
    if not setup.owns_loop:
        return None
    for index, place in like_params(setup)[:4]:

        def raw(state: Any, index: int = index) -> tuple[Any, Any]:
            params, model_state = setup.loop.variables(state)
            return jax.tree.leaves(state, is_leaf=partial(alike, params))[index], model_state

        trace = watch(setup, context.key, comparison.trace.steps, variables=raw)
        if compare(comparison.optimizer, trace, half=context.half).match.within(context.limit):
            return Verdict(
                Status.PASS,
                f"The parameters at {place} of your state take plain steps; those that variables gives follow them, as averaged ones do.",
            )
    return None


def by_a_rule(context: Context) -> Verdict | None:
    """The wrong rule that fits as well as a plain step should and much better than that does; of a random model the best such."""
    comparison, fitting = context.comparison, []
    for rule, gradients, verdict in _wrong_rules(context):
        match = comparison.explains(rule, gradients)
        if match.within(context.limit) and match.error < comparison.match.error / 2:
            if not match.high:
                return verdict
            fitting.append((match.error, verdict))
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _wrong_rules(context: Context) -> Iterator[tuple[Rule, list[list[Any]] | None, Verdict]]:
    """What goes wrong in loops, each as a rule that predicts the steps."""
    setup, trace = context.setup, context.comparison.trace
    batch = setup.batch_size
    yield _summed_up, None, ACCUMULATED
    yield partial(plain_moves, carry=lambda start, _after: start), None, NOT_CARRIED
    which = clocks(context.comparison.optimizer.init(trace.params[0]))
    if which:
        yield partial(plain_moves, carry=lambda _start, after: with_clocks(after, which, 0)), None, SCHEDULE_STANDS
        yield partial(plain_moves, carry=_uncounted), None, SCHEDULE_STANDS
    yield partial(_times, float(batch)), None, summed(batch)
    yield partial(_times, -1.0), None, OPPOSITE
    yield plain_moves, [_gradients_elsewhere(context, first_batch=True)], SAME_BATCH
    evaluated = _gradients_elsewhere(context, first_batch=False)
    yield plain_moves, [evaluated], EVALUATION_MODE


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
    setup, trace = context.setup, context.comparison.trace
    return [
        setup.gradients(
            trace.params[step],
            trace.model_states[step],
            *setup.training_batch(0 if first_batch else step),
            key=jax.random.fold_in(context.key, step),
            train=first_batch,
        )[1]
        for step in range(trace.steps)
    ]


ACCUMULATED = Verdict(
    Status.FAIL,
    "Each step adds its gradient to those of all the steps before: gradients accumulate.",
    "Gradients accumulate over the steps: start each one from fresh gradients (what jax.value_and_grad returns), and do not add to a buffer that is never cleared.",
)


NOT_CARRIED = Verdict(
    Status.FAIL,
    "Each step starts from a fresh optimizer state: the first one is right, and momentum and counters are lost in all that follow.",
    "The optimizer state (momentum, counters) is not carried: put the one that optimizer.update returns into the state that your step returns; "
    "optimizer.init belongs before the loop.",
)


SCHEDULE_STANDS = Verdict(
    Status.FAIL,
    "The learning-rate schedule stands still: every step has the rate of step 0, where the declared schedule moves on at each.",
    "The learning-rate schedule stands still: its counter is not carried, or counts epochs and not steps: advance it at every update.",
)


OPPOSITE = Verdict(
    Status.FAIL,
    "Your step goes up the gradient: it is the plain step of the negative loss.",
    "A sign is flipped: of the loss, of the gradient, or in how the updates are added (optax.apply_updates adds).",
)


SAME_BATCH = Verdict(
    Status.FAIL,
    "Every step uses the gradient of the first batch, whatever batch it is given.",
    "The step closes over a batch, or the compiled program has one baked in: use the arguments of the step.",
)


EVALUATION_MODE = Verdict(
    Status.WARN,
    "Your step takes the gradient of the model in evaluation mode: dropout is off, normalisation uses its stored statistics.",
    "Call the model with train=True in the step (deterministic=False, use_running_average=False), with a key for dropout; if that is meant, as in "
    "some fine-tuning, say so with expect.",
)


def summed(batch: int) -> Verdict:
    """The gradient of a sum over the batch."""
    return Verdict(
        Status.FAIL,
        f"Your step takes the gradient of the sum of the losses, not of their mean: it is {batch} times too large, as the batch has {batch} examples.",
        "The loss is a sum over the batch where its mean is meant: take the mean, or the learning rate depends on the batch size.",
    )


def _by_a_factor(context: Context) -> Verdict | None:
    """Every step is a multiple of the plain one."""
    comparison = context.comparison
    relative = epsilons(comparison.trace.params[0])
    factors, norms = [], []
    for step, (move, plain, keep) in enumerate(zip(comparison.moves, comparison.plain, comparison.stable, strict=True)):
        move, plain = move[keep], plain[keep]
        if not plain.any():
            continue
        factor = float(move @ plain / (plain @ plain))
        rounding = (2 * relative * np.abs(vector(comparison.trace.params[step])))[keep]
        if np.linalg.norm(np.maximum(np.abs(move - factor * plain) - rounding, 0)) > (
            context.limit + comparison.match.high
        ) * np.linalg.norm(move):
            return None
        factors.append(factor)
        norms.append(float(np.linalg.norm(vector(comparison.trace.gradients[0][step]))))
    if not factors or 0.0 in factors:
        return None
    if _constant(factors, context):
        return _factor(float(np.mean(factors)), context.setup.batch_size)
    listed = ", ".join(f"{factor:.3g}" for factor in factors)
    clipped = [factor * norm for factor, norm in zip(factors, norms, strict=True) if factor < 0.98]
    if len(clipped) > 1 and max(factors) < 1.02 and _constant(clipped, context):
        tiny = max(factors) < 0.01
        return Verdict(
            Status.FAIL if tiny else Status.WARN,
            f"Your step clips the gradient to norm {np.mean(clipped):.3g}, which the declared optimizer does not: "
            f"its steps are {listed} times the plain ones.",
            "The clip norm is so small that it decides the size of every step: raise it to the usual norm of the gradient."
            if tiny
            else "Make the clipping part of the declared optimizer (optax.clip_by_global_norm), so that what is checked is what runs.",
        )
    missing = [factor / norm for factor, norm in zip(factors, norms, strict=True) if factor > 1.02]
    if len(missing) > 1 and min(factors) > 0.98 and _constant(missing, context):
        return Verdict(
            Status.WARN,
            f"The declared optimizer clips the gradient and your step does not: its steps are {listed} times the declared ones.",
            "Clip the gradient inside the step too, or take the clipping out of the declaration.",
        )
    return Verdict(
        Status.WARN,
        f"Your steps are {listed} times the declared ones: the learning rate follows another schedule.",
        "Declare the schedule as part of the optimizer, and let one counter, advanced at each update, drive it.",
    )


def _constant(values: list[float], context: Context) -> bool:
    slack = context.limit + context.comparison.match.high
    return float(np.ptp(values)) <= 2 * slack * abs(float(np.mean(values)))


def _factor(factor: float, batch: int) -> Verdict:
    """A constant factor, named where its value says where it comes from."""
    close = lambda wanted: abs(factor / wanted - 1) < 0.03  # noqa: E731
    if close(-1.0):
        return OPPOSITE
    if batch > 1 and close(float(batch)):
        return summed(batch)
    if batch > 1 and close(1 / batch):
        return Verdict(
            Status.FAIL,
            f"Your steps are 1/{batch} of plain ones: the loss is divided by the batch size twice.",
            "Take the mean over the batch once.",
        )
    power = np.log2(factor) if factor > 0 else 0.5
    if power > 5 and abs(power - round(power)) < 0.02:
        return Verdict(
            Status.FAIL,
            f"Your steps are {factor:.4g} times plain ones, a power of two as loss scales are.",
            "Divide the gradients by the loss scale before they reach the optimizer.",
        )
    return Verdict(
        Status.FAIL,
        f"Your steps are {factor:.4g} times those of the declared optimizer: the learning rate is not the one that you declared.",
        "Use one optimizer in the declaration and in the step, apply its updates once, and scale neither gradients nor updates beside it.",
    )


def _by_decay(context: Context) -> Verdict | None:
    """What is left over points to zero: weight decay beside the declared optimizer."""
    comparison = context.comparison
    rates, share = [], 0.0
    for params, move, plain, keep in zip(
        comparison.trace.params, comparison.moves, comparison.plain, comparison.stable, strict=False
    ):
        weights, rest = vector(params)[keep], (move - plain)[keep]
        rate = float(-(rest @ weights) / max(weights @ weights, 1e-30))
        slack = 0.05 * np.linalg.norm(rest) + (context.limit + comparison.match.high) * np.linalg.norm(plain[keep])
        if rate <= 0 or np.linalg.norm(rest + rate * weights) > slack:
            return None
        rates.append(rate)
        share = max(share, float(rate * np.linalg.norm(weights) / max(np.linalg.norm(plain[keep]), 1e-30)))
    if not rates or not _constant(rates, context):
        return None
    return Verdict(
        Status.FAIL if share > 1 else Status.WARN,
        f"Beside the plain step your step shrinks every parameter by {np.mean(rates):.2g} of itself, {share:.2g} of the size of the plain step.",
        "The weight decay swamps the gradient: multiply it by the learning rate, or make it smaller."
        if share > 1
        else "Weight decay that the declared optimizer does not have: declare it there (optax.adamw, optax.add_decayed_weights) and apply it once.",
    )


def _partly_frozen(context: Context) -> Verdict | None:
    """The rest takes plain steps, and some parameters none."""
    comparison = context.comparison
    unmoved = [path for path in still(comparison.trace) if path not in frozen(context.setup, comparison.trace)]
    if not unmoved:
        return None
    rest = compare(comparison.optimizer, comparison.trace, half=context.half, left_out=unmoved)
    if not rest.match.within(context.limit):
        return None
    return Verdict(
        Status.WARN,
        f"Your step leaves {len(unmoved)} parameters as they are ({', '.join(unmoved[:3])}), where the declared optimizer moves them; all others take plain steps.",
        "Declare them, Task(frozen=...), if that is meant; if not, look at masks and labels, and at what the step puts into the next state.",
    )
