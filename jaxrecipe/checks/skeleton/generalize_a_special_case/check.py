"""Generalize a special case: what is written for a whole batch gives what it gives for one example at a time."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.generalize_a_special_case.augmentation import augmentation_findings
from jaxrecipe.checks.skeleton.generalize_a_special_case.class_weights import (
    class_weight_curve,
    class_weight_findings,
    class_weights,
)
from jaxrecipe.checks.skeleton.generalize_a_special_case.differences import difference, difference_measures
from jaxrecipe.checks.skeleton.generalize_a_special_case.parts import Compared, compare, parts_of
from jaxrecipe.checks.skeleton.generalize_a_special_case.reported_loss import reported_loss
from jaxrecipe.checks.skeleton.generalize_a_special_case.softmax_axis import softmax_findings
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.dependencies import on_host, revealed_outputs
from jaxrecipe.probes.rounding import model_rounding
from jaxrecipe.report.result import Curve, Result, Table, skipped
from jaxrecipe.setup import Setup


def generalize_a_special_case(setup: Setup, *, key: PRNGKeyArray, examples: int = 3, tolerance: float = 1e-3) -> Result:
    """A batch gives what its examples give one by one, in any order.

    What it does: computes model (in evaluation mode), loss, metrics and prepare for a batch, for some of its examples
    alone (a batch of one), and for the batch in reverse order, and compares. It looks along which axis the loss takes
    its softmax (and whether over labels that may hold at once), asks whether augment mixes examples or moves inputs to
    other targets, whether the step reports a sum for a mean, and reads the weight of each class off the loss to compare
    it with how often the class occurs.

    Why it matters: code is written for one example and then vectorized, and that is where axes get lost: a reduction
    over the batch, a sum for a mean (so that the learning rate depends on the batch size), a squeeze that drops the
    batch axis when it is one, statistics of the batch in prepare that make a prediction depend on its neighbors, class
    weights in another order than the classes.

    What to do: write the part for one example, vectorize it with `jax.vmap`, and compare. Reduce over all axes but the
    first. If examples are meant to be compared or mixed, declare `mixes_examples=True`: then only prepare is looked at.

    Args:
        setup: the set-up.
        key: seeds augmentation.
        examples: how many examples are computed alone.
        tolerance: how far results may differ, as a share of the spread of the outputs over the batch; rounding stays
            far below, and what mixes examples far above. A few roundings of the coarsest format that the model computes
            in, if that is more.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "generalize a special case".
    """
    mixing = setup.task.mixes_examples
    if mixing and setup.task.prepare is None:
        return skipped("The task declares that its examples mix (mixes_examples), and has no prepare, which must not.")
    size = trees.leading_size(setup.batch[0])
    alone = np.unique(np.linspace(0, size - 1, min(examples, size)).astype(int))
    compared = compare(parts_of(setup, key), alone, model_rounding(setup))
    measures, findings = [], []
    for one in compared:
        own = difference_measures(one, tolerance)
        found = difference(setup, key, one, own)
        measures += own
        findings += [] if found is None else [found]
    curves: tuple[Curve, ...] = ()
    if not mixing:
        more, curves = _about_loss_and_step(setup, key, measures)
        findings += more
    names = ", ".join(one.part.name for one in compared)
    declared = " Model, loss and augmentation may mix examples, as declared." if mixing else ""
    return Result(
        summary=f"A batch equals its examples one by one: {names}.{declared}",
        findings=tuple(findings),
        measures=tuple(measures),
        evidence=(_table(compared), *curves),
    )


def _about_loss_and_step(
    setup: Setup, key: PRNGKeyArray, measures: list[Measure]
) -> tuple[list[Finding], tuple[Curve, ...]]:
    """What is found in softmax, augmentation, step and class weights; what is measured joins the measures."""
    findings = [*softmax_findings(setup, key), *augmentation_findings(setup, key)]
    ratio, summed = reported_loss(setup, key)
    measures += [] if ratio is None else [ratio]
    findings += [] if summed is None else [summed]
    weights = class_weights(setup, revealed_outputs(setup, key), on_host(setup.batch[1]))
    if weights is None:
        return findings, ()
    return [*findings, *class_weight_findings(weights)], (class_weight_curve(weights),)


def _table(compared: list[Compared]) -> Table:
    """How far each part differs, or why it does not come through on one example."""
    columns = ("part", "largest difference, alone", "largest difference, reversed", "problem")
    rows = [(one.part.name, one.alone, one.reversed, one.problem) for one in compared]
    return Table(title="A batch against its examples", columns=columns, rows=rows)
