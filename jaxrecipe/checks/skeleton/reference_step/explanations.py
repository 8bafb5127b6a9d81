"""Why steps differ from plain ones: what was done on purpose, or the mistake whose signature they bear."""

from typing import NamedTuple

from jaxrecipe.checks.skeleton.reference_step.factors import by_a_factor, by_decay
from jaxrecipe.checks.skeleton.reference_step.plain_steps import by_leaf, compare
from jaxrecipe.checks.skeleton.reference_step.rules import Context, collected, wrong_rule
from jaxrecipe.checks.skeleton.reference_step.trace import declared_and_frozen, record, unmoved
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.first_steps import VariablesOf, first_movement, first_steps, steps_of_other_variables
from jaxrecipe.probes.parameter_copies import Place, parameter_copies, parameters_at
from jaxrecipe.setup import Setup

MOST_PLACES = 4
"""Places of a state that are tried for parameters that take plain steps."""
FEW_STEPS = 8
"""A rule that moves every k-th step is watched for two rounds where k is no more than this, else for one."""
MOST_NAMES = 3
"""Parameters that a message names."""
SMALLEST = 1e-12
"""Keeps a division by zero from being one."""


class Explanation(NamedTuple):
    """What explains the steps: a finding, or, where they are as they should be, a sentence that says so."""

    summary: str
    finding: Finding | None


def _wrong(finding: Finding) -> Explanation:
    return Explanation(finding.message, finding)


def explain(context: Context) -> Explanation:
    """The first explanation whose signature fits, the most certain first."""
    purposes = (_nothing_moves, _accumulated_on_purpose)
    for find in purposes:
        if (explanation := find(context)) is not None:
            return explanation
    if (finding := wrong_rule(context)) is not None:
        return _wrong(finding)
    if (averaged := _averaged(context)) is not None:
        return averaged
    for find_mistake in (by_a_factor, by_decay, _partly_frozen):
        if (finding := find_mistake(context)) is not None:
            return _wrong(finding)
    error = context.comparison.match.error
    worst = max(by_leaf(context.comparison), key=lambda row: row[3] / max(row[2], SMALLEST))[0]
    text = f"The step differs from a plain optax step by {error:.2g} of its size, most in {worst}."
    return _wrong(warning("step/not-the-declared-rule", text))


def _nothing_moves(context: Context) -> Explanation | None:
    """Nothing moves, for longer than anybody accumulates."""
    if not context.comparison.moves_nothing:
        return None
    first = first_movement(context.setup, context.key, context.patience)
    if first is None:
        text = f"{context.patience} steps leave every parameter as it was, where plain steps move them."
        return _wrong(failure("step/updates-thrown-away", text))
    every = first.index + 1
    steps = first_steps(context.setup, context.key, every if every > FEW_STEPS else 2 * every)
    trace = record(context.setup, context.key, steps)
    return _accumulated_on_purpose(context._replace(comparison=compare(context.setup, trace, half=context.half)))


def _accumulated_on_purpose(context: Context) -> Explanation | None:
    """Steps that stand still until the k-th: gradients are collected over k batches, as one large batch."""
    comparison = context.comparison
    moved = [bool(move.any()) for move in comparison.moves]
    every = moved.index(True) + 1 if any(moved) else 0
    if every < 2 or moved != [(step + 1) % every == 0 for step in range(len(moved))]:
        return None
    if comparison.explains(collected(every, 1.0)).within(context.limit):
        text = f"The step collects gradients over {every} batches and then equals a plain step on their mean."
        return Explanation(text, None)
    if comparison.explains(collected(every, float(every))).within(context.limit):
        text = f"The step collects gradients over {every} batches and takes their sum, not their mean."
        return _wrong(warning("step/accumulates-sum", text))
    return None


def _averaged(context: Context) -> Explanation | None:
    """`variables` may give averaged parameters, and others in the state take the plain step."""
    setup = context.setup
    for place in parameter_copies(setup)[:MOST_PLACES]:
        steps = steps_of_other_variables(
            setup, context.key, len(context.comparison.trace.steps), _variables_at(setup, place)
        )
        trace = record(setup, context.key, steps)
        if compare(setup, trace, half=context.half).match.within(context.limit):
            text = (
                f"The parameters at {place.path} of the state take plain steps; those that variables gives follow "
                "them, "
                "as averaged ones do."
            )
            return Explanation(text, None)
    return None


def _variables_at(setup: Setup, place: Place) -> VariablesOf:
    """The variables with the parameters from that place of the state."""
    return lambda state: (parameters_at(setup, state, place), setup.loop.variables(state)[1])


def _partly_frozen(context: Context) -> Finding | None:
    """The rest takes plain steps, and some parameters none."""
    setup, trace = context.setup, context.comparison.trace
    declared = declared_and_frozen(setup, trace)
    frozen = [path for path in unmoved(trace) if path not in declared]
    if not frozen or not compare(setup, trace, half=context.half, left_out=frozen).match.within(context.limit):
        return None
    text = (
        f"The step leaves {len(frozen)} parameters as they are ({', '.join(frozen[:MOST_NAMES])}), where the declared "
        "optimizer moves them; all others take plain steps."
    )
    return warning("optimizer/unintended-freeze", text)
