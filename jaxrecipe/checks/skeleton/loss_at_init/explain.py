"""What may be behind a loss at init that is wrong, the likeliest first, by what was tried and measured."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrecipe import trees
from jaxrecipe.data.batches import batch_indices
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.probes.output_domain import logits_as_probabilities_at_init, uninformed
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, certain_outputs, counted, each_head, heads

ROUNDING = 1e-5
"""Losses that differ by less than this are the same in float32."""


def causes_of_low_loss(setup: Setup) -> tuple[Cause, ...]:
    """A loss that compares examples beats every constant without knowing anything; otherwise something leaks."""
    size = setup.batch_size
    outputs, targets = jax.tree.map(lambda leaf: leaf[:size], setup.at_init[:2])
    raised = each_head(_with_first_column_raised, setup.task.target, outputs)
    if raised is not None and _same(setup, outputs, raised, targets):
        here = "Raising the first output of a whole batch changes no loss, as only a softmax over the batch allows."
        return (cause("loss/softmax-over-batch", here=here),)
    half = size // 2
    disturbed = jax.tree.map(lambda leaf: leaf.at[:half].multiply(-3), outputs)
    if not _same(setup, outputs, disturbed, targets, start=half):
        here = "Other outputs of half of the examples change the losses of the other half."
        return (cause("loss/mixes-examples", here=here), *causes("model/knows-too-much", "data/leaked-label"))
    return causes("model/knows-too-much", "data/leaked-label", "loss/divided-twice")


def _with_first_column_raised(head: Head) -> Array | None:
    """The outputs of classes with the first class raised by one everywhere; None at other heads."""
    return head.outputs.at[..., 0].add(1) if head.behavior.form == "exclusive" else None


def _same(setup: Setup, outputs: object, others: object, targets: object, *, start: int = 0) -> bool:
    """Whether two sets of outputs cost the same example by example, from one of them on."""
    one, other = (np.asarray(setup.losses(given, targets), np.float64)[start:] for given in (outputs, others))
    return bool(np.allclose(one, other, rtol=ROUNDING, atol=ROUNDING))


def causes_of_no_floor(setup: Setup) -> tuple[Cause, ...]:
    """The sign, where right answers cost more than none; a cross entropy of values; probabilities."""
    outputs, targets, _ = setup.at_init
    certain, nothing = certain_outputs(setup.task.target, outputs, targets), uninformed(setup, outputs, targets)
    if certain is not None and nothing is not None:
        right, none = (float(setup.losses(answer, targets).mean()) for answer in (certain, nothing))
        if right > none:
            here = f"Answers that are right and certain cost {right:.4g}, answers that say nothing {none:.4g}."
            return (cause("loss/sign-flipped", here=here),)
    if any(head.behavior.form == "real" for head in heads(setup.task.target)):
        return causes("loss/cross-entropy-for-values", "loss/sign-flipped", "loss/unbounded")
    return causes("loss/sign-flipped", "loss/logits-as-probabilities", "loss/unbounded")


def causes_of_not_finite(setup: Setup) -> tuple[Cause, ...]:
    """Inputs, labels, outputs, loss: the first of them that is wrong comes first."""
    outputs, targets, _ = setup.at_init
    found = []
    if not all(map(_finite, _inputs_at_init(setup))):
        found.append(cause("data/not-finite"))
    if not _finite(targets):
        found.append(cause("data/labels-not-finite"))
    if any(map(_out_of_range, heads(setup.task.target, outputs, targets))):
        found.append(cause("data/labels-out-of-range"))
    if _finite(outputs):
        found += [cause("loss/logits-as-probabilities")] if logits_as_probabilities_at_init(setup) else []
    elif jnp.dtype(setup.task.precision.compute_dtype) != jnp.float32:
        found.append(cause("precision/activations-overflow"))
    return (*found, cause("loss/not-finite"))


def _inputs_at_init(setup: Setup) -> Iterator[object]:
    """The batches of inputs on which the untrained model was measured."""
    for step in range(len(setup.at_init.losses) // setup.batch_size):
        yield setup.prepared("train", batch_indices(setup.seed, step, setup.train.size, setup.batch_size)[0])[0]


def _out_of_range(head: Head) -> bool:
    """Whether some label is none of the classes; padding among tokens is meant."""
    if head.behavior.form != "exclusive" or head.behavior.by_position or head.targets is None:
        return False
    return not counted(head.target, head.targets).all()


def _finite(tree: object) -> bool:
    return all(
        np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(tree) if trees.is_floating(leaf)
    )
