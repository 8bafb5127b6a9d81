"""Whether augment lets one example's inputs reach another example."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.generalize_a_special_case.parts import flat_rows
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.changed_values import replaced
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.setup import Setup

TRIED = 3
"""Examples whose inputs are changed one after the other."""
SAME = 1e-5
"""Relative difference that counts as none: one program on one shape, in float32."""


def augmentation_findings(setup: Setup, key: PRNGKeyArray) -> list[Finding]:
    """What augment, with the same key, does to the other examples when the inputs of one are changed."""
    if setup.task.augment is None:
        return []
    augment, batch = jax.jit(setup.task.augment), on_host(setup.batch)
    size = trees.leading_size(batch[0])
    clean = augment(key, *batch)

    def reached(part: int, example: int) -> Bool[np.ndarray, "batch"]:
        """Which examples' inputs (part 0) or targets (part 1) change with those of one example."""
        moved = jax.tree.map(lambda leaf: replaced(leaf, np.arange(size) == example), batch[part])
        after = augment(key, *((moved, batch[1]) if part == 0 else (batch[0], moved)))
        return _changed_rows(clean[part], after[part])

    for example in range(min(TRIED, size)):
        found = _finding(example, reached(0, example), reached(1, example))
        if found is not None:
            return [found]
    return []


def _finding(example: int, inputs: Bool[np.ndarray, "batch"], targets: Bool[np.ndarray, "batch"]) -> Finding | None:
    """What it means that the inputs and targets of one example reach these."""
    others = np.arange(len(inputs)) != example
    if not (inputs & others).any():
        return None
    text = f"augment lets the inputs of example {example} reach {int((inputs & others).sum())} other examples."
    if not inputs[example] and not (targets == inputs).all():
        return failure("step/augmentation-misaligns", text)
    if not inputs[example] and (targets == inputs).all():
        return None  # whole examples change places
    both = bool((targets & others).any())
    return warning("step/augmentation-mixes-examples" if both else "step/augmentation-mixes-inputs", text)


def _changed_rows(before: Any, after: Any) -> Bool[np.ndarray, "batch"]:
    pairs = zip(flat_rows(after), flat_rows(before), strict=True)
    rows = [~np.isclose(a, b, rtol=SAME, atol=SAME / 10, equal_nan=True).all(axis=1) for a, b in pairs]
    return np.asarray(np.any(rows, axis=0))
