"""What the recipe says of public JAX projects that nobody wrote for it, and how much of that is true.

    python -m experiments.projects --root FOLDER            every project; writes experiments/results/projects.{md,json}
    python -m experiments.projects --root FOLDER --only haiku_vae       its row anew; the others stay as they were
    python -m experiments.projects --only                               none anew: the verdicts alone

FOLDER holds a checkout of each repository as `owner+name`, at the commit in `projects.py`; `--list` prints the commands
that make them, and what is to be installed. None of their code is kept here, and their data are replaced by small local
ones, so that every number is one on stand-in data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.projects.project import HERE, Project
from experiments.projects.projects import PROJECTS
from experiments.projects.run import LIMIT, Outcome, run
from experiments.projects.table import markdown, rows, stored, write

RESULTS = HERE.parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the projects that are asked for, print their table and put their rows into the stored one."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(map(_told, PROJECTS)))
        return 0
    chosen = [one for one in PROJECTS if options.only is None or one.name in options.only]
    console, outcomes = Console(stderr=True), dict[str, Outcome]()
    for project in chosen:
        outcomes[project.name] = run(project, options.root, seed=options.seed, limit=options.limit)
        console.print(f"{project.name}: {outcomes[project.name].seconds:.0f} s")
    found = rows(PROJECTS, outcomes)
    print(markdown(found))
    write(stored(found, PROJECTS, RESULTS), RESULTS)
    return 0 if all(outcome.report for outcome in outcomes.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="experiments.projects", description="The recipe on public JAX projects.")
    parser.add_argument("--root", type=Path, default=Path("runs/projects"), help="folder that holds the checkouts")
    parser.add_argument("--only", nargs="*", metavar="NAME", choices=[one.name for one in PROJECTS], help="these alone")
    parser.add_argument("--seed", type=int, default=0, help="of the recipe")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a project may take")
    parser.add_argument("--list", action="store_true", help="how to get the projects")
    return parser


def _told(project: Project) -> str:
    folder = project.repository.replace("/", "+")
    return (
        f"git clone https://github.com/{project.repository} {folder} && git -C {folder} checkout {project.commit}  "
        f"# {project.name}: pip install {' '.join(project.packages) or '(nothing more)'}"
    )


if __name__ == "__main__":
    sys.exit(main())
