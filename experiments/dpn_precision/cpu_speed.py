"""DPN-26 on the CPU: a training step of JAX against PyTorch, eager and compiled, in turns.

Each contender is a process of its own that stays alive, with the same batch, random images, SGD and malloc settings
(see `processes.py`) and all cores. In every round each takes a few steps, in a new order; a ratio is always taken
within a round, so that other work on the machine hits all alike. Processor time (all threads) stands beside wall time,
because it suffers less from others.

Command:   python -m experiments.dpn_precision.cpu_speed --save      (about 6 minutes on 2 idle cores; needs torch and
gcc)
Expected:  JAX at least as fast as the fastest PyTorch variant.
"""

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

from experiments.dpn_precision.cells import Cell
from experiments.dpn_precision.costs import cpu_name
from experiments.dpn_precision.processes import MALLOC, Server
from experiments.dpn_precision.report import quartiles, versions
from experiments.dpn_precision.worker import WARM_UP

RESULT = Path(__file__).parent.parent / "results" / "dpn_cpu_speed.json"
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "JAX": ("jax", {}),
    "PyTorch eager": ("torch", {"channels_last": False}),
    "PyTorch eager, channels_last": ("torch", {"channels_last": True}),
    "PyTorch compiled": ("torch-compile", {"channels_last": False}),
    "PyTorch compiled, channels_last": ("torch-compile", {"channels_last": True}),
    "PyTorch max-autotune": ("torch-compile", {"channels_last": False, "mode": "max-autotune"}),
    "PyTorch max-autotune, channels_last": ("torch-compile", {"channels_last": True, "mode": "max-autotune"}),
}
USUAL = list(CONTENDERS)[:5]
"""Without "max-autotune", which takes long to compile and was no quicker on any processor so far."""
Times = dict[str, list[float]]


def take_turns(servers: dict[str, Server], rounds: int, steps: int, seed: int = 0) -> tuple[Times, Times]:
    """Wall and processor seconds a step of each contender in each round."""
    walls: Times = {name: [] for name in servers}
    processor: Times = {name: [] for name in servers}
    order = list(servers)
    for number in range(rounds):
        random.Random(seed + number).shuffle(order)
        for name in order:
            found = servers[name].steps(steps)
            walls[name].append(found["wall"])
            processor[name].append(found["processor"])
        print(f"round {seed + number + 1}: " + ", ".join(f"{n} {walls[n][-1]:.2f}" for n in servers), flush=True)
    return walls, processor


def compare(times: Times) -> dict[str, Any]:
    """How many times as fast JAX is as each contender, round by round: median and quartiles."""
    ratios = {
        name: quartiles([other / own for own, other in zip(times["JAX"], values, strict=True)])
        for name, values in times.items()
        if name != "JAX"
    }
    seconds = {name: quartiles(values) for name, values in times.items()}
    return {"seconds a step (quartiles)": seconds, "times as fast as (quartiles)": ratios}


def main() -> None:
    """Start all, measure in turns, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dpn26")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=USUAL, choices=list(CONTENDERS))
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if "JAX" not in options.only:
        parser.error("--only must name JAX, with which all others are compared")
    if options.save and not os.access(RESULT if RESULT.exists() else RESULT.parent, os.W_OK):
        parser.error(f"{RESULT} cannot be written; leave out --save, or make it writable")
    servers = {}
    for name in options.only:
        framework, more = CONTENDERS[name]
        servers[name] = Server(Cell(framework, "float32", options.batch, model=options.model), **more)
        print(name, servers[name].answer(), flush=True)  # one compiles at a time
    take_turns(servers, 1, WARM_UP)
    about = {
        "model": options.model,
        "batch": options.batch,
        "precision": "float32",
        "steps a round": options.steps,
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        "malloc": MALLOC,
        "versions": versions(),
    }
    walls: Times = {name: [] for name in servers}
    processor: Times = {name: [] for name in servers}
    loads = []
    for number in range(options.rounds):
        loads.append(round(os.getloadavg()[0], 1))
        more = take_turns(servers, 1, options.steps, seed=number)
        for kept, found in zip((walls, processor), more, strict=True):
            for name, values in found.items():
                kept[name] += values
        result = {**about, "rounds": number + 1, "load averages": loads, "wall time": compare(walls)}
        result |= {"processor time": compare(processor), "wall seconds": walls, "processor seconds": processor}
        if options.save:  # after each round, so that a run that is cut short has its result
            RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for server in servers.values():
        server.stop()
    for clock, times in (("wall time", walls), ("processor time", processor)):
        for name, (low, middle, high) in compare(times)["times as fast as (quartiles)"].items():
            print(f"{clock:15} JAX is {middle:.2f} ({low:.2f} to {high:.2f}) times as fast as {name}")


if __name__ == "__main__":
    main()
