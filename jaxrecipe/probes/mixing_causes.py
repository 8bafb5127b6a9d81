"""What makes the examples of a batch depend on each other, in the loss or in the model, found by trying."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import Cause, cause, causes
from jaxrecipe.probes.changed_values import replaced, revealing_parameters
from jaxrecipe.probes.dependencies import flat_outputs, movement, on_host, revealed_outputs
from jaxrecipe.probes.rounding import ROUNDINGS, SAME_PROGRAM, changed, model_rounding
from jaxrecipe.setup import Setup

ONE = 1e-3
"""How near to one the sum of probabilities must be."""
SAME_FACTOR = 1e-4
"""Relative difference of factors, or of losses, that are the same up to rounding in float32."""
NUMBERS_TRIED = 8
"""Single input numbers that are changed to see how many examples each reaches."""


def loss_mixes_examples(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether other outputs or targets of the first example change the loss of another."""
    outputs, targets, clean = _outputs_and_losses(setup, key)
    rounding = model_rounding(setup)
    after = [setup.losses(_first_replaced(outputs), targets), setup.losses(outputs, _first_replaced(targets))]
    return any(bool(changed(clean, np.asarray(one), rounding)[1:].any()) for one in after)


def loss_mixing_causes(setup: Setup, key: PRNGKeyArray) -> tuple[Cause, ...]:
    """What in the loss makes it compare examples, the likeliest first."""
    outputs, targets, clean = _outputs_and_losses(setup, key)
    for ours, theirs in zip(*(_shapes(tree) for tree in (outputs, targets)), strict=False):
        if ours != theirs and (ours[:1] == theirs or ours == theirs[:1]) and max(ours[1:] + theirs[1:]) == 1:
            here = f"Here outputs {ours} meet targets {theirs}."
            return cause("loss/broadcast", here=here), *causes("loss/mixes-examples")
    if all(shape[1:] and shape[-1] > 1 for shape in _shapes(outputs)):
        step = np.random.default_rng(0).normal(size=max(shape[-1] for shape in _shapes(outputs)))
        shifted = jax.tree.map(lambda leaf: (leaf + step[: leaf.shape[-1]]).astype(leaf.dtype), outputs)
        if not changed(clean, np.asarray(setup.losses(shifted, targets)), model_rounding(setup)).any():
            here = "The loss does not change when one number is added to one class of every example."
            return cause("loss/softmax-over-batch", here=here), *causes("loss/mixes-examples")
    if _is_a_weighted_mean(setup, outputs, targets, clean):
        return causes("loss/weighted-by-batch", "loss/mixes-examples")
    return causes("loss/mixes-examples", "loss/wrong-axis", "loss/broadcast")


def _is_a_weighted_mean(setup: Setup, outputs: Any, targets: Any, clean: np.ndarray) -> bool:
    """Whether examples meet in the loss by one factor alone, which their targets make and which is 1 among copies.

    A count of all tokens and a sum of weights are such; another example's outputs never matter, and copies of an
    example cost what it costs alone. Nothing is compared then, and nothing reduced that should not be.
    """
    rounding, others = model_rounding(setup), np.arange(1, len(clean))
    alone = setup.losses(*(jax.tree.map(lambda leaf: leaf[:1], tree) for tree in (outputs, targets)))
    repeated = [jax.tree.map(lambda leaf: np.repeat(leaf[:1], len(leaf), 0), tree) for tree in (outputs, targets)]
    copies = setup.losses(*repeated)
    if not np.allclose(np.asarray(copies), np.asarray(alone), rtol=max(SAME_FACTOR, ROUNDINGS * rounding)):
        return False
    if changed(clean, np.asarray(setup.losses(_first_replaced(outputs), targets)), rounding)[others].any():
        return False
    with np.errstate(all="ignore"):
        ratios = np.asarray(setup.losses(outputs, _first_replaced(targets)), np.float64)[others] / clean[others]
    ratios = ratios[clean[others] != 0]
    if ratios.size < 2 or not np.isfinite(ratios).all():
        return False
    moved = abs(ratios.mean() - 1) > SAME_FACTOR
    return bool(moved and np.ptp(ratios) <= max(SAME_FACTOR, ROUNDINGS * rounding) * abs(ratios.mean()))


def model_mixes_examples(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether other inputs of the first example change the outputs of another in evaluation mode."""
    inputs, before = on_host(setup.batch[0]), flat_outputs(revealed_outputs(setup, key))
    params = revealing_parameters(setup, key)
    outputs, _ = setup.forward(params, setup.model_state, _first_replaced(inputs), train=False, key=key)
    return bool((movement(before, flat_outputs(outputs))[1:] > _threshold(setup)).any())


def model_mixing_causes(setup: Setup, key: PRNGKeyArray) -> tuple[Cause, ...]:
    """What in the model hands numbers from one example to another at evaluation, the likeliest first."""
    return setup.memo((model_mixing_causes,), lambda: _model_mixing_causes(setup, key))


def _model_mixing_causes(setup: Setup, key: PRNGKeyArray) -> tuple[Cause, ...]:
    inputs, params = on_host(setup.batch[0]), revealing_parameters(setup, key)
    outputs, size = revealed_outputs(setup, key), trees.leading_size(inputs)
    trained = on_host(setup.forward(params, setup.model_state, inputs, train=True, key=key)[0])
    alike = movement(flat_outputs(outputs), flat_outputs(trained)).max() < _threshold(setup)
    if jax.tree.leaves(setup.model_state) and alike:
        here = "The model keeps a state, and gives the same outputs in training and in evaluation mode."
        return cause("model/batch-statistics-at-eval", here=here), *causes("model/normalizes-over-batch")
    if all(_sums_to_one_over_batch(leaf) for leaf in jax.tree.leaves(outputs)):
        here = "The outputs of the model sum to one over the batch."
        return cause("loss/softmax-over-batch", here=here), *causes("model/normalizes-over-batch")

    def forward(changed: Any) -> Any:
        return setup.forward(params, setup.model_state, changed, train=False, key=key)[0]

    reach, others = _reach(forward, inputs, flat_outputs(outputs), _threshold(setup))
    here = f"A single input number reaches the outputs of {others} of {size - 1} examples other than its own."
    if 0 < reach <= size // 2:
        return cause("model/reshape-for-transpose", here=here), *causes("model/mixes-examples")
    if reach == size:
        return cause("model/normalizes-over-batch", here=here), *causes("model/mixes-examples")
    return causes("model/mixes-examples", "model/reshape-for-transpose", "model/normalizes-over-batch")


def _outputs_and_losses(setup: Setup, key: PRNGKeyArray) -> tuple[Any, Any, np.ndarray]:
    outputs, targets = revealed_outputs(setup, key), on_host(setup.batch[1])
    return outputs, targets, np.asarray(setup.losses(outputs, targets))


def _first_replaced(tree: Any) -> Any:
    """The tree with other values in the first example."""
    return jax.tree.map(lambda leaf: replaced(leaf, np.arange(len(leaf)) == 0), tree)


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


def _sums_to_one_over_batch(leaf: np.ndarray) -> bool:
    return leaf.ndim > 1 and bool((leaf >= 0).all()) and np.allclose(leaf.sum(axis=0), 1, atol=ONE)


def _threshold(setup: Setup) -> float:
    """Movement, as a share of the spread of the outputs, from which on an output has changed."""
    return max(SAME_PROGRAM, model_rounding(setup))


def _reach(forward: Callable[[Any], Any], inputs: Any, before: np.ndarray, threshold: float) -> tuple[int, int]:
    """The most examples whose outputs one input number reaches, and the most of them that are not its own, over a few
    numbers that differ from example to example.
    """
    leaves, structure = jax.tree.flatten(inputs)
    rng, most, foreign = np.random.default_rng(0), 0, 0
    for _ in range(NUMBERS_TRIED):
        which = int(rng.integers(len(leaves)))
        leaf = leaves[which]
        varied = np.flatnonzero((leaf != leaf[:1]).reshape(len(leaf), -1).any(axis=0))
        where = np.zeros(leaf[0].size if leaf.ndim else 1, bool)
        where[rng.choice(varied) if len(varied) else 0] = True
        mask = np.zeros(leaf.shape, bool)
        own = int(rng.integers(len(leaf)))
        mask[own] = where.reshape(leaf.shape[1:])
        moved = [replaced(one, mask) if i == which else one for i, one in enumerate(leaves)]
        after = flat_outputs(forward(jax.tree.unflatten(structure, moved)))
        reached = movement(before, after) > threshold
        most, foreign = max(most, int(reached.sum())), max(foreign, int(reached.sum() - reached[own]))
    return most, foreign
