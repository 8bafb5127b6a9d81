"""What may be behind a model that starts far off, the likeliest first, by what was tried and measured."""

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.constant_predictor import constant_at_init
from jaxrecipe.probes.starting_point import (
    StartingPoint,
    bias_share,
    final_biases,
    starting_point,
    times_from_one,
)
from jaxrecipe.setup import Setup
from jaxrecipe.targets import class_counts, heads, label_entropies

OF_A_CROSS_ENTROPY = (0.5, 2.0)
"""A constant predictor within these multiples of the labels' entropy is one of a cross entropy, focal and weighted ones
too."""
LEAST_ENTROPY = 0.05
"""Labels with less entropy than this, in nats, are all but constant: a constant output may be right about them."""
MOSTLY = 0.5
"""A change that removes more than this share of the excess is what the excess is mostly about."""
LITTLE = 0.1
"""A change that removes less than this share of the excess is not what the excess is about."""
ROUNDING = 1e-4
"""Sums in another order differ by less than this, relatively, in float32."""
MANY_EQUAL = 0.1
"""More than this share of examples with exactly one and the same highest loss are cut off there."""
LARGE_INPUTS = 3.0
"""Root mean square beyond which inputs are not scaled; standardized ones have 1, pixels in [0, 1] less."""


def causes_of_high_loss(setup: Setup) -> tuple[Cause, ...]:
    """Inputs, the mean of the outputs, their spread: whichever change takes the untrained loss where it belongs."""
    start = starting_point(setup)
    excess = max(start.loss - start.uninformed, 1e-12)

    def removed(loss: float | None) -> float:
        """Share of the excess that is gone at this loss."""
        return 0.0 if loss is None or not np.isfinite(loss) else (start.loss - loss) / excess

    ranked = (
        [cause("loss/broadcast", here="Other targets for each output change no loss.")]
        if compares_with_every_target(setup)
        else []
    )
    random = _by_chance(setup)
    ranked += [] if random is None else [random]
    if start.inputs_size > LARGE_INPUTS and removed(start.inputs_standardized) > MOSTLY:
        here = f"Their root mean square is {start.inputs_size:.3g}; with standardized inputs this loss would be "
        ranked.append(cause("data/inputs-not-scaled", here=f"{here}{start.inputs_standardized:.4g}."))
    parts = [(removed(start.centered), _of_the_mean(setup, start)), (removed(start.mean_only), _of_the_spread(start))]
    parts.sort(key=lambda part: -part[0])
    ranked += [found for share, found in parts if share > LITTLE] or ([] if ranked else [parts[0][1]])
    return tuple({one.code: one for one in ranked}.values())


def compares_with_every_target(setup: Setup) -> bool:
    """Whether outputs and targets have as many numbers in another shape, and each output is compared with every target:
    the losses stay as they are when the targets are given in another order.
    """
    outputs, targets = jax.tree.map(lambda leaf: leaf[: setup.batch_size], setup.at_init[:2])
    shapes = [(h.outputs, h.targets) for h in heads(setup.task.target, outputs, targets) if h.behavior.form == "real"]
    if not any(trees.is_array(a) and trees.is_array(b) and a.size == b.size and a.shape != b.shape for a, b in shapes):
        return False
    turned = jax.tree.map(lambda leaf: leaf[::-1], targets)
    one, other = (np.asarray(setup.losses(outputs, given)) for given in (targets, turned))
    return bool(np.allclose(one, other, rtol=ROUNDING))


def _by_chance(setup: Setup) -> Cause | None:
    """Dropout, where the loss depends on the key and most of its excess is gone in evaluation mode."""
    inputs, targets = setup.batch
    start = starting_point(setup)

    def loss(number: int, *, train: bool = True) -> float:
        key = jax.random.fold_in(setup.key, number)
        return setup.mean_loss(setup.params, setup.model_state, inputs, targets, train=train, key=key)

    first, second = loss(0), loss(1)
    if abs(first - second) <= ROUNDING * abs(first):
        return None
    quiet = loss(0, train=False)
    if first - quiet <= MOSTLY * (first - start.uninformed):
        return None
    return cause("model/dropout-too-strong", here=f"In evaluation mode this loss would be {quiet:.4g}.")


def _of_the_mean(setup: Setup, start: StartingPoint) -> Cause:
    """The outputs are off on average: by a bias that was set otherwise, by initial weights, or by targets."""
    if not any(head.behavior.form == "real" for head in heads(setup.task.target)):
        here = f"With the final bias set to the prior, this loss would be {start.centered:.4g}."
        by_bias = bias_share(setup) > MOSTLY
        return cause("model/final-bias-ignores-prior" if by_bias else "model/initialization-too-large", here=here)
    if None in final_biases(setup).values() and not start.targets_far_from_unit_scale:
        return cause("model/no-final-bias")
    if start.targets_far_from_zero or start.targets_far_from_unit_scale:
        return cause("data/targets-not-scaled", here=start.about_targets)
    return cause("model/final-bias-ignores-prior", here=f"With it set, this loss would be {start.centered:.4g}.")


def _of_the_spread(start: StartingPoint) -> Cause:
    """The outputs differ too much from example to example, or the targets too little."""
    if start.targets_far_from_unit_scale and times_from_one(start.targets_std or 1.0) > times_from_one(
        start.outputs_std
    ):
        return cause("data/targets-not-scaled", here=start.about_targets)
    here = (
        f"The outputs spread by {start.outputs_std:.3g}; at their mean alone this loss would be {start.mean_only:.4g}."
    )
    return cause("model/initialization-too-large", here=here)


def losses_clipped(setup: Setup) -> bool:
    """Whether many examples of the untrained model have exactly the same highest loss, though their outputs differ."""
    losses = np.asarray(setup.at_init.losses, np.float64)
    outputs = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(setup.at_init.outputs)]
    differ = all(leaf.std(axis=0).max() > 0 for leaf in outputs)
    return bool(differ and (losses == losses.max()).mean() > MANY_EQUAL)


def cross_entropy_scale(setup: Setup) -> Measure | None:
    """The constant predictor's loss within the bounds of a cross entropy, for one declared set of classes; None
    elsewhere, and where the labels are all but constant.
    """
    entropies, counts = label_entropies(setup.task.target, setup.at_init.targets), class_counts(setup.task.target)
    declared = heads(setup.task.target)
    if len(declared) != 1 or declared[0].behavior.form != "exclusive" or declared[0].behavior.by_position:
        return None
    entropy = next(iter(entropies.values()), 0.0)
    few, many = OF_A_CROSS_ENTROPY
    return (
        None
        if entropy <= LEAST_ENTROPY
        else Measure(
            name="loss of a constant output",
            value=constant_at_init(setup).loss,
            low=few * entropy,
            high=many * max(entropy, float(np.log(next(iter(counts.values()))))),
            severity=Severity.WARN,
            unit="nats",
            code="loss/not-a-cross-entropy",
        )
    )
