"""One run of the recipe as plain data: the results, and what follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.ranking import ranked_causes
from jaxrecipe.report.result import Result, Status


@dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """All results of one run of the recipe. Renderers take it; `Report` is what users hold.

    Attributes:
        task: the name of the task.
        results: in the order in which the checks ran.
        seed: what everything random followed from.
        seconds: wall time of the whole run.
        programs: how many programs were compiled.
        versions: of the packages, and the devices, that the results depend on.
        notes: anything else worth saying at the end, one sentence each.
    """

    task: str
    results: tuple[Result, ...]
    seed: int = 0
    seconds: float = 0.0
    programs: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no check failed or crashed. Warnings and expected failures are no failures."""
        return not self.failed

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that are FAIL or CRASHED."""
        return tuple(result for result in self.results if result.failed)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What may be behind the failures (or, without any, the warnings), each cause once, the likeliest first.

        Every finding shares one vote among its causes, the first of n getting the most (weights 1, 1/2, 1/3, ...).
        """
        wanted = Status.FAIL if self.counts[Status.FAIL] else Status.WARN
        counted = [
            finding
            for result in self.results
            if result.status is wanted
            for finding in result.findings
            if finding.severity == wanted
        ]
        return ranked_causes(counted)

    def checks_that_name(self, code: str) -> tuple[str, ...]:
        """The names of the checks that failed or warned and have that cause on the list of a finding."""
        return tuple(
            result.name
            for result in self.results
            if result.status in (Status.FAIL, Status.WARN)
            and any(cause.code == code for finding in result.findings for cause in finding.causes)
        )

    @property
    def by_name(self) -> dict[str, Result]:
        """The results by the names of their checks."""
        return {result.name: result for result in self.results}

    @property
    def counts(self) -> dict[Status, int]:
        """How many results have each status; every status is there."""
        return {status: sum(result.status is status for result in self.results) for status in Status}

    @property
    def verdict(self) -> str:
        """The report in a few words. A crashed check is called just that: it says nothing about the set-up."""
        counts = self.counts
        failed, warned = counts[Status.FAIL], counts[Status.WARN]
        crashed, late = counts[Status.CRASHED], counts[Status.TIMEOUT]
        if not self.results:
            return "No check was run"
        words = f"{failed or 'No'} {'checks' if failed > 1 else 'check'} failed"
        if crashed or late:
            words += f", {crashed} crashed" if crashed else ""
            words += f", {late} ran out of time" if late else ""
        elif warned and not failed:
            words += f", {warned} {'warnings' if warned > 1 else 'warning'}"
        return words
