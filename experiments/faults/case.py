"""One case of the benchmark: a fault or a control, in a seed, given to a tool; and what came of it, as plain data."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OWN = "jaxrecipe"
"""The tool that is measured; the others are peers."""


@dataclass(frozen=True, order=True)
class Case:
    """What is run: `tool` on the fault or control called `name`, in `seed`."""

    tool: str
    kind: str
    name: str
    seed: int

    @property
    def key(self) -> str:
        """One line of text that tells cases apart."""
        return f"{self.tool}/{self.kind}/{self.name}/{self.seed}"


@dataclass(frozen=True)
class Check:
    """What one check of a tool said."""

    name: str
    status: str
    finding: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: which.
        checks: of the tool, in the order in which they ran.
        seconds: wall time, compiling included.
        stopped: why there is no whole answer ("took more than 240 s", an error), or nothing.
        facts: versions, commit and device that it was measured with.
    """

    case: Case
    checks: tuple[Check, ...] = ()
    seconds: float = 0.0
    stopped: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def of_status(self, *wanted: str) -> list[Check]:
        """The checks that ended so."""
        return [check for check in self.checks if check.status in wanted]

    @property
    def failed(self) -> list[Check]:
        """The checks that FAIL."""
        return self.of_status("FAIL")


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON."""
    return {
        **vars(outcome.case),
        "seconds": round(outcome.seconds, 2),
        "stopped": outcome.stopped,
        "facts": dict(outcome.facts),
        "checks": [{**vars(check), "seconds": round(check.seconds, 2)} for check in outcome.checks],
    }


def from_json(data: Mapping[str, Any]) -> Outcome:
    """The outcome that `to_json` wrote."""
    return Outcome(
        case=Case(data["tool"], data["kind"], data["name"], data["seed"]),
        checks=tuple(Check(**check) for check in data["checks"]),
        seconds=data["seconds"],
        stopped=data["stopped"],
        facts=data["facts"],
    )


def run_case(case: Case) -> Outcome:
    """Run a case in this process. Whatever goes wrong is in the outcome."""
    began = time.perf_counter()
    try:
        checks = _own(case) if case.tool == OWN else _peer(case)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {str(error)[:400]} ({last.name}, line {last.lineno})"
        return Outcome(case, seconds=time.perf_counter() - began, stopped=told)
    return Outcome(case, tuple(checks), time.perf_counter() - began)


def _own(case: Case) -> list[Check]:
    """The whole recipe on a case; a task that is refused counts as a failure of "validate"."""
    import jaxrecipe as jr
    from experiments.faults.catalogue import FAULTS
    from experiments.faults.controls import CONTROLS

    made = {fault.name: fault.make for fault in FAULTS} | {control.name: control.make for control in CONTROLS}
    task = made[case.name](case.seed)
    try:
        report = jr.check(task, seed=case.seed)
    except jr.InvalidTaskError as refused:
        return [Check("validate", "FAIL", f"The task is refused: {refused}")]
    return [
        Check(result.name, str(result.status), result.headline, result.hint, result.seconds)
        for result in report.results
    ]


def _peer(case: Case) -> list[Check]:
    """Another tool on its own version of a case."""
    from experiments.faults.peers import run_peer

    return [Check(*found) for found in run_peer(case.tool, case.name, case.seed)]
