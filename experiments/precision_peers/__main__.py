"""Situations in which loss scaling goes wrong, played against jaxrecipe and five other implementations.

Each library trains one small problem the way its own documentation says (see the `of_*.py` beside this); what is
measured in each situation stands in the table, and why in `causes.py`. A library that has no such thing is "n/a", with
the reason; one that is absent "not installed".

Command:   python -m experiments.precision_peers       (add --save to write
experiments/results/precision_peers.{md,json})
Needs:     pip install -e ".[peers]", each library optional; about 1 minute on 2 CPU cores.
Expected:  jaxrecipe passes all; every other library fails at least one.
"""

import argparse
import importlib
import inspect
import json
import os
import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.precision_peers.causes import CAUSES
from experiments.precision_peers.common import NotOfferedError
from experiments.precision_peers.scenarios import SCENARIOS, Scenario

PEERS = {
    "jaxrecipe": ("of_jaxrecipe", "jaxrecipe"),
    "jmp": ("of_jmp", "jmp"),
    "mpx": ("of_mpx", "mixed_precision_for_JAX"),
    "flax DynamicScale": ("of_flax", "flax"),
    "optax.apply_if_finite": ("of_optax", "optax"),
    "torch GradScaler": ("of_torch", "torch"),
}
RESULTS = Path(__file__).parent.parent / "results"
WRONG = ("FAIL", "raised")


def play(scenario: Scenario, module: str) -> dict[str, str]:
    """One cell: its verdict and what was measured."""
    try:
        make = importlib.import_module(f"experiments.precision_peers.{module}").make
    except ImportError as error:
        return {"verdict": "not installed", "measured": str(error)}
    try:
        outcome = scenario.play(make)
    except NotOfferedError as reason:
        return {"verdict": "n/a", "measured": str(reason)}
    except Exception as error:
        return {
            "verdict": "raised",
            "measured": f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0][:120]}",
        }
    return {"verdict": "pass" if outcome.right else "FAIL", "measured": outcome.measured}


def versions() -> dict[str, str]:
    """Of every library that takes part."""
    found = {}
    for package in ("jax", *(package for _, package in PEERS.values())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def table(cells: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """Markdown: scenarios down, libraries across; then what was measured wherever it was not right."""
    lines = ["| scenario | wanted | " + " | ".join(PEERS) + " |", "|---|---|" + "---|" * len(PEERS)]
    for scenario in SCENARIOS:
        row = [cells[scenario.name][peer]["verdict"] for peer in PEERS]
        lines.append(f"| {scenario.name} | {scenario.wanted} | " + " | ".join(row) + " |")
    passes = [sum(cells[s.name][peer]["verdict"] == "pass" for s in SCENARIOS) for peer in PEERS]
    asked = [sum(cells[s.name][peer]["verdict"] in ("pass", *WRONG) for s in SCENARIOS) for peer in PEERS]
    lines.append(
        "| **passed of those offered** | | "
        + " | ".join(f"{p} of {a}" for p, a in zip(passes, asked, strict=True))
        + " |"
    )
    lines += ["", "n/a: the library has no such thing, for the reason below. What was measured, and why:", ""]
    for scenario in SCENARIOS:
        lines.append(f"- **{scenario.name}**. {' '.join((inspect.getdoc(scenario.play) or '').split())}")
        lines += [_line(scenario.name, peer, cell) for peer, cell in cells[scenario.name].items()]
    return "\n".join(lines) + "\n"


def _line(scenario: str, peer: str, cell: Mapping[str, str]) -> str:
    cause = CAUSES.get((peer, scenario), "") if cell["verdict"] in WRONG else ""
    return f"  - {peer}: {cell['verdict']}, {cell['measured']}" + (f" ({cause})" if cause else "")


def main() -> None:
    """Play everything; print and, if asked, store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write experiments/results/precision_peers.{md,json}")
    save = parser.parse_args().save
    warnings.simplefilter("ignore")  # PyTorch's, about what a scenario does on purpose
    cells = {
        scenario.name: {peer: play(scenario, module) for peer, (module, _) in PEERS.items()} for scenario in SCENARIOS
    }
    where = {
        "versions": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
    }
    head = "# Loss scaling where it goes wrong\n\n`python -m experiments.precision_peers`. " + ", ".join(
        f"{name} {number}" for name, number in where["versions"].items()
    )
    text = f"{head}; Python {where['python']}; {where['machine']}, no accelerator.\n\n{table(cells)}"
    print(text)
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "precision_peers.md").write_text(text)
        stored: dict[str, Any] = {**where, "scenarios": cells}
        (RESULTS / "precision_peers.json").write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
