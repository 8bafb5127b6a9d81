"""What a check that looks for several things makes of what it found: the worst first, all of it in a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxrecipe.report.result import Evidence, Result, Scalar, Status, Table


class Finding(NamedTuple):
    """One thing that a check found, with what to do about it."""

    status: Status
    text: str
    hint: str


WORST_FIRST = (Status.FAIL, Status.WARN, Status.PASS)


def concluded(
    result: Callable[..., Result],
    findings: Sequence[Finding],
    passed: str,
    *,
    measured: Mapping[str, Scalar],
    expected: Mapping[str, Scalar],
    evidence: Sequence[Evidence],
) -> Result:
    """The result of a check: its worst finding, the others in a table; `passed` when nothing was found."""
    if not findings:
        return result(status=Status.PASS, finding=passed, measured=measured, expected=expected, evidence=evidence)
    ordered = sorted(findings, key=lambda finding: WORST_FIRST.index(finding.status))
    status, text, hint = ordered[0]
    if len(ordered) > 1:
        rows = [(str(one.status), one.text, one.hint) for one in ordered]
        evidence = (Table(title="Everything found", columns=("status", "finding", "hint"), rows=rows), *evidence)
        text += f" {len(ordered) - 1} more in the report."
    return result(status=status, finding=text, hint=hint, measured=measured, expected=expected, evidence=evidence)
