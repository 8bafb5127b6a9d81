"""The DPN precision benchmark: JAX and PyTorch side by side, every precision, batch and loss scale in a process of its
own.

Reimplements the comparison of a 2019 article (DPN-92 on CIFAR-10, RTX Titan, float32 against float16) and goes beyond
it. Cells are visited in rounds, in a new order each, so that drift hits all alike. After each visit everything is
written to `experiments/results/dpn_precision_<device>.json`; started again, it goes on where it stopped. Out of memory
is a result.

Commands:
  python -m experiments.dpn_precision --preset smoke           the runner itself, a tiny network, about a minute
  python -m experiments.dpn_precision --preset cpu             DPN-26 and a row of DPN-92 on the CPU, about 20 minutes
  on 2 idle cores python -m experiments.dpn_precision --preset curves          the precisions' losses on enlarged digits
  (real, not CIFAR-10) python -m experiments.dpn_precision --device gpu             every row of the article and more,
  on a GPU, about half an hour
Needs: jax, flax, optax; torch for its cells (without it they are reported as failed); matplotlib for the plots, if
there.
Data: CIFAR-10 through tensorflow-datasets where it is on disk; elsewhere random images, and then times and memory only.
Expected on an H200: bfloat16 at least 3.7 times as fast as strict float32, JAX at least as fast as PyTorch at the same
precision and batch.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.dpn_precision import processes, report
from experiments.dpn_precision.cells import EPOCH, FRAMEWORKS, PRECISIONS, SCALES, Cell, matrix
from experiments.dpn_precision.images import load

RESULTS = Path(__file__).parent.parent / "results"
NAMES = {"random": "random images", "digits": "handwritten digits enlarged to 32×32×3", "cifar10": "CIFAR-10"}


def preset(name: str, data: str) -> list[Cell]:
    """The cells of a named set."""
    if name == "smoke":
        common = {"model": "tiny", "data": "random", "steps": 2, "train": 2}
        return [
            *matrix(("jax", "torch"), ("float32",), (8,), (), **common),
            *matrix(("jax",), ("float16",), (8,), ("dynamic",), **common),
        ]
    if name == "cpu":
        common = {"data": "random", "steps": 6}
        return [
            *matrix(("jax", "torch"), ("float32", "bfloat16"), (16,), (), model="dpn26", **common),
            *matrix(("torch-compile",), ("float32",), (16,), (), model="dpn26", **common),
            *matrix(("jax", "torch"), ("float16",), (16,), ("128",), model="dpn26", **common),
            *matrix(("jax", "torch"), ("float32",), (16,), (), model="dpn92", **common),
        ]
    if name == "curves":
        common = {"model": "tiny", "data": "digits", "steps": 2, "train": 120}
        return matrix(("jax", "torch"), ("float32", "bfloat16", "float16"), (64,), ("128", "dynamic"), **common)
    common = {"device": "gpu", "data": data, "steps": 50}
    article = [
        *matrix(FRAMEWORKS, PRECISIONS, (128, 256, 512), ("128",), **common),
        *matrix(FRAMEWORKS, ("float16",), (512,), ("64", "256", "dynamic"), **common),
        *matrix(FRAMEWORKS, ("float32", "bfloat16", "float16"), (640, 1024), ("128",), **common),
    ]
    if data != "cifar10":
        return article
    trained = ("jax", "torch")
    return [replace(c, train=-(-EPOCH // c.batch)) if c.framework in trained else c for c in article]


def data_on_disk() -> str:
    """CIFAR-10 where it can be read, else random images."""
    try:
        load("cifar10", 0)
    except Exception as error:
        print(f"CIFAR-10 is not at hand ({type(error).__name__}): random images, times and memory only")
        return "random"
    return "cifar10"


def unfinished(cells: Iterable[Cell], records: dict[str, Any], number: int) -> list[Cell]:
    """The cells that round `number` still has to visit, in its order; one that could not run is not tried again."""
    waiting = []
    for cell in cells:
        visits = records.get(cell.name, {"visits": []})["visits"]
        if len(visits) <= number and all(visit["outcome"] == "ran" for visit in visits):
            waiting.append(cell)
    random.Random(number).shuffle(waiting)
    return waiting


def save(path: Path, content: dict[str, Any]) -> None:
    """Write the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    part.replace(path)


def read(path: Path, cells: Sequence[Cell], versions: dict[str, str]) -> dict[str, Any]:
    """What earlier runs left in the file, as far as it is of the same cells and versions."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    if stored["versions"] != versions:
        print("other versions than in the file: starting anew")
        return {}
    wanted = {cell.name: cell.as_dict() for cell in cells}
    return {name: record for name, record in stored["cells"].items() if record["cell"] == wanted.get(name)}


def visit_all(cells: Sequence[Cell], path: Path, about: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Visit every cell in every round and keep the file up to date."""
    records = {} if options.fresh else read(path, cells, about["versions"])
    started = time.monotonic()
    for number in range(options.rounds):
        waiting = unfinished(cells, records, number)
        for i, cell in enumerate(waiting):
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                print("the time is up; the same command goes on from here")
                return records
            print(f"round {number + 1}/{options.rounds}, {i + 1}/{len(waiting)}: {cell.name}", end=" … ", flush=True)
            again = replace(cell, train=0) if number else cell
            found = processes.run(again, timeout=options.timeout, memory_limit=options.memory_limit)
            print(_in_short(found), flush=True)
            records.setdefault(cell.name, {"cell": cell.as_dict(), "visits": []})["visits"].append(found)
            save(path, {**about, "cells": records})
            for line in found.get("log", []) if options.log else []:
                print(line)
    return records


def _in_short(found: dict[str, Any]) -> str:
    if found["outcome"] != "ran":
        return f"{found['outcome']}: {found.get('why', '').strip().splitlines()[-1:]}"
    seconds = report.quartiles(found["step_seconds"])[1]
    return f"{1e3 * seconds:.0f} ms a step, {found['peak_bytes'] / 1e9:.2f} GB"


def largest_found(cell: Cell, first: int, timeout: float, *, multiple: int = 32) -> int:
    """The largest batch that really runs, to about 2 %, starting from a guess; each try is a process of its own."""

    def runs(size: int) -> bool:
        found = processes.run(replace(cell, batch=size, steps=10, train=0), timeout=timeout)
        print(f"  batch {size}: {found['outcome']}", flush=True)
        return found["outcome"] == "ran"

    return search(runs, first, multiple)


def search(runs: Any, first: int, multiple: int) -> int:
    """The largest multiple for which `runs` holds, within 2 %: widen from the first guess, then halve."""
    size = max(multiple, first // multiple * multiple)
    good, bad = (size, None) if runs(size) else (0, size)
    while bad is None or good == 0:
        size = max(good + multiple, round(good * 1.1)) if bad is None else round(bad * 0.8)
        size = size // multiple * multiple
        if size < multiple:
            return 0
        if runs(size):
            good = size
        else:
            bad = size
    while bad - good > max(multiple, 0.02 * good):
        size = (good + bad) // 2 // multiple * multiple
        if size in (good, bad):
            break
        good, bad = (size, bad) if runs(size) else (good, size)
    return good


def largest_batches(options: argparse.Namespace) -> list[dict[str, Any]]:
    """For JAX predicted by the compiler, for PyTorch by a line through two batches; both found by running, on a GPU."""
    entries = []
    for precision in ("float32", "bfloat16", "float16"):
        scale = "128" if precision == "float16" else "none"
        cell = Cell(
            "jax", precision, 64, loss_scale=scale, model=options.largest_model, device=options.device, steps=10
        )
        told = processes.run(cell, timeout=options.timeout, predict_within=options.largest_within or 0)
        limit = told.get("limit", 0)
        entry = {"framework": "jax", "precision": precision, "predicted": told.get("batch"), "limit": limit}
        entry["how"] = "compiled only, not run" if told["outcome"] == "ran" else told.get("why", "")
        if options.device == "gpu" and told.get("batch"):
            entry["found"] = largest_found(cell, told["batch"], options.timeout)
        entries.append(entry)
        if options.device == "gpu" and limit:
            entries.append(_largest_of_torch(replace(cell, framework="torch"), limit, options.timeout))
    return entries


def _largest_of_torch(cell: Cell, limit: int, timeout: float) -> dict[str, Any]:
    probes = [processes.run(replace(cell, batch=size), timeout=timeout) for size in (128, 256)]
    entry = {
        "framework": "torch",
        "precision": cell.precision,
        "limit": limit,
        "how": "line through batches 128 and 256",
    }
    if all(probe["outcome"] == "ran" for probe in probes):
        slope = (probes[1]["peak_bytes"] - probes[0]["peak_bytes"]) / 128
        entry["predicted"] = int((limit - probes[0]["peak_bytes"]) / slope + 128)
        entry["found"] = largest_found(cell, entry["predicted"], timeout)
    return entry


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--preset", choices=("smoke", "cpu", "curves", "article", "matrix"))
    parser.add_argument("--model", default="dpn92", help="of --preset matrix: dpn92, dpn26 or tiny")
    parser.add_argument("--frameworks", nargs="+", default=FRAMEWORKS, choices=FRAMEWORKS)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--batches", nargs="+", type=int, default=(128, 256, 512, 640))
    parser.add_argument("--scales", nargs="+", default=SCALES[1:], choices=SCALES)
    parser.add_argument("--data", choices=("auto", "cifar10", "digits", "random"), default="auto")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="timed steps a visit, of --preset matrix")
    parser.add_argument("--train", type=int, default=0, help="steps of training with a log, of --preset matrix")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one process")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop starting processes after this; 0: never")
    parser.add_argument("--memory-limit", type=int, default=None, help="bytes for a process on the CPU")
    parser.add_argument(
        "--largest-within",
        type=int,
        help="bytes: also predict (and on a GPU find) the largest batch; by default what a GPU has, and no such "
        "table on a CPU",
    )
    parser.add_argument("--largest-model", default="dpn92")
    parser.add_argument("--log", action="store_true", help="print the training logs in the article's form")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs measured")
    parser.add_argument("--out", type=Path, help="where to write (without suffix)")
    return parser.parse_args()


def main() -> None:
    """Measure, print the tables and write them."""
    options = parse()
    name = options.preset or ("article" if options.device == "gpu" else "cpu")
    data = options.data
    if data == "auto":
        data = data_on_disk() if name in ("article", "matrix") else {"curves": "digits"}.get(name, "random")
    if name == "matrix":
        common = {k: getattr(options, k) for k in ("model", "device", "steps", "train")}
        cells = matrix(options.frameworks, options.precisions, options.batches, options.scales, data=data, **common)
    else:
        cells = preset(name, data)
    stem = "dpn_precision_" + (options.device if name in ("cpu", "article", "matrix") else name)
    out = options.out or RESULTS / stem
    about = {"preset": name, "data": NAMES[data], "versions": report.versions(), "cores": os.cpu_count(), "seed": 0}
    about["environment"] = {k: v for k, v in processes.environment(cells[0]).items() if os.environ.get(k) != v}
    records = visit_all(cells, out.with_suffix(".json"), about, options)
    done = [records[cell.name] for cell in cells if cell.name in records]
    largest = largest_batches(options) if options.largest_within or name == "article" else []
    text = as_text(done, largest, about, name)
    save(out.with_suffix(".json"), {**about, "hardware": report.hardware(done), "cells": records, "largest": largest})
    out.with_suffix(".md").write_text(text)
    print(text)
    if not report.plot(done, out.with_suffix(".png"), data=NAMES[data]):
        print("no plots: matplotlib is not installed")


def as_text(done: list[Any], largest: list[Any], about: dict[str, Any], name: str) -> str:
    """The page with all tables."""
    parts = [
        f"# DPN precision benchmark, preset {name}",
        f"Data: {about['data']}. Hardware: {report.hardware(done)}, {about['cores']} cores. Versions: "
        + ", ".join(f"{package} {number}" for package, number in about["versions"].items()),
        report.full_table(done),
        "An epoch is 50,000 images at the median step. Peak memory is the allocator's on a GPU and what the process "
        "grew by on a CPU, where the allocator keeps what compiling took; "
        "of it activations is what the layers' outputs in the compute dtype come to. MFU is against "
        + (
            "; ".join(sorted({report.row(r)["peak_flops_from"] for r in done if report.row(r)["outcome"] == "ran"}))
            or "–"
        )
        + ".",
    ]
    logs = [(Cell(**r["cell"]).name, report.row(r).get("log", [])) for r in done]
    parts += ["\n".join([f"{cell}:", *(f"    {line}" for line in lines)]) for cell, lines in logs if lines]
    if name == "article":
        parts += ["## Beside the article of 2019 (RTX Titan, PyTorch 1.0, apex)", report.article_table(done)]
    if largest:
        parts += ["## Largest batch", report.largest_table(largest)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
