"""Which causes are the likeliest when several findings each name some."""

from collections.abc import Iterable
from dataclasses import replace

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Severity


def ranked_causes(findings: Iterable[Finding]) -> tuple[Cause, ...]:
    """Each cause once, the likeliest first; of two with one code the one that says what points to it here.

    Every finding shares one vote among its causes, the first of n getting the most (weights 1, 1/2, 1/3, ...); of two
    with equal votes the one that was named first comes first. What a proven cause explains is a vote for it.
    """
    votes: dict[str, float] = {}
    causes: dict[str, Cause] = {}
    for finding in _explained(list(findings)):
        total = sum(1 / rank for rank in range(1, len(finding.causes) + 1))
        for rank, cause in enumerate(finding.causes, start=1):
            votes[cause.code] = votes.get(cause.code, 0.0) + 1 / rank / total
            if cause.code not in causes or not causes[cause.code].here:
                causes[cause.code] = cause
    return tuple(causes[code] for code in sorted(votes, key=lambda code: -votes[code]))


def _explained(findings: list[Finding]) -> list[Finding]:
    """The findings, with what explains them first where another one proves it."""
    proven = [finding.causes[0] for finding in findings if finding.severity is Severity.FAIL and finding.causes]

    def one(finding: Finding) -> Finding:
        likeliest = finding.causes[0].code if finding.causes else finding.code
        behind = [cause for cause in proven if likeliest in cause.explains and cause.code != likeliest]
        return replace(finding, causes=(behind[0], *finding.causes)) if behind else finding

    return [one(finding) for finding in findings]
