"""Reference step: the training step does what a plain optax step does, and carries everything from step to step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.clocks import clocks, with_clocks
from jaxrecipe.checks.traced_steps import Trace, alike, like_params, vector, watch
from jaxrecipe.report.result import Curve, Result, Status, Table
from jaxrecipe.setup import Setup

_result = partial(Result, name="reference_step", stage="skeleton")
Moves = list[Float[np.ndarray, "parameters"]]


def reference_step(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    steps: int = 5,
    tolerance: float = 0.02,
    tolerance_half: float = 0.15,
    patience: int = 32,
) -> Result:
    """Your step is a plain optax step: the gradient of the mean loss through the declared optimizer, and nothing else.

    What it does: takes a few steps on different batches with your own training step. Beside each it computes, from the parameters that
    your state really holds, the gradient of the mean loss in training mode, and passes these through the declared optimizer with an
    optimizer state of its own. Both must move the parameters alike, and a model state must be what the forward pass left. Where they
    differ, it tries what usually goes wrong and names what explains your steps: gradients that accumulate, optimizer state that is not carried, a
    schedule that stands still, a sum for a mean, an extra factor, decay or clip, a batch that never changes, evaluation mode.
    A random model is compared in distribution when the key that your step makes for it cannot be told. Numbers that rounding decides (a
    gradient near zero under Adam) are left out.

    Why it matters: a loop that forgets to carry momentum or to clear gradients still trains, only worse, and no exception says so.

    What to do: compare your step with `jax.value_and_grad`, `optimizer.update`, `optax.apply_updates`, line by line, and put every new state into
    the state that you return. A rule of your own (averaged weights, accumulation over steps, sharpness-aware steps) that is no optax
    transformation ends as PASS where it is recognised and as WARN where not: declare it as part of the optimizer, or say `expect`.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: steps compared; four different batches are needed to tell the causes apart.
        tolerance: the largest relative difference (norm over norm) that counts as equal. Rounding gives 1e-4, TF32 1e-2.
        tolerance_half: the same in half precision, where a gradient has 8 or 11 bits.
        patience: steps to wait for the first movement, before updates count as thrown away and not as accumulated.

    Source: the standard loop of the optax documentation.
    """
    half = _is_half(setup)
    limit = tolerance_half if half else tolerance
    trace = _without_skipped(setup, watch(setup, key, steps))
    if not trace.steps:
        return _result(
            status=Status.SKIP,
            finding=f"The loss scale skipped each of the {steps} steps, so there is nothing to compare.",
            hint="Start with a smaller loss scale, or give more steps.",
        )
    if not all(np.isfinite(vector(grads)).all() for grads in trace.gradients[0]):
        return _result(
            status=Status.SKIP,
            finding="The gradient of the first batches is not finite, so there is nothing to compare.",
            hint="Find out first where NaN or infinity comes from: see overfit_one_batch and updates.",
        )
    comparison = compare(setup.task.optimizer, trace, half=half, left_out=_frozen(setup, trace))
    context = Context(setup, key, comparison, half, limit, patience)
    return _told(context, _judged(context))


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


class Match(NamedTuple):
    """How well a rule explains the steps.

    Attributes:
        error: norm of the difference over the norm of the steps.
        low, high: where that error lies when nothing but the model's own randomness makes the difference; 0 without any.
    """

    error: float
    low: float = 0.0
    high: float = 0.0

    def within(self, limit: float) -> bool:
        return self.error <= limit + self.high

    def too_still(self, limit: float) -> bool:
        """Whether the steps differ less from the rule's mean than draws of the model do: they are less random than it."""
        return self.error < self.low - limit


@dataclass(frozen=True)
class Comparison:
    """Steps beside those of the declared optimizer.

    Attributes:
        trace: the steps.
        update: the optimizer's update, compiled.
        optimizer: as declared.
        moves: what each step added to the parameters.
        plain: what a plain step would have added, mean over the draws.
        stable: which numbers rounding does not decide, of each step.
        match: how well a plain step explains the steps.
    """

    trace: Trace
    update: Callable[..., Any]
    optimizer: optax.GradientTransformation
    moves: Moves
    plain: Moves
    stable: list[Bool[np.ndarray, "parameters"]]
    match: Match

    def explains(self, rule: "Rule", gradients: list[list[Any]] | None = None) -> Match:
        """How well another rule explains the steps."""
        return _match(self, [rule(self, draw) for draw in gradients or self.trace.gradients])


Rule = Callable[[Comparison, list[Any]], Moves]
"""From the gradients of the steps to what is added to the parameters at each."""


def compare(optimizer: optax.GradientTransformation, trace: Trace, *, half: bool, left_out: Any = ()) -> Comparison:
    """Put the plain steps beside those that were taken; parameters of the paths in `left_out` do not count."""

    @jax.jit
    def update(gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        gradients = jax.tree.map(lambda grad, param: grad.astype(param.dtype), gradients, params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

    moves = trace.moves()
    everything = [np.ones(move.shape, bool) for move in moves]
    empty = Comparison(trace, update, optimizer, moves, moves, everything, Match(0.0))
    chains = [_plain(empty, draw) for draw in trace.gradients]
    plain = [np.mean(draws, axis=0) for draws in zip(*chains, strict=True)]
    stable = everything if len(chains) > 1 else _stable(empty, plain, 2e-2 if half else 1e-3)
    counted = _counted(trace, left_out)
    stable = [keep & counted for keep in stable]
    ready = Comparison(trace, update, optimizer, moves, plain, stable, Match(0.0))
    return Comparison(trace, update, optimizer, moves, plain, stable, _match(ready, chains))


def _plain(
    comparison: Comparison,
    gradients: list[Any],
    *,
    carry: Callable[[Any, Any], Any] = lambda _start, after: after,
) -> Moves:
    """What plain steps add to the parameters; `carry` is what becomes of the optimizer state from step to step."""
    params = comparison.trace.params
    start = state = comparison.optimizer.init(params[0])
    added: Moves = []
    for step, grads in enumerate(gradients):
        moved, after = comparison.update(grads, state, params[step])
        added.append(vector(moved) - vector(params[step]))
        state = carry(start, after)
    return added


def _stable(comparison: Comparison, plain: Moves, noise: float) -> list[Bool[np.ndarray, "parameters"]]:
    """Which numbers of each update stay as they are when the gradients move by a little noise."""
    rng = np.random.default_rng(0)
    kept = [np.ones(move.shape, bool) for move in plain]
    for _ in range(2):
        shaken = [_shaken(rng, grads, noise) for grads in comparison.trace.gradients[0]]
        for keep, move, other in zip(kept, plain, _plain(comparison, shaken), strict=True):
            keep &= np.abs(other - move) <= 20 * noise * np.abs(move)
    return [keep if keep.mean() > 0.01 else np.ones_like(keep) for keep in kept]


def _shaken(rng: np.random.Generator, gradients: Any, noise: float) -> Any:
    """Gradients with normal noise of this share of their overall size."""
    size = np.sqrt(np.mean(np.square(vector(gradients))))

    def one(leaf: Any) -> Any:
        return np.asarray(leaf) + (noise * size * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(one, gradients)


def _match(comparison: Comparison, chains: list[Moves]) -> Match:
    """Difference between the steps taken and those of a rule (each chain one draw of the model's randomness), over their size."""
    draws = len(chains)
    wrong = size = 0.0
    spread = np.zeros(draws)
    rounding = 2 * _epsilons(comparison.trace.params[0])
    for step, (move, keep) in enumerate(zip(comparison.moves, comparison.stable, strict=True)):
        each = np.stack([chain[step] for chain in chains])[:, keep]
        mean = each.mean(axis=0)
        allowed = (rounding * np.abs(vector(comparison.trace.params[step])))[keep]
        wrong += np.square(np.maximum(np.abs(move[keep] - mean) - allowed, 0)).sum()
        size += max(np.square(mean).sum(), np.square(move[keep]).sum())
        if (
            draws > 1
        ):  # each draw from the mean of the others, brought to the distance of one more draw from the mean of all
            spread += (
                np.square(each - mean).sum(axis=1)
                * (draws / (draws - 1)) ** 2
                * (1 + 1 / draws)
                / (1 + 1 / (draws - 1))
            )
    if not size:
        return Match(0.0)
    distances = np.sqrt(spread / size)
    middle, width = (
        float(distances.mean()),
        4 * float(distances.std(ddof=1)) + 0.05 * float(distances.mean()) if draws > 1 else 0.0,
    )
    return Match(float(np.sqrt(wrong / size)), max(middle - width, 0.0), middle + width if draws > 1 else 0.0)


def _epsilons(params: Any) -> Float[np.ndarray, "parameters"]:
    """Relative rounding of each number by the dtype of its leaf."""
    parts = [np.full(leaf.size, float(jnp.finfo(leaf.dtype).eps)) for leaf in jax.tree.leaves(params)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _is_half(setup: Setup) -> bool:
    """Whether gradients are rounded to half precision, by the policy or by the model itself."""
    outputs, _ = setup.forward(*setup.variables, setup.batch[0], train=True, key=setup.key)
    return setup.task.precision.casts or any(
        trees.is_floating(leaf) and jnp.finfo(leaf.dtype).bits < 32 for leaf in jax.tree.leaves(outputs)
    )


def _without_skipped(setup: Setup, trace: Trace) -> Trace:
    """Under a loss scale a step may be skipped on purpose: nothing moves, and the optimizer does not see it."""
    if setup.task.loss_scale.kind == "none":
        return trace
    return trace.without([step for step, move in enumerate(trace.moves()) if not move.any()])


def _counted(trace: Trace, left_out: Any) -> Bool[np.ndarray, "parameters"]:
    """All numbers but those of some parameters."""
    named = trees.named_leaves(trace.params[0])
    return np.concatenate(
        [np.full(leaf.size, path not in left_out) for path, leaf in named.items()] or [np.zeros(0, bool)]
    )


def _still(trace: Trace) -> list[str]:
    """Paths of the parameters that no step moved."""
    first = trees.named_leaves(trace.params[0])
    later = [trees.named_leaves(params) for params in trace.params[1:]]
    return [path for path, leaf in first.items() if all(np.array_equal(leaf, other[path]) for other in later)]


def _frozen(setup: Setup, trace: Trace) -> list[str]:
    """Parameters that are declared frozen and do stand still, by whatever means."""
    return [path for path in _still(trace) if any(trees.matches(path, one) for one in setup.task.frozen)]


def _told(context: Context, verdict: Verdict) -> Result:
    """The result with its numbers and tables."""
    comparison, trace = context.comparison, context.comparison.trace
    size = [float(np.linalg.norm(move)) for move in comparison.moves]
    plain = [float(np.linalg.norm(move)) for move in comparison.plain]
    curve = Curve(
        title="Size of each step",
        x=np.arange(1, trace.steps + 1),
        series={"yours": np.array(size), "plain": np.array(plain)},
    )
    columns = ("parameter", "your step", "plain step", "difference")
    rows = sorted(_by_leaf(comparison), key=lambda row: -row[3])[:20]
    return _result(
        status=verdict.status,
        finding=verdict.finding,
        hint=verdict.hint,
        measured={
            "difference from a plain step": comparison.match.error,
            "of which the model's own randomness explains": comparison.match.high,
            "steps compared": trace.steps,
        },
        expected={"difference from a plain step": f"up to {context.limit:g} and what randomness explains"},
        evidence=(curve, Table(title="Parameters, the most different first", columns=columns, rows=rows)),
    )


def _by_leaf(comparison: Comparison) -> list[tuple[str, float, float, float]]:
    """Each parameter with the norms of what was added to it, by the steps and by plain ones, and of the difference."""
    moves, plain = (np.stack(lists) for lists in (comparison.moves, comparison.plain))
    rows, start = [], 0
    for path, leaf in trees.named_leaves(comparison.trace.params[0]).items():
        yours, wanted = moves[:, start : start + leaf.size], plain[:, start : start + leaf.size]
        start += leaf.size
        rows.append((path, *(float(np.linalg.norm(part)) for part in (yours, wanted, yours - wanted))))
    return rows


def _judged(context: Context) -> Verdict:
    """Plain steps, unless there is a better explanation for them."""
    match = context.comparison.match
    if not match.within(context.limit):
        return _explained(context)
    better = _by_a_rule(context) if match.too_still(context.limit) else None
    return better or _carried(context)


# The steps are plain: is everything else carried?


def _carried(context: Context) -> Verdict:
    """The parameters move as they should; look at the model state and at what the step reports."""
    comparison, trace = context.comparison, context.comparison.trace
    if not any(move.any() for move in comparison.moves):
        return Verdict(
            Status.WARN,
            f"Neither your step nor the declared optimizer moves a parameter in the first {trace.steps} steps.",
            "Look at the schedule: a warm-up that starts at 0 and is counted in epochs stays there for the first epoch.",
        )
    lost, wrong = _model_state(context)
    if lost:
        return Verdict(
            Status.FAIL, f"Your step does not carry the model state: {', '.join(lost[:3])} never changes.", STATE_LOST
        )
    if wrong:
        return Verdict(
            Status.WARN,
            f"The parameters move as in a plain step, but the model state does not: {', '.join(wrong[:3])}.",
            "Put the model state that the forward pass of this step returns into the next state, unchanged and once.",
        )
    factor = _reported_factor(context)
    if factor is not None:
        return Verdict(
            Status.WARN,
            f"The parameters move as in a plain step, but the loss that the step reports is {factor:.4g} times the mean loss.",
            "The step takes a sum over the batch where the mean is meant. Adam hides that; SGD, clipping and the epsilon of Adam do not.",
        )
    how = " within what its randomness explains" if len(trace.gradients) > 1 else ""
    return Verdict(
        Status.PASS,
        f"{trace.steps} steps on different batches equal plain optax steps{how}: relative difference {comparison.match.error:.2g}.",
    )


STATE_LOST = (
    "The model state (batch statistics) that the forward pass returns is thrown away: put it into the state that your step returns, or "
    "evaluation normalises with the initial mean and variance."
)


def _model_state(context: Context) -> tuple[list[str], list[str]]:
    """Floating leaves of the model state that a forward pass moves and the step does not, and those that differ otherwise."""
    trace = context.comparison.trace
    exact = len(trace.gradients) == 1
    lost, wrong = [], []
    before, after, wanted = (
        [trees.named_leaves(one) for one in many]
        for many in (trace.model_states[:-1], trace.model_states[1:], trace.wanted_states)
    )
    for path, leaf in trees.named_leaves(trace.model_states[0]).items():
        if not trees.is_floating(leaf) or any(path not in one for one in wanted):
            continue
        old, new, due = (
            np.stack([np.asarray(one[path], np.float64) for one in many]) for many in (before, after, wanted)
        )
        asked = np.linalg.norm(due - old)
        if asked > 0 and np.array_equal(new, old):
            lost.append(path)
        elif exact and np.linalg.norm(new - due) > context.limit * np.linalg.norm(due) + asked:
            wrong.append(path)
    return lost, wrong


def _reported_factor(context: Context) -> float | None:
    """By which constant, the size of the batch or more, the reported losses are too large; None when they are not."""
    trace = context.comparison.trace
    if len(trace.gradients) > 1 or any(loss is None for loss in trace.reported):
        return None
    pairs = [(loss, told) for loss, told in zip(trace.losses, trace.reported, strict=True) if told is not None]
    ratios = np.array([told / loss if loss else np.nan for loss, told in pairs])
    factor = float(np.mean(ratios))
    batch = context.setup.batch_size
    constant = np.isfinite(ratios).all() and np.ptp(ratios) <= 0.01 * abs(factor)
    return factor if constant and batch > 2 and factor >= 0.99 * batch else None


# The steps are not plain: what explains them?


def _explained(context: Context) -> Verdict:
    """The first cause whose signature fits, most certain first."""
    finders = (_thrown_away, _accumulated_on_purpose, _by_a_rule, _averaged, _by_a_factor, _by_decay, _partly_frozen)
    for find in finders:
        verdict = find(context)
        if verdict is not None:
            return verdict
    error = context.comparison.match.error
    worst = max(_by_leaf(context.comparison), key=lambda row: row[3] / max(row[2], 1e-12))[0]
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


def _by_a_rule(context: Context) -> Verdict | None:
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
    yield partial(_plain, carry=lambda start, _after: start), None, NOT_CARRIED
    which = clocks(context.comparison.optimizer.init(trace.params[0]))
    if which:
        yield partial(_plain, carry=lambda _start, after: with_clocks(after, which, 0)), None, SCHEDULE_STANDS
        yield partial(_plain, carry=_uncounted), None, SCHEDULE_STANDS
    yield partial(_times, float(batch)), None, summed(batch)
    yield partial(_times, -1.0), None, OPPOSITE
    yield _plain, [_gradients_elsewhere(context, first_batch=True)], SAME_BATCH
    evaluated = _gradients_elsewhere(context, first_batch=False)
    yield _plain, [evaluated], EVALUATION_MODE


def _uncounted(start: Any, after: Any) -> Any:
    """The optimizer's state with every counter as it was at the start."""
    return jax.tree.map(
        lambda old, new: old if jnp.issubdtype(jnp.asarray(new).dtype, jnp.integer) else new, start, after
    )


def _summed_up(comparison: Comparison, gradients: list[Any]) -> Moves:
    sums = [gradients[0]]
    for grads in gradients[1:]:
        sums.append(jax.tree.map(jnp.add, sums[-1], grads))
    return _plain(comparison, sums)


def _times(factor: float, comparison: Comparison, gradients: list[Any]) -> Moves:
    return _plain(comparison, [jax.tree.map(lambda leaf: leaf * np.float32(factor), grads) for grads in gradients])


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
    epsilons = _epsilons(comparison.trace.params[0])
    factors, norms = [], []
    for step, (move, plain, keep) in enumerate(zip(comparison.moves, comparison.plain, comparison.stable, strict=True)):
        move, plain = move[keep], plain[keep]
        if not plain.any():
            continue
        factor = float(move @ plain / (plain @ plain))
        rounding = (2 * epsilons * np.abs(vector(comparison.trace.params[step])))[keep]
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
    still = [path for path in _still(comparison.trace) if path not in _frozen(context.setup, comparison.trace)]
    if not still:
        return None
    rest = compare(comparison.optimizer, comparison.trace, half=context.half, left_out=still)
    if not rest.match.within(context.limit):
        return None
    return Verdict(
        Status.WARN,
        f"Your step leaves {len(still)} parameters as they are ({', '.join(still[:3])}), where the declared optimizer moves them; all others take plain steps.",
        "Declare them, Task(frozen=...), if that is meant; if not, look at masks and labels, and at what the step puts into the next state.",
    )
