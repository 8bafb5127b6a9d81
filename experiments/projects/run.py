"""Runs the recipe on one project, in a process of its own, and gives what it says."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jaxrecipe as jr
from experiments.projects.digits import write_idx
from experiments.projects.project import HERE, Project, script_of

LIMIT = 1200.0
"""Seconds that a project may take."""
LAST_LINES = 12
"""Of what it printed, kept where there is no report."""


@dataclass(frozen=True)
class Outcome:
    """What came of a project.

    Attributes:
        project: its name.
        report: what the recipe says; None where there is none.
        seconds: wall time of the whole process.
        error: the last lines it printed, where there is no report.
    """

    project: str
    report: jr.Report | None
    seconds: float
    error: str = ""


def run(project: Project, root: Path, *, seed: int = 0, limit: float = LIMIT) -> Outcome:
    """The recipe on one project, whose repository lies in `root/owner+name`."""
    if not project.folder(root).is_dir():
        return Outcome(project.name, None, 0.0, f"there is no {project.folder(root).name} in the folder of projects")
    with tempfile.TemporaryDirectory() as made:
        folder, started = Path(made), time.perf_counter()
        report = folder / "report.json"
        script = script_of(project, root, folder)
        for path in project.files:
            write_idx(_working_folder(project, script) / path)
        command = [sys.executable, "-m", "jaxrecipe", *_command(project, script, report, seed)]
        try:
            done = subprocess.run(
                command,
                cwd=_working_folder(project, script),
                env=_environment(project, root, script),
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
            said = done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            said = f"took more than {limit:g} s"
        seconds = time.perf_counter() - started
        if report.is_file():
            return Outcome(project.name, jr.Report.from_json(report.read_text()), seconds)
        return Outcome(project.name, None, seconds, "\n".join(said.strip().splitlines()[-LAST_LINES:]))


def _command(project: Project, script: Path, report: Path, seed: int) -> list[str]:
    """Arguments of the command line."""
    shared = ["--json", str(report), "--seed", str(seed)]
    if project.how == "watch":
        return ["watch", *shared, *project.options, str(script), *project.arguments]
    return ["check", *shared, f"{project.glue}:task"]


def _working_folder(project: Project, script: Path) -> Path:
    return script.parent if project.how == "watch" else HERE.parent.parent


def _environment(project: Project, root: Path, script: Path) -> dict[str, str]:
    """Where the stand-ins, this library and the project's modules are found."""
    own = (project.folder(root) / project.script).parent
    here = [HERE / "stand_in", HERE.parent.parent, script.parent, own, project.folder(root)]
    path = os.pathsep.join([*map(str, here), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={project.devices}".strip()
    made = {"JAXRECIPE_IDLE": " ".join(project.idle), "JAXRECIPE_RESTORES": " ".join(project.restores)}
    made |= {"XLA_FLAGS": flags} if project.devices > 1 else {}
    return {**os.environ, **made, "PYTHONPATH": path, "MPLBACKEND": "Agg"}
