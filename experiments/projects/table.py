"""The table of projects: what ran, every FAIL and WARN, and whether it is true."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jaxrecipe as jr
from experiments.projects.project import HERE, Project
from experiments.projects.run import Outcome

VERDICTS = HERE / "verdicts.json"
"""`{project: {code: {"true": bool, "proof": words}}}`, written by hand after each claim was looked into."""


def rows(projects: Sequence[Project], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """One row a project, in the order of the projects; those that did not run are left out."""
    known = json.loads(VERDICTS.read_text()) if VERDICTS.is_file() else {}
    return [_row(one, outcomes[one.name], known.get(one.name, {})) for one in projects if one.name in outcomes]


def _row(project: Project, outcome: Outcome, known: Mapping[str, Any]) -> dict[str, Any]:
    results = outcome.report.results if outcome.report else ()
    broken = (jr.Status.CRASHED, jr.Status.TIMEOUT)
    return {
        "name": project.name,
        "repository": project.repository,
        "commit": project.commit,
        "about": project.about,
        "how": project.how,
        "glue_lines": project.glue_lines,
        "data": project.data,
        "ran": [one.name for one in results if one.status not in (*broken, jr.Status.SKIP)],
        "crashed": [one.name for one in results if one.status in broken],
        "findings": [_claim(finding, known) for one in results for finding in one.findings],
        "seconds": round(outcome.seconds, 1),
        "programs": outcome.report.programs if outcome.report else 0,
        "error": outcome.error,
    }


def _claim(finding: jr.Finding, known: Mapping[str, Any]) -> dict[str, Any]:
    """A finding with the verdict on it; "open" where nobody has looked into it."""
    judged = known.get(finding.code, {})
    truth = {True: "true", False: "false", None: "open"}[judged.get("true")]
    return {
        "code": finding.code,
        "severity": finding.severity.name,
        "text": finding.message,
        "verdict": truth,
        "proof": judged.get("proof", ""),
    }


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    lines = [
        "| project | at | what | glue | checks that ran | FAIL | WARN | seconds | programs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        glue = "watch" if row["how"] == "watch" else f"{row['how']}, {row['glue_lines']} lines"
        failed, warned = (_told(row["findings"], severity) for severity in ("FAIL", "WARN"))
        ran = len(row["ran"]) if not row["error"] else f"none: {row['error'].splitlines()[-1]}"
        lines.append(
            f"| {row['name']} | {row['repository']} {row['commit'][:7]} | {row['about']} | {glue} | {ran} | {failed} | "
            f"{warned} | {row['seconds']:.0f} | {row['programs']} |"
        )
    claims = [(row["name"], claim) for row in found for claim in row["findings"]]
    lines += ["", "| project | claim | verdict | what proves it |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {claim['severity']} `{claim['code']}`: {claim['text']} | {claim['verdict']} | {claim['proof']} |"
        for name, claim in claims
    ]
    return "\n".join(lines) + "\n"


def _told(findings: Iterable[Mapping[str, Any]], severity: str) -> str:
    chosen = [claim for claim in findings if claim["severity"] == severity]
    return ", ".join(f"{claim['code']} ({claim['verdict']})" for claim in chosen) or "none"


def write(found: Sequence[Mapping[str, Any]], folder: Path, facts: Mapping[str, Any]) -> None:
    """Write projects.json and projects.md."""
    (folder / "projects.json").write_text(json.dumps({"facts": facts, "projects": found}, indent=1) + "\n")
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    (folder / "projects.md").write_text(f"# Public projects\n\n{told}\n\n{markdown(found)}")
