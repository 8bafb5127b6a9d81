"""Which causes are the likeliest when several findings each name some."""

from collections.abc import Iterable

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding


def ranked_causes(findings: Iterable[Finding]) -> tuple[Cause, ...]:
    """Each cause once, the likeliest first; of two with one code the one that says what points to it here.

    Every finding shares one vote among its causes, the first of n getting the most (weights 1, 1/2, 1/3, ...); of two
    with equal votes the one that was named first comes first.
    """
    votes: dict[str, float] = {}
    causes: dict[str, Cause] = {}
    for finding in findings:
        total = sum(1 / rank for rank in range(1, len(finding.causes) + 1))
        for rank, cause in enumerate(finding.causes, start=1):
            votes[cause.code] = votes.get(cause.code, 0.0) + 1 / rank / total
            if cause.code not in causes or not causes[cause.code].here:
                causes[cause.code] = cause
    return tuple(causes[code] for code in sorted(votes, key=lambda code: -votes[code]))
