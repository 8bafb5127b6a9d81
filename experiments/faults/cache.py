"""What has been run already: one line of JSON for each finished case, so that an interrupted run goes on where it
was.
"""

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from experiments.faults.case import Case, Outcome, from_json, to_json

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "jaxrecipe",
    "torch",
    "torchtest2",
    "neural_net_checklist",
    "syndset",
)
FORMAT = 2
"""Of what is kept; 1 was before causes had codes."""


def default_label() -> str:
    """Names the versions and the format that results depend on; results of another label are not mixed in."""
    return f"jaxrecipe-{version('jaxrecipe')}-jax-{version('jax')}-format-{FORMAT}"


def facts() -> dict[str, str]:
    """What numbers depend on: versions, commit, processor."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version(), "commit": commit(), "processor": processor()}


def commit() -> str:
    """The commit that is checked out, with a plus when the working tree differs from it."""
    try:
        run = lambda *words: subprocess.run(  # noqa: E731
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()
        return run("rev-parse", "--short", "HEAD") + ("+" if run("status", "--porcelain", "--", "jaxrecipe") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """Model and number of the cores that may be used."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


class Cache:
    """The finished cases of one label."""

    def __init__(self, directory: Path, label: str) -> None:
        """Read what is there; a last line that was cut off, or is of another format, is left out."""
        self.path = directory / f"{label}.jsonl"
        self.outcomes: dict[Case, Outcome] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    outcome = from_json(json.loads(line))
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue
                self.outcomes[outcome.case] = outcome

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; a later one of the same case replaces an earlier one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(outcome)) + "\n")
        self.outcomes[outcome.case] = outcome
