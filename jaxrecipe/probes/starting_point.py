"""Where an untrained model starts, and which change brings it nearer to the constant predictor: by trying."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.probes.constant_predictor import (
    ConstantFit,
    constant_at_init,
    losses_at_constant,
    mean_output,
    uninformed_loss,
)
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads

MOST_BIASES = 8
"""Parameters of the right size that are tried as the final bias, the last ones first."""
SAME_SHIFT = 1e-3
"""Outputs that a final bias shifts differ in their shift by rounding only, half precision included."""
FAR_MEAN = 3.0
"""Targets whose mean is further from zero than this are not centered; standardized ones have 0."""
FAR_SCALE = 5.0
"""Targets whose standard deviation is this many times larger or smaller than 1 are not scaled."""


@dataclass(frozen=True)
class StartingPoint:
    """Mean losses of the untrained model on the examples of `Setup.at_init`, as it is and with one thing changed.

    Attributes:
        loss: as it is.
        uninformed: what a model scores that knows nothing yet: the constant predictor or equal logits.
        centered: with the outputs shifted so that their mean is the constant predictor's output.
        mean_only: with every output replaced by the mean of the outputs.
        inputs_size: root mean square of the floating inputs as they enter the model, of the leaf where it is largest; 0
            without any.
        inputs_standardized: on the first batch with each input at zero mean and unit variance, less the loss of that
            batch as it is, added to `loss`: what it would be; None where no input is floating.
        targets_mean, targets_std: of the declared values, of the head where they are furthest from 0 and 1; None
            without any.
        outputs_std: spread of the outputs over the examples, of the leaf where it is largest.
    """

    loss: float
    uninformed: float
    centered: float
    mean_only: float
    inputs_size: float
    inputs_standardized: float | None
    targets_mean: float | None
    targets_std: float | None
    outputs_std: float

    @property
    def targets_far_from_zero(self) -> bool:
        """Whether declared values are not centered."""
        return self.targets_mean is not None and abs(self.targets_mean) > FAR_MEAN

    @property
    def targets_far_from_unit_scale(self) -> bool:
        """Whether declared values spread far more, or far less, than by one."""
        return self.targets_std is not None and times_from_one(self.targets_std) > FAR_SCALE

    @property
    def about_targets(self) -> str:
        """Mean and spread of the declared values, in words."""
        return f"They have mean {self.targets_mean:.3g} and standard deviation {self.targets_std:.3g}."


def times_from_one(value: float) -> float:
    """How many times larger, or smaller, than one."""
    return max(value, 1.0 / max(value, 1e-12))


def starting_point(setup: Setup) -> StartingPoint:
    """Measures it, once for all checks of a set-up."""
    return setup.memo(starting_point, lambda: _measure(setup))


def _measure(setup: Setup) -> StartingPoint:
    outputs, targets, losses = setup.at_init
    fit, now = constant_at_init(setup), mean_output(outputs)
    size, standardized = _standardized_inputs(setup)
    mean, std = _values(setup, targets)
    loss = float(np.asarray(losses, np.float64).mean())
    return StartingPoint(
        loss=loss,
        uninformed=uninformed_loss(setup, fit, outputs, targets),
        centered=float(np.asarray(setup.losses(shifted(outputs, fit, now), targets), np.float64).mean()),
        mean_only=float(losses_at_constant(setup, now, outputs, targets).mean()),
        inputs_size=size,
        inputs_standardized=None if standardized is None else loss + standardized,
        targets_mean=mean,
        targets_std=std,
        outputs_std=max(float(np.asarray(leaf, np.float64).std(axis=0).mean()) for leaf in jax.tree.leaves(outputs)),
    )


def shifted(outputs: Any, fit: ConstantFit, mean: Any) -> Any:
    """The outputs with the final bias set so that their mean is the constant predictor's output."""
    return jax.tree.map(lambda out, best, now: out + (best - now).astype(out.dtype), outputs, fit.output, mean)


def _standardized_inputs(setup: Setup) -> tuple[float, float | None]:
    """The largest root mean square among the floating inputs of the first batch, and by how much the loss changes when
    each is standardized.
    """
    inputs, targets = setup.batch
    floating = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(inputs) if trees.is_floating(leaf)]
    if not floating or not all(np.isfinite(leaf).all() for leaf in floating):
        return 0.0, None

    def standardized(leaf: Any) -> Any:
        if not trees.is_floating(leaf):
            return leaf
        values = leaf.astype(jnp.float32)
        return ((values - values.mean()) / jnp.maximum(values.std(), 1e-12)).astype(leaf.dtype)

    key = jax.random.fold_in(setup.key, 0)
    as_is, changed = (
        setup.mean_loss(setup.params, setup.model_state, given, targets, train=True, key=key)
        for given in (inputs, jax.tree.map(standardized, inputs))
    )
    return max(float(np.sqrt(np.square(leaf).mean())) for leaf in floating), changed - as_is


def _values(setup: Setup, targets: Any) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the declared values, of the head where they are furthest from 0 and 1."""
    found = []
    for head in heads(setup.task.target, None, targets):
        if head.behavior.form == "real" and trees.is_array(head.targets):
            values = np.asarray(head.targets, np.float64)
            found.append((float(values.mean()), float(values.std())))
    return max(found, key=lambda pair: abs(pair[0]) + abs(np.log(max(pair[1], 1e-12))), default=(None, None))


def final_biases(setup: Setup) -> dict[str, str | None]:
    """The parameter that shifts all outputs alike, for each output by its path; None where there is none.

    Found by trying: parameters with one number an output are raised by one, and the outputs must all change by the
    same.
    """
    return setup.memo(final_biases, lambda: _final_biases(setup))


def _final_biases(setup: Setup) -> dict[str, str | None]:
    inputs, _ = setup.batch
    leaves, structure = jax.tree.flatten(setup.params)
    names, key = trees.paths(setup.params), jax.random.fold_in(setup.key, 0)

    def outputs(number: int | None) -> dict[str, np.ndarray]:
        changed = [leaf + jnp.ones_like(leaf) if i == number else leaf for i, leaf in enumerate(leaves)]
        given, _ = setup.forward(jax.tree.unflatten(structure, changed), setup.model_state, inputs, train=True, key=key)
        return {path: np.asarray(leaf, np.float64) for path, leaf in trees.named_leaves(given).items()}

    before = outputs(None)
    widths = {path: leaf.shape[-1] if leaf.ndim > 1 else 1 for path, leaf in before.items()}
    fitting = [i for i, leaf in enumerate(leaves) if trees.is_floating(leaf) and leaf.size in widths.values()]
    found: dict[str, str | None] = dict.fromkeys(before)
    for number in reversed(fitting[-MOST_BIASES:]):
        after = outputs(number)
        for path, leaf in before.items():
            if found[path] is None and leaves[number].size == widths[path] and _same_shift(after[path] - leaf):
                found[path] = names[number]
    return found


def bias_share(setup: Setup) -> float:
    """How much of the differences between the outputs' means the final bias makes, 0 to 1 or so; 0 without a bias."""
    parameters, means = trees.named_leaves(setup.params), trees.named_leaves(mean_output(setup.at_init.outputs))
    shares = [
        float(
            np.ptp(np.asarray(parameters[name], np.float64)) / max(np.ptp(np.asarray(means[path], np.float64)), 1e-12)
        )
        for path, name in final_biases(setup).items()
        if name is not None and np.size(means[path]) > 1
    ]
    return max(shares, default=0.0)


def _same_shift(change: np.ndarray) -> bool:
    """Whether all outputs moved, and by the same."""
    middle = float(np.median(change))
    return middle != 0 and bool((np.abs(change - middle) <= SAME_SHIFT * (abs(middle) + 1.0)).all())
