"""Whether the loss that a training step reports is the sum over the batch where its mean was meant."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.setup import Setup

SMALLEST_BATCH = 4
"""A sum over fewer examples is too near to the mean to be told from it, under dropout."""
SMALLEST_LOSS = 1e-6
"""A mean loss below this has no ratio that means anything."""
NEAR = 0.8
"""Share of the batch size from which on (and one over it, up to which) a ratio counts as the batch size: dropout moves
it."""


def reported_loss(setup: Setup, key: PRNGKeyArray) -> tuple[Measure | None, Finding | None]:
    """The reported loss over the mean of the losses, and what it amounts to; neither where the step reports none."""
    size = setup.batch_size
    if size < SMALLEST_BATCH:
        return None, None
    _, metrics = setup.step(setup.fresh_state(), *setup.batch, key)
    if "loss" not in metrics:
        return None, None
    mean = setup.mean_loss(setup.params, setup.model_state, *setup.batch, train=True, key=key)
    reported = float(np.mean(metrics["loss"]))
    if not np.isfinite([mean, reported]).all() or abs(mean) < SMALLEST_LOSS:
        return None, None
    ratio = Measure(name="reported loss over the mean loss", value=reported / mean)
    if not NEAR < ratio.value / size < 1 / NEAR:
        return ratio, None
    text = f"The step reports a loss of {reported:.4g}, {ratio.value:.3g} times the mean over the batch of {size}."
    return ratio, failure("step/reports-sum", text, measures=(ratio,))
