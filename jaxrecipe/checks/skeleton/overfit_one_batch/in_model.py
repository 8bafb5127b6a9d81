"""Hypotheses that blame the model: outputs that are all alike, drowned, faint or confined."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence
from jaxrecipe.checks.skeleton.overfit_one_batch.trials import ADAM_LEARNS
from jaxrecipe.diagnosis.causes.table import Cause, cause
from jaxrecipe.targets import certain_outputs

DROWNED = 1.0
"""Noise over signal in the outputs from which examples cannot be told apart by one draw."""
DIM = 0.01
"""Share of their size by which outputs (inputs) must differ between examples for a model to tell these apart."""
OUT_OF_REACH = 0.2
"""Share of the gap that the nearest outputs within the bounds must leave open to be the reason of a failure."""
SLACK = 0.01
"""Share of the width of the targets by which they may reach over the bounds of the outputs."""


def dead_units(evidence: Evidence) -> Cause | None:
    """All examples get one output from the start on, and no longer once all biases are raised."""
    if same_outputs(evidence) is None or not evidence.opens_with_raised_biases:
        return None
    return cause("model/dead-units", here="With all biases raised the untrained model tells the examples apart.")


def input_ignored(evidence: Evidence) -> Cause | None:
    """All examples get one output from the start on, raised biases or not."""
    if same_outputs(evidence) is None or evidence.opens_with_raised_biases:
        return None
    here = "The untrained model gives all examples one output, with all biases raised too."
    return cause("model/input-ignored", here=here)


def same_outputs(evidence: Evidence) -> Cause | None:
    """All examples get one output, from the start on."""
    if not evidence.same_outputs or not evidence.same_outputs_at_start:
        return None
    return cause("model/constant-outputs", here="They do so in the untrained model too.")


def dropout_too_strong(evidence: Evidence) -> Cause | None:
    """In training mode outputs differ more from draw to draw than from example to example."""
    if evidence.noise <= DROWNED:
        return None
    here = f"In training mode outputs differ {evidence.noise:.2g} times as much from draw to draw as between examples."
    return cause("model/dropout-too-strong", here=here)


def saturating_activation(evidence: Evidence) -> Cause | None:
    """The inputs hardly move the outputs, and a sigmoid or softmax stands in mid-network."""
    if not _dim(evidence) or not evidence.between_layers:
        return None
    here = f"A {' and a '.join(evidence.between_layers)} stands in mid-network. {_in_numbers(evidence)}"
    return cause("model/saturating-activation", here=here)


def signal_fades(evidence: Evidence) -> Cause | None:
    """The inputs hardly move the outputs."""
    return cause("model/signal-fades", here=_in_numbers(evidence)) if _dim(evidence) else None


def outputs_confined(evidence: Evidence) -> Cause | None:
    """However large the parameters, the outputs stay within bounds, and the targets do not."""
    bounds = evidence.bounds
    if bounds is None:
        return None
    wanted = ""
    targets = _real_targets(evidence)
    if targets is not None:
        slack = SLACK * np.ptp(targets)
        if bounds.low - slack <= targets.min() and targets.max() <= bounds.high + slack:
            return None
        wanted = f", and the targets go from {targets.min():.3g} to {targets.max():.3g}"
    here = f"The outputs cannot leave {_interval(bounds.low, bounds.high)}, however large the parameters are{wanted}."
    return cause("model/outputs-confined", here=here)


def out_of_reach(evidence: Evidence) -> bool:
    """Whether values that are wanted lie outside of the bounds of the outputs, and the nearest within leave much of
    the gap open. Logits may be bounded by design, as those of normalized embeddings and a temperature are.
    """
    if evidence.bounds is None or _real_targets(evidence) is None:
        return False
    right = certain_outputs(evidence.setup.task.target, evidence.run.outputs, evidence.run.targets)
    if right is None:
        return False
    low, high = evidence.bounds
    nearest = jax.tree.map(lambda leaf: jnp.clip(leaf, jnp.float32(low), jnp.float32(high)), right)
    return evidence.run.fraction_closed(evidence.loss_at(nearest)) < 1 - OUT_OF_REACH


def not_expressive(evidence: Evidence) -> Cause | None:
    """Plain Adam does not learn the examples either: whether anything does is not known."""
    closed, steps = evidence.trials.plain_adam
    if closed >= ADAM_LEARNS:
        return None
    here = f"Plain Adam closes {max(closed, 0.0):.0%} of the gap in {steps} steps with the same model and loss."
    return cause("model/not-expressive", here=here)


def _real_targets(evidence: Evidence) -> Float[np.ndarray, "numbers"] | None:
    """The targets, where all of them are real numbers that the outputs answer."""
    real = [np.asarray(head.targets, np.float64).ravel() for head in evidence.heads if head.behavior.form == "real"]
    return np.concatenate(real) if real and len(real) == len(evidence.heads) else None


def _dim(evidence: Evidence) -> bool:
    """Whether examples that differ clearly have outputs that hardly do."""
    return evidence.output_spread < DIM < evidence.input_spread


def _in_numbers(evidence: Evidence) -> str:
    return (
        f"Between examples, outputs differ by {evidence.output_spread:.2g} of their size in the untrained model, "
        f"inputs by {evidence.input_spread:.2g}."
    )


def _interval(low: float, high: float) -> str:
    """Bounds in words."""
    if np.isinf(high):
        return f"{low:.3g} and above"
    return f"{high:.3g} and below" if np.isinf(low) else f"[{low:.3g}, {high:.3g}]"
