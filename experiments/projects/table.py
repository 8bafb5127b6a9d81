"""The table of projects: what ran, every FAIL and WARN, and whether it is true."""

import json
from collections import Counter
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


def stored(found: Sequence[Mapping[str, Any]], projects: Sequence[Project], folder: Path) -> list[Mapping[str, Any]]:
    """The rows of these and, of projects that were not run now, the rows of the last time with the verdicts of now."""
    known = json.loads(VERDICTS.read_text()) if VERDICTS.is_file() else {}
    path = folder / "projects.json"
    before = json.loads(path.read_text())["projects"] if path.is_file() else []
    own = {row["name"]: row for row in [*(_judged(row, known.get(row["name"], {})) for row in before), *found]}
    return [own[one.name] for one in projects if one.name in own]


def _judged(row: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the verdicts that are known now."""
    return {**row, "findings": [{**claim, **_verdict(claim["code"], known)} for claim in row["findings"]]}


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
        "seed": outcome.report.seed if outcome.report else None,
        "versions": outcome.report.versions if outcome.report else {},
        "seconds": round(outcome.seconds, 1),
        "programs": outcome.report.programs if outcome.report else 0,
        "error": outcome.error,
    }


def _claim(finding: jr.Finding, known: Mapping[str, Any]) -> dict[str, Any]:
    """A finding with the verdict on it; "open" where nobody has looked into it."""
    told = {"code": finding.code, "severity": finding.severity.name, "text": finding.message}
    return {**told, **_verdict(finding.code, known)}


def _verdict(code: str, known: Mapping[str, Any]) -> dict[str, str]:
    judged = known.get(code, {})
    truth = {True: "true", False: "false", None: "open"}[judged.get("true")]
    return {"verdict": truth, "proof": judged.get("proof", "")}


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


def write(found: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write projects.json and projects.md."""
    (folder / "projects.json").write_text(json.dumps({"projects": found}, indent=1) + "\n")
    (folder / "projects.md").write_text(f"# Public projects\n\n{totals(found)}\n\n{markdown(found)}")


def totals(found: Sequence[Mapping[str, Any]]) -> str:
    """One sentence over all of them."""
    claims = [claim for row in found for claim in row["findings"]]
    told = {
        severity: Counter(claim["verdict"] for claim in claims if claim["severity"] == severity)
        for severity in ("FAIL", "WARN")
    }
    ran = [row for row in found if not row["error"]]
    watched = sum(row["how"] == "watch" and not row["glue_lines"] for row in ran)
    counts = "; ".join(
        f"{severity}: {count.total()}, of which {count['true']} true, {count['false']} false, {count['open']} open"
        for severity, count in told.items()
    )
    return f"{len(ran)} of {len(found)} projects ran, {watched} of them by `jaxrecipe watch` as they are. {counts}."
