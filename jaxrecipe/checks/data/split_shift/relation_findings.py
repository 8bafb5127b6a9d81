"""What is wrong with the labels or values of one of the splits, by how a predictor of one does on the other."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxrecipe.checks.data.split_shift.label_maps import Relation
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity

LISTED = 6
"""Mapped labels that a message lists."""
LEAST_SKILL = 0.3
"""Skill on held-out training values from which on slope and offset on the test values mean something."""
SKILLED = 0.5
"""Skill from which on a split makes sense by itself."""
CARRIED = 0.2
"""Share of the skill on training examples below which it does not carry over to the test examples."""
NOTHING_CARRIED = 0.1
"""Skill on test examples below which nothing carries over."""
UNSEEN = 0.2
"""Share of the test examples whose label has no training example, beyond which that is why nothing carries over."""
ALIKE = 0.6
"""Probability of telling the inputs of the splits apart up to which they are alike."""
MOST_OFFSET = 10.0
"""Standard deviations by which no natural shift moves targets."""


@dataclass(frozen=True)
class Context:
    """What else is known of the splits.

    Attributes:
        standard_errors: how sure a finding must be.
        scale_ratio: the factor beyond which values are in other units.
        shifted: whether the inputs are known to differ, of which the labels may be a consequence.
        apart: probability of telling the inputs of the splits apart, at least.
    """

    standard_errors: float
    scale_ratio: float
    shifted: bool
    apart: float


def relation_measures(one: Relation, context: Context) -> Iterator[Measure]:
    """Skill within and across the splits; for values slope and offset too."""
    where = _where(one)
    yield Measure(name=f"{where}skill on held-out training examples", value=one.skill)
    yield Measure(name=f"{where}skill on test examples", value=one.test_skill)
    if one.levels is None:
        low, high = 1.0 / context.scale_ratio, context.scale_ratio
        slope = f"{where}slope of the test targets over their predictions"
        yield Measure(name=slope, value=one.slope, low=low, high=high, severity=Severity.WARN)
        offset = f"{where}offset of the test targets in standard deviations"
        yield Measure(name=offset, value=one.offset, low=-MOST_OFFSET, high=MOST_OFFSET, severity=Severity.WARN)


def relation_findings(one: Relation, context: Context) -> Iterator[Finding]:
    """Labels or values that mean something else in one of the splits."""
    if one.map and one.errors > context.standard_errors:
        yield _mapped(one, shifted=context.shifted)
        return
    sure = one.levels is None and one.skill > LEAST_SKILL and abs(one.errors) > 2 * context.standard_errors
    unlike = not 1.0 / context.scale_ratio < one.slope < context.scale_ratio or abs(one.offset) > MOST_OFFSET
    if sure and one.errors < 0:
        text = (
            f"{_where(one)}The test targets fall where predictions fitted on the training split rise (slope "
            f"{one.slope:.3g})."
        )
        yield failure("data/split-targets-differ", text, measures=tuple(relation_measures(one, context))[1:3])
    elif sure and unlike and not context.shifted:
        text = (
            f"{_where(one)}The test targets are {one.slope:.3g} times what the training split predicts, moved by "
            f"{one.offset:.3g} standard deviations."
        )
        yield failure("data/split-targets-differ", text, measures=tuple(relation_measures(one, context))[2:])
    elif one.skill > SKILLED and one.test_skill < CARRIED * one.skill and not context.shifted:
        yield _not_carried(one, context)


def _mapped(one: Relation, *, shifted: bool) -> Finding:
    """Labels that are called otherwise in the other split; a WARN where the inputs differ too."""
    pairs = ", ".join(f"{a}→{b}" for a, b in list(one.map.items())[:LISTED]) + (
        ", ..." if len(one.map) > LISTED else ""
    )
    named = f" (shifted by {one.shift})" if one.shift else ""
    text = f"{_where(one)}The test split numbers the labels otherwise than the training split: {pairs}{named}."
    measure = Measure(
        name=f"{_where(one)}labels that are mapped to other ones", value=float(len(one.map)), low=0.0, high=0.0
    )
    if not shifted:
        return failure("data/split-labels-mapped-differently", text, measures=(measure,))
    return warning("data/split-labels-mapped-differently", text, measures=(measure,))


def _not_carried(one: Relation, context: Context) -> Finding:
    """A predictor of the training split that fails on the test split; a FAIL where the test split makes sense by
    itself.
    """
    text = (
        f"{_where(one)}A predictor fitted on the training split has skill {one.skill:.2f} on held-out training "
        "examples "
        f"and {one.test_skill:.2f} on test examples"
    )
    numbers = tuple(relation_measures(one, context))[:2]
    targets = "data/split-targets-differ" if one.levels is None else "data/split-labels-mapped-differently"
    if one.own_skill > SKILLED and one.test_skill < NOTHING_CARRIED and context.apart < ALIKE:
        within = Measure(name=f"{_where(one)}skill within the test split", value=one.own_skill, high=SKILLED)
        text += f"; one fitted on other test examples has {one.own_skill:.2f}."
        behind = causes("data/split-axes-swapped", targets, "data/misaligned-targets")
        return failure("data/splits-disagree", text, measures=(*numbers, within), causes=behind)
    behind = causes("data/split-shift", targets, "data/split-axes-swapped", "data/labels-shuffled")
    if one.unseen > UNSEEN:
        text += f"; {one.unseen:.0%} of the test labels never occur in training"
        behind = causes("data/class-missing", "data/sorted", "data/split-shift")
    return warning("data/split-shift", f"{text}.", measures=numbers, causes=behind)


def _where(one: Relation) -> str:
    return f"{one.name}: " if one.name else ""
