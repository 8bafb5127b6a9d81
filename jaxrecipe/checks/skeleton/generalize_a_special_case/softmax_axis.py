"""Along which axis a loss takes its softmax: it does not change when one number is added everywhere along that axis."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.dependencies import on_host, revealed_outputs
from jaxrecipe.probes.rounding import ROUNDINGS, model_rounding, noise_floor
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, heads

INVARIANT = 1e-3
"""Relative change of a loss below which it counts as unchanged by numbers about as large as one."""
NOTHING = 1e-5
"""Change of a loss that counts as none whatever its size."""
ONE = 1e-3
"""How near to one the sum of probabilities must be."""


def softmax_findings(setup: Setup, key: PRNGKeyArray) -> list[Finding]:
    """Each head whose softmax runs over another axis than its classes, or over labels that may hold at once."""
    outputs, targets = revealed_outputs(setup, key), on_host(setup.batch[1])
    found = []
    for head in heads(setup.task.target, outputs, targets):
        if (
            not isinstance(head.outputs, np.ndarray)
            or not isinstance(head.targets, np.ndarray)
            or head.outputs.ndim < 2
        ):
            continue
        probe = HeadProbe(setup, head, outputs, targets)
        if head.behavior.form == "exclusive" and head.outputs.shape[:-1] == head.targets.shape:
            found += _wrong_axis(head, probe)
        elif head.behavior.form == "independent" and head.outputs.shape[-1] > 1 and probe.takes_softmax_over_labels():
            text = "The loss takes a softmax over the labels, of which several may hold at once."
            here = "The loss does not change when one number is added to all outputs of an example."
            found.append(
                warning(
                    "loss/softmax-over-multilabel", text, causes=(cause("loss/softmax-over-multilabel", here=here),)
                )
            )
    return found


class HeadProbe:
    """Asks the loss about one head: what it is when random numbers are added to the head's outputs."""

    def __init__(self, setup: Setup, head: Head, outputs: Any, targets: Any) -> None:
        self.setup, self.head, self.outputs, self.targets = setup, head, outputs, targets
        self.clean = np.asarray(setup.losses(outputs, targets))
        self.rng = np.random.default_rng(0)

    def unchanged(self, shape: tuple[int, ...]) -> bool:
        """Whether the losses stay the same when numbers of a shape, broadcast along the axes of length one, are
        added.
        """
        rounding = model_rounding(self.setup)
        moved = (self.head.outputs + self.rng.normal(size=shape)).astype(self.head.outputs.dtype)
        swap = lambda leaf: moved if leaf is self.head.outputs else leaf  # noqa: E731
        after = np.asarray(self.setup.losses(jax.tree.map(swap, self.outputs), self.targets))
        nothing = max(NOTHING, noise_floor(moved, rounding))
        return bool(np.allclose(after, self.clean, rtol=max(INVARIANT, ROUNDINGS * rounding), atol=nothing))

    def invariant_along(self, axis: int) -> bool:
        """Whether one number added everywhere along an axis changes nothing."""
        return self.unchanged(tuple(1 if i == axis else n for i, n in enumerate(self.head.outputs.shape)))

    def takes_softmax_over_labels(self) -> bool:
        """Whether the labels of an example compete, in a loss that does see the outputs."""
        return self.invariant_along(self.head.outputs.ndim - 1) and not self.unchanged(self.head.outputs.shape)


def _wrong_axis(head: Head, probe: HeadProbe) -> list[Finding]:
    """Whether the softmax of the loss or of the model runs over another axis than the classes'."""
    outputs = head.outputs
    last, wide = outputs.ndim - 1, [axis for axis in range(outputs.ndim) if outputs.shape[axis] > 1]
    axis, here = None, "The loss does not change when a number is added along that axis."
    if last in wide and not probe.invariant_along(last) and not probe.unchanged(outputs.shape):
        axis = next((axis for axis in wide if axis != last and probe.invariant_along(axis)), None)
    if axis is None:
        sums_to_one = [one for one in wide if _probabilities_along(outputs, one)]
        axis = sums_to_one[0] if sums_to_one and last not in sums_to_one else None
        here = "The model's probabilities sum to one along that axis."
    if axis is None:
        return []
    text = f"The softmax is taken over axis {axis} of the outputs {list(outputs.shape)}, not over the classes."
    return [failure("loss/softmax-over-batch", text, causes=(cause("loss/softmax-over-batch", here=here),))]


def _probabilities_along(outputs: np.ndarray, axis: int) -> bool:
    """Whether the outputs are probabilities, or their logarithms, that sum to one along an axis."""
    wide = outputs.astype(np.float64)
    logs = np.allclose(np.exp(wide).sum(axis=axis), 1, atol=ONE)
    return logs or bool((wide >= 0).all() and np.allclose(wide.sum(axis=axis), 1, atol=ONE))
