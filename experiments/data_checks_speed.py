"""Processor time of the data checks on large data: many rows of a table, many images, many classes.

Command:   python experiments/data_checks_speed.py [--save] [CASE ...]
Hardware:  two CPU cores; about two minutes. Processor time counts both cores, compiling included. Leave the threads of
           numpy as they are: with OPENBLAS_NUM_THREADS=1 the search for near copies takes a quarter of the time.
Expected:  `duplicates` on 100,000 rows of 20 numbers at most 6 s, all data checks on 60,000 images at most 20 s, all
           with 10,000 classes at most 15 s; no FAIL. --save writes experiments/results/data_checks_speed.{md,json}.

The images are the 8×8 digits enlarged to 28×28 bytes, with noise, so that no two are equal. The rows are normal
numbers, the labels the sign of one of them. With 10,000 classes each of 100,000 examples belongs to a center in 32
dimensions.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

import jaxrecipe as jr
from jaxrecipe.data import digits
from jaxrecipe.models import MLP

RESULTS = Path(__file__).parent / "results"
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


class Case(NamedTuple):
    """A task, the checks to run on it, and how many seconds of processor time they may take."""

    task: Callable[[], jr.Task]
    checks: tuple[str, ...]
    seconds: float


def rows() -> jr.Task:
    """100,000 rows of 20 numbers."""
    x = np.random.default_rng(0).normal(size=(110_000, 20)).astype(np.float32)
    return _task(x, (x[:, 0] > 0).astype(np.int32), 2, test=10_000)


def images() -> jr.Task:
    """60,000 images of 28×28 bytes and 10,000 for the test."""
    rng = np.random.default_rng(0)
    (x, y), _ = digits()
    chosen = rng.integers(0, len(x), 70_000)
    large = np.clip(np.asarray(x, np.float32).reshape(-1, 8, 8) / np.max(x), 0, 1)
    large = np.kron(large, np.ones((1, 3, 3), np.float32)) * 255
    pixels = np.zeros((70_000, 28, 28), np.uint8)
    for start in range(0, 70_000, 5000):
        part = large[chosen[start : start + 5000]]
        noisy = part + rng.normal(0, 40, part.shape).astype(np.float32)
        pixels[start : start + 5000, 2:26, 2:26] = np.clip(noisy, 0, 255)
    return _task(pixels, np.asarray(y)[chosen].astype(np.int32), 10, test=10_000, prepare=_scaled)


def classes() -> jr.Task:
    """100,000 examples of 10,000 classes."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(110_000) % 10_000).astype(np.int32)
    centers = rng.normal(size=(10_000, 32))
    x = (centers[y] + 0.5 * rng.normal(size=(110_000, 32))).astype(np.float32)
    return _task(x, y, 10_000, test=10_000)


CASES = {
    "100,000 rows": Case(rows, ("duplicates",), 6.0),
    "60,000 images": Case(images, ("data",), 20.0),
    "10,000 classes": Case(classes, ("data",), 15.0),
}


def _scaled(x: Any, y: Any) -> Any:
    return x.reshape(len(x), -1).astype("float32") / 255, y


def _task(x: np.ndarray, y: np.ndarray, number: int, *, test: int, prepare: Any = None) -> jr.Task:
    return jr.Task(
        model=jr.linen(MLP(features=(32,), classes=number)),
        loss=cross_entropy,
        optimizer=optax.adam(1e-3),
        train=(x[:-test], y[:-test]),
        test=(x[-test:], y[-test:]),
        target=jr.Classes(number),
        prepare=prepare,
        batch_size=128,
    )


def measured(case: Case) -> list[tuple[str, str, float]]:
    """Name, status and seconds of processor time of every check of a case."""
    task, found, began = case.task(), [], {}

    def watch(name: str, result: jr.Result | None) -> None:
        if result is None:
            began[name] = time.process_time()
        else:
            found.append((name, str(result.status), time.process_time() - began[name]))

    jr.check(task, only=case.checks, watch=watch)
    return found


def surroundings() -> dict[str, str]:
    """What the times depend on."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    threads = {name: os.environ.get(name, "not set") for name in names}
    packages = {name: version(name) for name in ("numpy", "scipy", "jax")}
    return {"cores": str(os.cpu_count()), **threads, **packages, "jaxrecipe": jr.__version__}


def page(rows_of_case: dict[str, list[tuple[str, str, float]]], facts: dict[str, str]) -> str:
    """The table, as Markdown."""
    lines = ["| case | check | status | processor seconds |", "|---|---|---|---|"]
    for name, found in rows_of_case.items():
        lines += [f"| {name} | {check} | {status} | {seconds:.2f} |" for check, status, seconds in found]
        total = sum(seconds for *_, seconds in found)
        lines.append(f"| {name} | **all** (at most {CASES[name].seconds:g}) | | **{total:.1f}** |")
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in facts.items())]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and store if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--save", action="store_true", help="write experiments/results/data_checks_speed.{md,json}")
    options = parser.parse_args(arguments)
    found = {name: measured(CASES[name]) for name in options.cases or list(CASES)}
    facts = surroundings()
    text = page(found, facts)
    print(text)
    if options.save:
        (RESULTS / "data_checks_speed.md").write_text(
            f"# Processor time of the data checks\n\n{text}", encoding="utf-8"
        )
        (RESULTS / "data_checks_speed.json").write_text(
            json.dumps({"facts": facts, "cases": found}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
