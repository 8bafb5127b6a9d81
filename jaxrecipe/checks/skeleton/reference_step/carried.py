"""What a step should carry and report beside the parameters: the model state, and the mean loss."""

import numpy as np

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.reference_step.rules import Context
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.first_steps import on_host

MOST_NAMES = 3
"""Leaves that a message names."""
CONSTANT_FACTOR = 0.01
"""Reported losses are a constant multiple of the mean where the factor varies by less than this share of it."""
NEARLY = 0.99
"""A factor of this share of the batch size is the batch size."""


def model_state_findings(context: Context) -> list[Finding]:
    """Leaves of the model state that a forward pass moves and the step does not, or that differ otherwise."""
    lost, wrong = _lost_and_wrong(context)
    if lost:
        text = f"The step does not carry the model state: {', '.join(lost[:MOST_NAMES])} never changes."
        return [failure("step/statistics-thrown-away", text, measures=(_number_of("leaves that never change", lost),))]
    if wrong:
        text = f"The parameters move as in a plain step, but the model state does not: {', '.join(wrong[:MOST_NAMES])}."
        return [warning("step/statistics-differ", text, measures=(_number_of("leaves that differ", wrong),))]
    return []


def _number_of(what: str, paths: list[str]) -> Measure:
    return Measure(name=f"model state, {what}", value=len(paths), low=0, high=0)


def _lost_and_wrong(context: Context) -> tuple[list[str], list[str]]:
    trace = context.comparison.trace
    exact = len(trace.gradients) == 1
    lost, wrong = [], []
    before, after = (
        [trees.named_leaves(getattr(step, side)[1]) for step in trace.steps] for side in ("before", "after")
    )
    wanted = [trees.named_leaves(state) for state in trace.wanted_states]
    for path, leaf in before[0].items():
        if not trees.is_floating(leaf) or any(path not in one for one in wanted):
            continue
        old, new, due = (np.stack([on_host(one[path]) for one in many]) for many in (before, after, wanted))
        asked = np.linalg.norm(due - old)
        if asked > 0 and np.array_equal(new, old):
            lost.append(path)
        elif exact and np.linalg.norm(new - due) > context.limit * np.linalg.norm(due) + asked:
            wrong.append(path)
    return lost, wrong


def reported_loss_findings(context: Context) -> list[Finding]:
    """Reported losses that are larger than the mean loss by a constant, the size of the batch or more."""
    trace, batch = context.comparison.trace, context.setup.batch_size
    pairs = [(loss, told) for loss, told in zip(trace.losses, trace.reported, strict=True) if told is not None]
    if len(trace.gradients) > 1 or len(pairs) < len(trace.losses) or batch <= 2:
        return []
    ratios = np.array([told / loss if loss else np.nan for loss, told in pairs])
    factor = float(np.mean(ratios))
    if not np.isfinite(ratios).all() or np.ptp(ratios) > CONSTANT_FACTOR * abs(factor):
        return []
    measure = Measure(name="reported loss, of the mean loss", value=factor, high=NEARLY * batch, severity=Severity.WARN)
    if measure.verdict is None:
        return []
    text = (
        "The parameters move as in a plain step, but the loss that the step reports is "
        f"{factor:.4g} times the mean loss of a batch of {batch}."
    )
    return [warning("step/reports-sum", text, measures=(measure,))]
