"""Why a run did not learn a few examples by heart: the first explanation that its own numbers support."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run, outputs_of, relative_change
from jaxrecipe.probes.constant_predictor import are_probabilities, is_flat, wants_probabilities
from jaxrecipe.probes.layers import joints
from jaxrecipe.probes.stopwatch import Stopwatch
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Values

FAINT = 1e-3
"""Steps of less than this share of the largest are taken for those of a learning rate that has run down, as long as the gradient has not."""


class Cause(NamedTuple):
    """What to look for, and whether the run shows it or it is only what is left."""

    hint: str
    known: bool = True


DIVERGED = "The learning rate is too high, or an operation overflows (log of zero, division by zero, half precision). Try a tenth of the learning rate."
STILL = "No parameter moves: the updates are computed and thrown away, everything is frozen, or the learning rate is zero (a schedule that starts at zero and counts in the wrong unit)."
UPHILL = "The training step goes uphill: its changes have a positive product with the gradient of the loss. The sign of the loss or of the update is flipped."
ZERO_GRADIENT = "The gradient of the loss is zero for every parameter: a softmax over a single output, a stop_gradient, dead activations, or a metric used as the loss."
FLAT_LOSS = "The loss is flat where the outputs are: its gradient with respect to the outputs is zero. It is clipped or saturated (clip gradients, not the loss), rounds, takes the softmax over a single output, or is a metric."
TWICE_IN_LOSS = "That floor is log(1 + (n - 1)/e), where a softmax (or sigmoid) applied twice ends: the loss squashes its outputs and then applies a softmax again. Give it the logits as they are."
TWICE = "The loss sits where a softmax applied twice ends, log(1 + (n - 1)/e): the model's outputs are probabilities and the loss applies a softmax again. Return logits from the model."
SIGMOID_TWICE = "The model's outputs are probabilities and the loss takes a sigmoid of them again, so it cannot get below 0.31: the sigmoid is applied twice. Return logits from the model."
CONFINED = "The outputs are never negative: an activation (ReLU, softmax, sigmoid) after the final layer confines them. Return the final layer's outputs as they are."
WITHIN = "The outputs cannot leave {bounds}, however large the parameters are{wanted}: an activation (tanh, sigmoid, ReLU, softmax), a clip or a normalisation after the final layer confines them. Return the final layer's outputs as they are, or give the targets the same range."
SAME = "All examples get the same output although their inputs differ: dead activations, an input that is ignored or blank, or a learning rate that killed the units in the first steps."
TOO_SMALL = "The parameters move too little at each step (updates are about {ratio:.1e} of their size; about 1e-3 is usual): the learning rate is too small, a clip is too tight, or a schedule is still near zero."
TOO_LARGE = "The parameters move a lot at each step (updates are about {ratio:.1e} of their size; about 1e-3 is usual): the learning rate is too high."
NOISY = "In training the model's own randomness moves its outputs more than the inputs do: dropout is far too strong (drop and keep rates mixed up?), or noise is added. Lower the dropout rate."
LOW_BUT_WRONG = "A low loss with wrong predictions: the sign of the loss is flipped, the loss reads other targets than the metric, or the classes are in another order."
REGULARISED = "The loss is reached in one mode but not in the other or hovers: look at strong dropout, weight decay that swamps the gradient, and noise in the step."
UNKNOWN = "Check that inputs and targets belong together and arrive at the model as they should, that the targets are what the loss expects, and that the model can express them."
ONE_AT_A_TIME = "A batch is one example here, and every step undoes what the one before has learnt; taken together as one batch, plain Adam learns the same examples in {steps} steps. Use a larger batch (or accumulate gradients), or a far lower learning rate."
DECAYED = "The steps shrink from {most:.1e} to {last:.1e} of the parameters' size by step {step}, and the gradient is still there: a learning-rate schedule that has run down. It looks counted in epochs: optax schedules count steps."
DECAY = "Weight decay swamps the gradient: the parameters have shrunk to {share:.0%} of their size, and where the run stalls the loss pulls them outwards as hard as the decay pulls them in. Lower the weight decay by orders of magnitude."
DIM = "The inputs hardly move the outputs: between examples these differ by {share:.2g} of their size in the untrained model, where the inputs themselves differ by {inputs:.2g}.{culprit} Look for saturating or squashing activations (sigmoid, softmax) in mid-network, many layers without normalisation, and initial values that are too small."
QUANTITY = "Every output is the number of the class: the labels are learnt as quantities, by a squared error. Classes want a cross entropy of logits, or one-hot targets."
OPTIMIZER = "Plain Adam learns the same examples with the same model and loss in {steps} steps: the cause is in the optimizer or the step. Look at the learning rate and its schedule, weight decay, clipping, momentum, and noise in the step."
NOT_THE_OPTIMIZER = "Plain Adam does not learn them either ({share:.0%} of the gap in {steps} steps), so look at the model, the loss and the targets first. "


def cause(setup: Setup, run: Run, key: PRNGKeyArray) -> Cause:
    """The first explanation that the failing run's own numbers support, the most certain first."""
    hint = _of_outputs(setup, run) or _of_first_steps(setup, run, key)
    if hint:
        return Cause(hint)
    confined = _confinement(setup, run, key)
    if confined:  # may be meant, as by normalised embeddings and a temperature
        return Cause(confined, known=False)
    hint = _of_stall(setup, run, key)
    return Cause(hint) if hint else _by_plain_adam(setup, run, key)


def _of_outputs(setup: Setup, run: Run) -> str:
    """What the outputs at the end give away."""
    n = setup.task.target.n if isinstance(setup.task.target, Classes) else 0
    outputs = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(run.outputs)]
    if n > 1 and are_probabilities(run.outputs) and not wants_probabilities(setup, run.outputs, run.targets):
        return TWICE
    if isinstance(setup.task.target, (Binary, MultiLabel)) and _sigmoid_twice(setup, run, outputs):
        return SIGMOID_TWICE
    if n > 1 and len(outputs) == 1 and outputs[0].ndim == 2 and np.ndim(run.targets) == 1:
        labels = np.asarray(run.targets)[:, None]
        if np.ptp(labels) > 0 and np.abs(outputs[0] - labels).max() < 0.25:
            return QUANTITY
    return ""


def _of_first_steps(setup: Setup, run: Run, key: PRNGKeyArray) -> str:
    """What the first steps and the gradient give away."""
    n = setup.task.target.n if isinstance(setup.task.target, Classes) else 0
    outputs = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(run.outputs)]
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
    last, most = run.moved[-1], max(run.moved)
    if last < FAINT * most and _gradient_left(setup, run, key, gradient):
        faint = np.flatnonzero(np.asarray(run.moved) >= FAINT * most)[-1]
        return DECAYED.format(most=most, last=last, step=run.steps[faint + 1])
    if all(np.ptp(leaf, axis=0).max(initial=0.0) < 1e-6 * (1 + np.abs(leaf).max(initial=0.0)) for leaf in outputs):
        return SAME
    if _noise(setup, run, key) > 1.0:
        return NOISY
    return TOO_SMALL.format(ratio=moved) if moved < 2e-4 or (moved < 1e-2 and _still_falling(run)) else ""


def _of_stall(setup: Setup, run: Run, key: PRNGKeyArray) -> str:
    """What the place where the run stalled gives away."""
    shrunk, outward = _pull(setup, run, key)
    if shrunk < 0.9 and outward > 0.2:
        return DECAY.format(share=shrunk)
    share, inputs = _dimness(setup, run, key)
    if share < 0.01 < inputs:
        squashed = sorted({joint.between for joint in joints(setup)} - {"linear"})
        culprit = f" A {' and a '.join(squashed)} stands in mid-network." if squashed else ""
        return DIM.format(share=share, inputs=inputs, culprit=culprit)
    return ""


def _by_plain_adam(setup: Setup, run: Run, key: PRNGKeyArray) -> Cause:
    """Whether the same model and loss learn the same examples with an optimizer that is known to work."""
    share, steps = _with_adam(setup, run, key)
    if share >= 0.95:
        singles = setup.batch_size == 1
        return Cause((ONE_AT_A_TIME if singles else OPTIMIZER).format(steps=steps), known=singles)
    apart = abs(run.training[-1] - run.evaluation[-1]) > 0.2 * abs(run.start - run.floor)
    if apart:
        return Cause(REGULARISED)
    return Cause(NOT_THE_OPTIMIZER.format(share=max(share, 0.0), steps=steps) + UNKNOWN, known=False)


def _with_adam(
    setup: Setup, run: Run, key: PRNGKeyArray, *, steps: int = 300, seconds: float = 5.0
) -> tuple[float, int]:
    """The share of the gap that Adam closes from the same start, all examples in one batch; and after how many steps."""
    params, model_state = setup.variables
    optimizer = optax.adam(3e-3)

    @jax.jit
    def move(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

    state, share, watch = optimizer.init(params), 0.0, Stopwatch()
    for step in range(1, steps + 1):
        loss, gradient = setup.gradients(
            params, model_state, run.inputs, run.targets, key=jax.random.fold_in(key, step), train=True
        )
        share = max(share, (run.start - float(loss)) / max(run.start - run.floor, 1e-12))
        if share >= 0.95 or watch.over(seconds):
            return share, step
        params, state = move(params, state, gradient)
    return share, steps


def _gradient_left(setup: Setup, run: Run, key: PRNGKeyArray, first: float) -> bool:
    """Whether the gradient at the end is still a tenth or more of what it was at the start."""
    variables = setup.loop.variables(run.state)
    _, gradient = setup.gradients(*variables, run.inputs, run.targets, key=key, train=True)
    return float(trees.global_norm(gradient)) > 0.1 * first


def _confinement(setup: Setup, run: Run, key: PRNGKeyArray) -> str:
    """Bounds that the outputs keep when all initial parameters are made 64 and 512 times as large, or of the other sign; nothing where there are none."""
    params, model_state = setup.variables

    def outputs(factor: float) -> np.ndarray:
        def scaled(leaf: Any) -> Any:
            return leaf * jnp.asarray(factor, leaf.dtype) if trees.is_floating(leaf) else leaf

        variables = (jax.tree.map(scaled, params), model_state)
        leaves = jax.tree.leaves(outputs_of(setup, variables, run.inputs, train=False, key=key))
        return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])

    ranges = []
    for factor in (64.0, 512.0):
        values = np.concatenate([outputs(factor), outputs(-factor)])
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            return ""
        ranges.append((values.min(), values.max()))
    width = ranges[0][1] - ranges[0][0]
    low, high = (abs(ranges[1][end] - ranges[0][end]) < 0.01 * width for end in (0, 1))
    if not (low or high):
        return ""
    bounds = f"[{ranges[1][0]:.3g}, {ranges[1][1]:.3g}]"
    if not (low and high):
        bounds = f"{ranges[1][0]:.3g} and above" if low else f"{ranges[1][1]:.3g} and below"
    wanted = ""
    if isinstance(setup.task.target, Values):
        targets = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(run.targets)])
        slack = 0.01 * np.ptp(targets)
        inside = (not low or targets.min() >= ranges[1][0] - slack, not high or targets.max() <= ranges[1][1] + slack)
        if all(inside):
            return ""
        wanted = f", and the targets go from {targets.min():.3g} to {targets.max():.3g}"
    return WITHIN.format(bounds=bounds, wanted=wanted)


def _pull(setup: Setup, run: Run, key: PRNGKeyArray) -> tuple[float, float]:
    """The size of the parameters now over that at the start, and the cosine between them and the way down the gradient."""
    params, model_state = setup.loop.variables(run.state)
    _, gradient = setup.gradients(params, model_state, run.inputs, run.targets, key=key, train=True)
    size, slope = float(trees.global_norm(params)), float(trees.global_norm(gradient))
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True)
    product = -sum(
        float(jnp.vdot(p.astype(jnp.float32), g.astype(jnp.float32))) for p, g in pairs if trees.is_floating(p)
    )
    return size / max(float(trees.global_norm(setup.params)), 1e-12), product / max(size * slope, 1e-30)


def _dimness(setup: Setup, run: Run, key: PRNGKeyArray) -> tuple[float, float]:
    """How much the untrained model's outputs, and its inputs, differ between examples, as shares of their size."""

    def spread(tree: Any) -> float:
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree) if trees.is_floating(leaf)]
        found = [float(leaf.std(axis=0).mean() / max(np.sqrt(np.square(leaf).mean()), 1e-30)) for leaf in leaves]
        return max(found, default=1.0)

    return spread(outputs_of(setup, setup.variables, run.inputs, train=False, key=key)), spread(run.inputs)


def _sigmoid_twice(setup: Setup, run: Run, outputs: list[np.ndarray]) -> bool:
    """Whether all outputs lie in [0, 1] though a right and certain answer there is far from the lowest loss."""
    if not all(((leaf >= 0) & (leaf <= 1)).all() for leaf in outputs) or not isinstance(run.outputs, jax.Array):
        return False
    certain = jnp.asarray(run.targets).reshape(run.outputs.shape).astype(run.outputs.dtype)
    return bool(float(setup.losses(certain, run.targets).mean()) > run.floor + 0.5 * (run.start - run.floor))


def confined_loss(setup: Setup, run: Run) -> bool:
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
        state, _ = setup.step(state, *run.batches[step % len(run.batches)], jax.random.fold_in(key, step))
        after = trees.copy(setup.loop.variables(state)[0])
        sizes.append(relative_change(before, after))
        if along == 0.0 and sizes[-1] > 0:
            change = jax.tree.map(lambda new, old: new.astype(jnp.float32) - old.astype(jnp.float32), after, before)
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
