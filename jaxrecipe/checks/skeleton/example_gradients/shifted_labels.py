"""Do labels count from another number than the loss? Shift them by one, and see whether every example teaches."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.example_gradients.scan import Rows, unmoved_by_outputs
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.setup import Setup


def repairing_shift(setup: Setup, key: PRNGKeyArray, silent: Rows, rows: Rows) -> int | None:
    """-1 or 1 where adding it to the labels lets every example teach, among them those that did not; None otherwise.

    Args:
        setup: the set-up.
        key: seeds dropout and random outputs.
        silent: examples whose loss no output changes, or whose loss is not finite.
        rows: those looked at.
    """
    targets = on_host(setup.train.gather(rows)[1])
    labels = [leaf for leaf in jax.tree.leaves(targets) if np.issubdtype(leaf.dtype, np.integer)]
    if len(labels) != 1 or labels[0].reshape(len(rows), -1).shape[1] != 1:
        return None
    label = labels[0].reshape(-1)
    ends = {-1: label.max(), 1: label.min()}
    known = np.isin(rows, silent)
    for shift, end in ends.items():
        if np.array_equal(known, label == end) and _all_teach(setup, key, _examples_of_each(rows, label), shift):
            return shift
    return None


def _examples_of_each(rows: Rows, label: np.ndarray) -> Rows:
    """The first example of each label."""
    return rows[np.unique(label, return_index=True)[1]]


def _all_teach(setup: Setup, key: PRNGKeyArray, rows: Rows, shift: int) -> bool:
    """Whether all of some examples have a finite loss that outputs change, once their labels are shifted."""
    for start in range(0, len(rows), setup.batch_size):
        part = np.resize(rows[start : start + setup.batch_size], setup.batch_size)
        inputs, targets = on_host(setup.train.gather(part))
        batch = setup.prepare(inputs, jax.tree.map(lambda leaf: _shifted(leaf, shift), targets))
        outputs, _ = setup.forward(*setup.variables, batch[0], train=True, key=key)
        finite = np.isfinite(np.asarray(setup.losses(outputs, batch[1]))).all()
        if not finite or unmoved_by_outputs(setup, key, outputs, batch[1]).any():
            return False
    return True


def _shifted(leaf: Any, shift: int) -> Any:
    return leaf if trees.is_inexact(leaf) or leaf.dtype == np.bool_ else (leaf + shift).astype(leaf.dtype)
