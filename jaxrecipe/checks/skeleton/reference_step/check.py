"""Reference step: the training step does what a plain optax step does, and carries everything from step to step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.reference_step.mistakes import Context, Verdict, by_a_rule, explained
from jaxrecipe.checks.skeleton.reference_step.plain_steps import by_leaf, compare, frozen
from jaxrecipe.probes.recorded_steps import Trace, vector, watch
from jaxrecipe.report.result import Curve, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="reference_step", stage="skeleton")


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
    comparison = compare(setup.task.optimizer, trace, half=half, left_out=frozen(setup, trace))
    context = Context(setup, key, comparison, half, limit, patience)
    return _told(context, _judged(context))


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
    rows = sorted(by_leaf(comparison), key=lambda row: -row[3])[:20]
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


def _judged(context: Context) -> Verdict:
    """Plain steps, unless there is a better explanation for them."""
    match = context.comparison.match
    if not match.within(context.limit):
        return explained(context)
    better = by_a_rule(context) if match.too_still(context.limit) else None
    return better or _carried(context)


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
