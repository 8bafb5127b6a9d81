"""The step carries its whole state: parameters move, what the optimizer collects is kept, nothing is dropped."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.step.carries_state.optimizer_state import (
    copies_that_stand_still,
    lost_optimizer_state,
    lost_units,
)
from jaxrecipe.checks.step.carries_state.parameters import parameter_findings
from jaxrecipe.checks.step.carries_state.watched import Watched, names, watched
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.state_layout import inside
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup

ELSEWHERE = 0.5
"""What statistics of a batch normalization are moved by, to see whether a step reads them."""


def carries_state(setup: Setup, *, key: PRNGKeyArray, fewest: int = 8) -> Result:
    """The step moves the parameters and gives everything back that it must remember.

    What it does: takes one pass over the training data with the loop's own step and notes which arrays of the state
    ever change. Parameters must move, unless they are declared frozen; what an optimizer collects (momentum, moments,
    counters) must be carried to the next step if the step reads it; batch statistics must follow the batches; copies
    of the parameters should follow them. Whether a step reads an array is tried: it is given another one.

    Why it matters: a state that is computed and not returned raises no error. Adam whose moments begin anew at every
    step is a sign descent with a bias correction for the first step; statistics that stay at 0 and 1 ruin evaluation.

    What to do: return everything that the step makes, and declare what is frozen on purpose
    (`Task(frozen=("backbone/*",))`).

    Args:
        setup: the set-up.
        key: seeds the steps.
        fewest: steps below which nothing is said, where a run breaks off because it is not finite.

    Source: Karpathy, CS231n notes, ratio of updates to weights.
    """
    seen = watched(setup, key)
    if seen.run.steps < fewest and seen.run.broken is not None:
        return skipped(f"The run is not finite after {seen.run.steps} steps; stays_finite says why. Repair that first.")
    lost = lost_units(seen)
    findings = [*lost_optimizer_state(seen, lost), *_statistics(seen), *parameter_findings(seen)]
    findings += [*copies_that_stand_still(seen), *_not_given_back(seen, lost)]
    stuck = sum(path not in seen.run.moved for path in seen.layout.params)
    count = Measure(name="parameters that never move", value=stuck, unit="parameters", severity=Severity.WARN)
    rows = [(path, str(list(a.shape)), path in seen.layout.params, path in seen.run.moved) for path, a in _shown(seen)]
    return Result(
        summary=f"In {seen.run.steps} steps the {len(seen.layout.params) - stuck} parameters move and "
        f"{len(seen.run.moved)} of {len(seen.run.first)} arrays of the state change.",
        findings=tuple(findings),
        measures=(count, Measure(name="steps taken", value=seen.run.steps, unit="steps")),
        evidence=(Table(title="Arrays of the state", columns=("array", "shape", "parameter", "changes"), rows=rows),),
    )


def _shown(seen: Watched) -> list[tuple[str, np.ndarray]]:
    return list(seen.run.first.items())


def _statistics(seen: Watched) -> Iterator[Finding]:
    """Batch statistics that stay at 0 and 1: thrown away where the step does not read them either."""
    first = seen.run.first
    pairs = [
        (path, f"{path.removesuffix('mean')}var")
        for path in first
        if path.rpartition("/")[2] == "mean" and f"{path.removesuffix('mean')}var" in first
    ]
    fresh = [pair for pair in pairs if not first[pair[0]].any() and (first[pair[1]] == 1).all()]
    still = [pair for pair in fresh if pair[0] not in seen.layout.params and not seen.moved(pair)]
    if not still:
        return
    listed = names(mean.rpartition("/")[0] or mean for mean, _ in still)
    changed = {path: first[path] + np.asarray(ELSEWHERE, first[path].dtype) for pair in still for path in pair}
    text = f"The statistics of {listed} are 0 and 1 after {seen.run.steps} steps, as they were before"
    if seen.depends_on(changed):
        yield warning("step/evaluation-mode", f"{text}, and the step normalizes by them.")
    else:
        yield failure("step/statistics-thrown-away", f"{text}, and the step does not read them.")


def _not_given_back(seen: Watched, lost: list[str]) -> Iterator[Finding]:
    """Pieces of the state that the step is given and does not give back, where nothing else was said of them."""
    facts = seen.setup.loop.facts
    pieces = facts.unreturned if facts is not None else ()
    left = [name for name in pieces if not any(inside(unit, name) for unit in lost)]
    if left:
        yield warning("step/piece-not-returned", f"The step is given {names(left)} and does not give it back.")
