"""What may be behind a loss at init that is wrong, the likeliest first, by what was tried and measured."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.probes.output_domain import logits_as_probabilities_at_init, uninformed
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, certain_outputs, counted, heads


def causes_of_no_floor(setup: Setup) -> tuple[Cause, ...]:
    """The sign, where right answers cost more than answers that say nothing; a cross entropy of values; unbounded outputs."""
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
    inputs, _ = setup.batch
    found = []
    if not _finite(inputs):
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


def _out_of_range(head: Head) -> bool:
    """Whether some label is none of the classes; padding among tokens is meant."""
    if head.behavior.form != "exclusive" or head.behavior.by_position or head.targets is None:
        return False
    return not counted(head.target, head.targets).all()


def _finite(tree: object) -> bool:
    return all(
        np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(tree) if trees.is_floating(leaf)
    )
