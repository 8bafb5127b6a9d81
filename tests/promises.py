"""What every result promises of its numbers and findings, whatever the set-up."""

from collections.abc import Iterator

from jaxrecipe.diagnosis.causes.table import CAUSES
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.result import Result

MOST_CAUSES = 5


def broken_promises(result: Result) -> list[str]:
    """Every promise that a result breaks, in words; empty when all is well."""
    broken = [problem for measure in result.measures for problem in _measure_problems(result, measure)]
    broken += [problem for finding in result.findings for problem in _finding_problems(finding)]
    return [f"{result.name}: {problem}" for problem in broken]


def _measure_problems(result: Result, measure: Measure) -> Iterator[str]:
    for bound, name in measure.thresholds.items():
        if name not in result.thresholds:
            yield f"{measure.name}: {bound} is said to be {name}, which is no threshold"
    if measure.code and measure.verdict is not None and measure.code not in result.codes:
        yield f"{measure.name} is {measure.value} where {measure.wanted} is expected, and {measure.code} is not found"


def _finding_problems(finding: Finding) -> Iterator[str]:
    unknown = [code for code in (finding.code, *(cause.code for cause in finding.causes)) if code not in CAUSES]
    if unknown:
        yield f"{', '.join(unknown)}: not in the table of causes"
    if not 1 <= len(finding.causes) <= MOST_CAUSES:
        yield f"{finding.code} has {len(finding.causes)} causes"
    if not finding.message.endswith((".", "?", ")")):
        yield f"{finding.code}: {finding.message!r} is no sentence"
