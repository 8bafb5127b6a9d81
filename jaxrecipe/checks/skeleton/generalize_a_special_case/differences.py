"""What it means that a part gives something else for a batch than for its examples one by one."""

from dataclasses import replace

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.generalize_a_special_case.parts import Compared, depends_on_place
from jaxrecipe.diagnosis.causes.table import Cause, cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.changed_values import revealing_parameters
from jaxrecipe.probes.dependencies import flat_outputs, movement, revealed_outputs
from jaxrecipe.probes.mixing_causes import loss_mixing_causes, model_mixing_causes
from jaxrecipe.probes.rounding import SAME_PROGRAM
from jaxrecipe.setup import Setup

STEADY = 0.01
"""Spread, as a share of their mean, of the ratios of losses that are all a sum or a quotient of what they should be."""
NEAR_SIZE = 0.1
"""How near such a ratio must be to the batch size, or to one over it."""
ALL_ALIKE = 1e-4
"""Spread, as a share of their size, of losses that are all the same."""


def difference_measures(compared: Compared, tolerance: float) -> tuple[Measure, ...]:
    """How far a batch is from its examples, and how far it may be: the tolerance, or what rounding explains."""
    if compared.problem:
        return ()
    within = max(tolerance, compared.noise)
    named = {"tolerance": tolerance}
    return tuple(
        Measure(
            name=f"{compared.part.name}: difference {how}",
            value=value,
            high=within,
            unit="spreads",
            thresholds={"high": "tolerance"} if within in named.values() else {},
        )
        for how, value in (("one by one", compared.alone), ("in reverse order", compared.reversed))
    )


def difference(setup: Setup, key: PRNGKeyArray, compared: Compared, measures: tuple[Measure, ...]) -> Finding | None:
    """What is wrong with a part; None where batch and examples agree."""
    part = compared.part
    if compared.problem:
        text = f"{part.name}: {compared.problem}."
        return failure("model/batch-size-fixed", text)
    outside = sorted((one for one in measures if one.verdict is not None), key=lambda one: -one.value)
    if not outside:
        return None
    worst = outside[0]
    how = "one by one" if worst.name.endswith("one by one") else "in reverse order"
    text = f"{part.name}: a batch and its examples {how} differ by {worst.value:.2g} of its spread."
    moved = measures[1].verdict is not None
    found = _causes(setup, key, compared, moved=moved, tolerance=worst.high or 0.0)
    if found[0].code == "loss/weighted-by-batch":  # nothing shows that this mean is not meant
        worst = replace(worst, severity=Severity.WARN, code=found[0].code)
        return warning(found[0].code, text, measures=(worst,), causes=found)
    return failure(found[0].code, text, measures=(worst,), causes=found)


def _causes(setup: Setup, key: PRNGKeyArray, compared: Compared, *, moved: bool, tolerance: float) -> tuple[Cause, ...]:
    """Why they differ, the likeliest first."""
    name = compared.part.name
    if name == "model" and _random_at_evaluation(setup, key):
        here = "Another key gives other outputs in evaluation mode."
        return cause("evaluation/training-mode", here=here), *causes("evaluation/random")
    if moved and depends_on_place(compared.part, tolerance):
        here = f"What {name} gives for an example depends on its place in the batch, and not on the other examples."
        return (cause("loss/weights-by-place", here=here),)
    if name == "prepare":
        return causes("model/prepare-mixes-examples")
    if name == "model":
        return model_mixing_causes(setup, key)
    return _causes_in_loss(setup, key, compared) if name == "loss" else causes("loss/metric-mixes-examples")


def _causes_in_loss(setup: Setup, key: PRNGKeyArray, compared: Compared) -> tuple[Cause, ...]:
    """A factor that all losses share names a sum or a quotient; one loss for all a reduction."""
    size = trees.leading_size(compared.part.arguments)
    with np.errstate(all="ignore"):
        ratios = compared.whole / compared.singles
    if np.isfinite(ratios).all() and np.ptp(ratios) < STEADY * abs(ratios.mean()):
        here = f"The loss of every example is {ratios.mean():.3g} times what it is alone, at a batch size of {size}."
        for code, factor in (("loss/sum-instead-of-mean", size), ("loss/divided-twice", 1 / size)):
            if np.isclose(ratios.mean(), factor, rtol=NEAR_SIZE):
                return (cause(code, here=here),)
    if np.ptp(compared.whole) < ALL_ALIKE * abs(compared.whole).max() < np.ptp(compared.singles):
        return cause("loss/wrong-axis", here="Every example gets the same loss."), *causes("loss/mixes-examples")
    return loss_mixing_causes(setup, key)


def _random_at_evaluation(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether the model gives other outputs in evaluation mode when it is given another key."""
    params = revealing_parameters(setup, key)
    other = jax.random.fold_in(key, 1)
    again, _ = setup.forward(params, setup.model_state, setup.batch[0], train=False, key=other)
    return bool(movement(flat_outputs(revealed_outputs(setup, key)), flat_outputs(again)).max() > SAME_PROGRAM)
