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
    """What one check of a tool said.

    Attributes:
        name: of the check.
        status: how it ended.
        headline: its first sentence.
        hint: what to do about it.
        codes: what it found, the worst first.
        causes: for each of these, the codes of what may have caused it, the likeliest first.
        seconds: wall time.
    """

    name: str
    status: str
    headline: str = ""
    hint: str = ""
    codes: tuple[str, ...] = ()
    causes: tuple[tuple[str, ...], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        case: which.
        checks: of the tool, in the order in which they ran.
        causes: codes of what may be behind everything that was found, the likeliest first; peers have none.
        seconds: wall time, compiling included.
        stopped: why there is no whole answer ("took more than 240 s", an error), or nothing.
        facts: versions, commit and device that it was measured with.
    """

    case: Case
    checks: tuple[Check, ...] = ()
    causes: tuple[str, ...] = ()
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
        "causes": list(outcome.causes),
        "checks": [{**vars(check), "seconds": round(check.seconds, 2)} for check in outcome.checks],
    }


def from_json(data: Mapping[str, Any]) -> Outcome:
    """The outcome that `to_json` wrote."""
    return Outcome(
        case=Case(data["tool"], data["kind"], data["name"], data["seed"]),
        checks=tuple(_check_from_json(check) for check in data["checks"]),
        causes=tuple(data["causes"]),
        seconds=data["seconds"],
        stopped=data["stopped"],
        facts=data["facts"],
    )


def _check_from_json(data: Mapping[str, Any]) -> Check:
    return Check(**{**data, "codes": tuple(data["codes"]), "causes": tuple(map(tuple, data["causes"]))})


def run_case(case: Case) -> Outcome:
    """Run a case in this process. Whatever goes wrong is in the outcome."""
    began = time.perf_counter()
    try:
        checks, causes = run_recipe(case) if case.tool == OWN else (run_peer_checks(case), ())
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {str(error)[:400]} ({last.name}, line {last.lineno})"
        return Outcome(case, seconds=time.perf_counter() - began, stopped=reason)
    return Outcome(case, tuple(checks), tuple(causes), time.perf_counter() - began)


def run_recipe(case: Case) -> tuple[list[Check], list[str]]:
    """The whole recipe on a case, and its ranked causes; a task that is refused counts as a failure of "validate"."""
    import jaxrecipe as jr
    from jaxrecipe.catalogue import CONTROLS, FAULTS

    makers = {one.name: one.make for one in (*FAULTS, *CONTROLS)}
    task = makers[case.name](case.seed)
    try:
        report = jr.check(task, seed=case.seed)
    except jr.InvalidTaskError as refused:
        codes = tuple(dict.fromkeys(problem.code for problem in refused.problems if problem.code))
        causes = tuple((code,) for code in codes)
        return [Check("validate", "FAIL", f"The task is refused: {refused}", codes=codes, causes=causes)], list(codes)
    return [check_of(result) for result in report.results], [cause.code for cause in report.causes]


def check_of(result: Any) -> Check:
    """What is kept of a check's result."""
    return Check(
        name=result.name,
        status=str(result.status),
        headline=result.headline,
        hint=result.hint,
        codes=result.codes,
        causes=tuple(tuple(cause.code for cause in finding.causes) for finding in result.findings),
        seconds=result.seconds,
    )


def run_peer_checks(case: Case) -> list[Check]:
    """Another tool on its own version of a case."""
    from experiments.faults.peers import run_peer

    answers = run_peer(case.tool, case.name, case.seed)
    return [Check(name, status, headline, seconds=seconds) for name, status, headline, seconds in answers]
