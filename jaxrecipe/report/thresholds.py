"""Judging what was measured by other thresholds, without running a check again."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.bounds import with_unit
from jaxrecipe.report.evidence import Scalar
from jaxrecipe.report.result import Result

Moves = Mapping[str, float]
"""New values of a check's thresholds, by name."""


def moves_of_each(
    results: Sequence[Result], thresholds: Mapping[str, Mapping[str, Scalar]]
) -> dict[str, dict[str, float]]:
    """What `thresholds` moves in each result, by the names of the checks.

    Raises:
        ValueError: if something named is not there or cannot be moved; lists all of it.
    """
    names = [result.name for result in results]
    problems = [
        f"the report has no check {name}; it has {', '.join(names)}" for name in thresholds if name not in (*names, "*")
    ]
    everywhere = thresholds.get("*", {})
    known = {name for result in results for name in result.thresholds}
    problems += [f'"*" has {name}, which no check has' for name in everywhere if name not in known]
    moves = {}
    for result in results:
        shared = {name: value for name, value in everywhere.items() if name in result.thresholds}
        wanted = {**shared, **thresholds.get(result.name, {})}
        problems += [problem for name, value in wanted.items() if (problem := _obstacle(result, name, value))]
        moves[result.name] = {name: float(value) for name, value in wanted.items() if _is_number(value)}
    if problems:
        raise ValueError("thresholds: " + "; ".join(problems))
    return moves


def judged_again(result: Result, moves: Moves) -> Result:
    """A result under other thresholds: measures with their new bounds, and the findings that follow from them."""
    moved = {}
    for measure in result.measures:
        new = measure.with_thresholds({name: moves[name] for name in _movable(result, measure) if name in moves})
        if new != measure:
            moved[measure.name] = new
    kept = [new for finding in result.findings if (new := _finding_again(finding, moved)) is not None]
    judged = {(finding.code, name) for finding in result.findings for name in _deciding(finding)}
    fresh = [
        _finding_of(measure)
        for measure in moved.values()
        if measure.code and measure.verdict is not None and (measure.code, measure.name) not in judged
    ]
    return replace(
        result,
        findings=(*kept, *fresh),
        measures=tuple(moved.get(measure.name, measure) for measure in result.measures),
        thresholds={**result.thresholds, **moves},
    )


def _obstacle(result: Result, name: str, value: Scalar) -> str:
    """Why a threshold of a result cannot be moved to a value; empty when it can."""
    if name not in result.thresholds:
        return f"{result.name} has no threshold {name}; it has {', '.join(result.thresholds) or 'none'}"
    if not _is_number(value):
        return f"{result.name}.{name}: got {value!r}, wanted a number"
    if not any(name in _movable(result, measure) for measure in result.measures):
        return (
            f"{result.name}: no number in this report has {name} as its bound; run the check again with "
            f"jr.check(task, thresholds={{{result.name!r}: {{{name!r}: {value!r}}}}})"
        )
    return ""


def _movable(result: Result, measure: Measure) -> set[str]:
    """The thresholds that are bounds of a measure as they are: a bound computed from a threshold cannot be moved."""
    found = set()
    for bound, name in measure.thresholds.items():
        value, threshold = getattr(measure, bound), result.thresholds.get(name)
        if value is not None and isinstance(threshold, int | float) and math.isclose(value, threshold, rel_tol=1e-6):
            found.add(name)
    return found


def _finding_again(finding: Finding, moved: Mapping[str, Measure]) -> Finding | None:
    """A finding after some measures have moved; None when none of those that decide it leaves its bounds any more."""
    before = _deciding(finding)
    measures = tuple(moved.get(measure.name, measure) for measure in finding.measures)
    if not before.keys() & moved.keys():
        return replace(finding, measures=measures)
    verdict = _worst(moved.get(name, measure) for name, measure in before.items())
    if verdict is None:
        return None
    follows = _worst(before.values()) == finding.severity
    return replace(finding, measures=measures, severity=verdict if follows else finding.severity)


def _deciding(finding: Finding) -> dict[str, Measure]:
    """The measures that amount to a finding when they leave their bounds, by name."""
    return {measure.name: measure for measure in finding.measures if measure.code == finding.code}


def _worst(measures: Iterable[Measure]) -> Severity | None:
    """The worst verdict; None when all measures keep their bounds."""
    verdicts = {measure.verdict for measure in measures}
    return next((severity for severity in (Severity.FAIL, Severity.WARN) if severity in verdicts), None)


def _finding_of(measure: Measure) -> Finding:
    """The finding that a measure out of its bounds amounts to."""
    message = f"The {measure.name} is {with_unit(measure)} where {measure.wanted} is expected."
    return Finding(
        code=measure.code, severity=measure.verdict or measure.severity, message=message, measures=(measure,)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
