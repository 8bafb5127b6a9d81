"""Predicted against real memory of a training step, and the largest batch predicted against found.

The prediction compiles and runs nothing (`jaxrecipe.precision.memory`). What is real is measured with each cell (a
model, a policy, a batch size) in a process of its own:

On the CPU: the process compiles, takes one step to touch code, threads and workspaces, drops everything, hands free
memory back to the system (malloc_trim), resets its peak of resident memory (/proc/self/clear_refs), notes what is
resident, then makes a state and a batch and takes four steps. Measured is the peak (VmHWM) minus what was resident
before. It is measured twice: with the allocator as it comes ("resident"), and with glibc told to hand every freed array
of 128 KiB or more back at once ("no cache", MALLOC_MMAP_THRESHOLD_), which leaves out what the allocator keeps in
reserve and so compares with the prediction. The largest batch is found by bisection of "no cache" peaks, to within a
hundredth of the predicted batch, against a limit that nothing
enforces: Linux ignores a limit on resident memory (RLIMIT_RSS), and RLIMIT_AS counts addresses, not memory.

On a GPU the same command gives each process a share of the device (XLA_PYTHON_CLIENT_MEM_FRACTION), reads the peak from
the device, and finds the largest batch by really running out of memory. That part has not been run yet: no GPU was at
hand.

Command:   python -m experiments.memory                    (add --save to write experiments/results/memory.{md,json})
Needs:     Linux; about 12 minutes on 2 idle CPU cores; `--models mlp --policies float32 --quick` takes one.
Expected:  on the CPU the prediction is below the "no cache" peak by the workspaces that the compiler does not know of:
0 to 15 % for
           matrix products, up to half for convolutions.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrecipe as jr
from experiments.transformer import Transformer, next_token_loss
from jaxrecipe.data import Batch
from jaxrecipe.models import MLP, ConvNet
from jaxrecipe.precision import device_limit, largest_batch, predict_memory, program_memory
from jaxrecipe.training import init_state

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
MIB = 2**20
LIMIT = 256 * MIB
"""For the largest batch, on the CPU; a GPU has a real limit."""
NO_CACHE = {"MALLOC_MMAP_THRESHOLD_": "131072"}
BATCHES = {
    "mlp": (256, 2048, 8192),
    "convnet": (64, 128, 256),
    "convnet with BatchNorm": (64, 128, 256),
    "transformer": (32, 64, 128),
}
POLICIES = ("float32", "bfloat16", "float16")
SEARCHED = ("float32", "float16")
"""Policies for which the largest batch is looked for."""
PROBES = (16, 32, 64)
"""Batch sizes through which the line goes that is extrapolated to all others."""


class PlainConvNet(nn.Module):
    """Three 3×3 convolutions with ReLU, the last two with stride 2, and a linear layer; nothing is normalised."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits."""
        x = images
        for features, stride in ((32, 1), (64, 2), (64, 2)):
            x = nn.relu(nn.Conv(features, (3, 3), (stride, stride))(x))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def make_task(model: str, policy: str) -> jr.Task:
    """A task under a policy; its data are one example of zeros, which only gives shapes."""
    images = np.zeros((1, 32, 32, 3), np.float32), np.zeros(1, np.int32)
    tokens = np.zeros((1, 64), np.int32), np.zeros((1, 64), np.int32)
    nets: dict[str, nn.Module] = {
        "mlp": MLP((1024, 1024)),
        "convnet": PlainConvNet(),
        "convnet with BatchNorm": ConvNet(),
        "transformer": Transformer(),
    }
    text = model == "transformer"
    return jr.Task(
        model=jr.linen(nets[model]),
        loss=next_token_loss if text else optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.adam(1e-3),
        train=tokens if text else images,
        target=jr.Tokens(96) if text else jr.Classes(10),
        policy=policy,
        loss_scale=jr.dynamic_loss_scale() if policy == "float16" else jr.no_loss_scale(),
    )


def zeros(task: jr.Task, size: int) -> Batch:
    """A batch of so many examples of zeros."""
    inputs, targets = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape[1:]), leaf.dtype), task.train)
    return Batch(inputs, targets, jnp.ones(size, bool))


def fresh(task: jr.Task) -> Any:
    """A state, as training starts with."""
    return init_state(task, jax.random.key(0), zeros(task, 1).inputs)


def blank(task: jr.Task) -> Any:
    """A state of the same shapes that is quicker to compile: zeros, but for the loss scale and the key."""
    shapes = replace(jax.eval_shape(lambda: fresh(task)), loss_scale=None, key=None)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return replace(state, loss_scale=jax.tree.map(jnp.asarray, task.loss_scale), key=jax.random.key(0))


# What a process of its own does.


def predict(task: jr.Task, batches: Sequence[int], limit: int | None) -> dict[str, Any]:
    """What compiling alone says: bytes at each batch from the line, and the largest batch within a limit. Runs
    nothing.
    """
    step, state, batch = (
        jr.make_train_step(task),
        jax.eval_shape(lambda: fresh(task)),
        jax.eval_shape(lambda: zeros(task, 1)),
    )
    model = predict_memory(step, state, batch, sizes=PROBES)
    limit = limit or device_limit() or LIMIT
    largest = largest_batch(step, state, batch, limit, sizes=PROBES)
    return {
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "limit": limit,
        "line": {str(size): model.bytes_at(size) for size in batches},
        "deviation": model.deviation,
        "largest": largest.size,
    }


def measure(task: jr.Task, size: int) -> dict[str, Any]:
    """Compile, run and measure one batch size: predicted and peak bytes, or no peak when the device ran out of
    memory.
    """
    make_state, make_batch = (
        jax.jit(make).lower().compile() for make in (lambda: blank(task), lambda: zeros(task, size))
    )
    shapes = jax.eval_shape(lambda: fresh(task)), jax.eval_shape(lambda: zeros(task, size))
    step = jax.jit(jr.make_train_step(task), donate_argnums=0).lower(*shapes).compile()

    def run(steps: int) -> None:
        state, batch = make_state(), make_batch()
        for _ in range(steps):
            state, _ = step(state, batch)
            jax.block_until_ready(state)

    predicted = program_memory(step, size).total
    if jax.default_backend() == "cpu":
        return {"predicted": predicted, "measured": resident_peak(run)}
    try:
        run(4)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"predicted": predicted, "measured": None}
    stats: Any = jax.devices()[0].memory_stats()
    return {"predicted": predicted, "measured": stats["peak_bytes_in_use"]}


def resident_peak(run: Callable[[int], None]) -> int:
    """Bytes by which resident memory rose at most while four steps were taken, from nothing but code and threads."""
    run(1)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = of_process("VmRSS")
    run(4)
    return of_process("VmHWM") - before


def of_process(name: str) -> int:
    """A line of /proc/self/status that is in kB, as bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status does not tell {name}; Linux is needed")
    return int(found[1]) * 1024


def child(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The work of one process."""
    task = make_task(wanted["model"], wanted["policy"])
    if "size" in wanted:
        return measure(task, wanted["size"])
    return predict(task, wanted["batches"], wanted["limit"])


# What the command does.


def in_process(wanted: Mapping[str, Any], surroundings: Mapping[str, str]) -> dict[str, Any]:
    """Run `child` in a fresh process."""
    command = [sys.executable, "-m", "experiments.memory", "--child", json.dumps(wanted)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **surroundings}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{wanted} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def largest_that_fits(fits: Callable[[int], bool], start: int, step: int) -> int:
    """The largest multiple of `step` that fits; 0 when none does. Strides from `start`, ever wider, then halves the
    bracket.
    """
    low, stride = max(step, start // step * step), step
    if fits(low):
        high = low + stride
        while fits(high):
            stride *= 2
            low, high = high, high + stride
    else:
        low, high = low - stride, low
        while low > 0 and not fits(low):
            stride *= 2
            low, high = low - stride, low
        low = max(low, 0)
    while high - low > step:
        middle = (low + high) // 2 // step * step
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def expected_largest(cells: Sequence[Mapping[str, Any]], limit: int) -> int | None:
    """Where the line through the two largest measured batches meets the limit: where to begin to look; None if it does
    not tell.
    """
    known = [(cell["batch"], cell["measured"]) for cell in cells if cell["measured"]][-2:]
    if len(known) < 2 or known[1][1] <= known[0][1]:
        return None
    (few, less), (many, more) = known
    return max(0, int(many + (limit - more) * (many - few) / (more - less)))


def compare(
    model: str, policy: str, environment: Mapping[str, str], *, limit: int | None, quick: bool
) -> dict[str, Any]:
    """What was predicted and measured for a model under a policy."""
    batches = BATCHES[model][:1] if quick else BATCHES[model]
    chosen = {"model": model, "policy": policy}
    told = in_process({**chosen, "batches": batches, "limit": limit}, environment)
    cpu = told["platform"] == "cpu"
    known: dict[int, dict[str, Any]] = {}

    def at(size: int) -> dict[str, Any]:
        if size not in known:
            known[size] = in_process({**chosen, "size": size}, {**environment, **NO_CACHE} if cpu else environment)
        return known[size]

    def fits(size: int) -> bool:
        found = at(size)["measured"]
        return found is not None and (found <= told["limit"] or not cpu)

    cells = [{"batch": size, "line": told["line"][str(size)], **at(size), "resident": None} for size in batches]
    if cpu:  # as the allocator comes: for the largest batch only
        cells[-1]["resident"] = in_process({**chosen, "size": batches[-1]}, environment)["measured"]
    found, grain = None, max(8, told["largest"] // 100 // 8 * 8)
    if policy in SEARCHED:
        begin = (expected_largest(cells, told["limit"]) if cpu else None) or told["largest"]
        found = largest_that_fits(fits, begin, grain)
    probes = {str(size): known[size] for size in sorted(known)}
    return {**chosen, **told, "cells": cells, "found": found, "grain": grain, "probes": probes}


def error(predicted: float, measured: float | None) -> str:
    """By how much a prediction is off, in per cent of what was measured."""
    return "out of memory" if measured is None else f"{100 * (predicted / measured - 1):+.1f} %"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The results as Markdown."""

    def mib(count: float | None) -> str:
        return "–" if count is None else f"{count / MIB:,.1f}"

    lines = [
        "| model | policy | batch | compiled at that size | line through small batches | peak, no cache | error of "
        "compiled | of line | peak, resident |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for cell in row["cells"]:
            errors = error(cell["predicted"], cell["measured"]), error(cell["line"], cell["measured"])
            numbers = [mib(cell[name]) for name in ("predicted", "line", "measured")]
            named = [row["model"], row["policy"], str(cell["batch"])]
            lines.append(f"| {' | '.join([*named, *numbers, *errors, mib(cell['resident'])])} |")
    lines += [
        "",
        "| model | policy | limit | largest batch predicted | found (to within) | error |",
        "|---|---|---|---|---|---|",
    ]
    for row in (row for row in rows if row["found"] is not None):
        found = f"{row['found']} ({row['grain']})"
        named = f"{row['model']} | {row['policy']} | {mib(row['limit'])}"
        lines.append(f"| {named} | {row['largest']} | {found} | {error(row['largest'], row['found'] or None)} |")
    return "\n".join(lines)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Median and worst errors, in words."""
    cells = [cell for row in rows for cell in row["cells"] if cell["measured"]]
    pairs = [(row["largest"], row["found"]) for row in rows if row["found"]]
    errors = {
        "bytes, compiled at that size": [cell["predicted"] / cell["measured"] - 1 for cell in cells],
        "bytes, line through small batches": [cell["line"] / cell["measured"] - 1 for cell in cells],
        "line against compiled": [cell["line"] / cell["predicted"] - 1 for cell in cells],
        "largest batch": [predicted / found - 1 for predicted, found in pairs],
        "allocator as it comes against no cache": [
            cell["resident"] / cell["measured"] - 1 for cell in cells if cell["resident"]
        ],
    }
    return {
        name: f"median {100 * statistics.median(values):+.1f} %, from {100 * min(values):+.1f} to "
        f"{100 * max(values):+.1f} %"
        for name, values in errors.items()
        if values
    }


def main() -> None:
    """Measure, print and, if asked for, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument(
        "--limit", type=int, help="MiB for the largest batch (default: 256 on the CPU, the device's on a GPU)"
    )
    parser.add_argument("--fraction", type=float, default=0.05, help="share of a GPU that each process may use")
    parser.add_argument("--quick", action="store_true", help="the smallest batch only")
    parser.add_argument("--save", action="store_true", help="write the results, after each row, and go on from them")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child)))
        return
    setting = {
        "limit": options.limit,
        "fraction": options.fraction,
        "quick": options.quick,
        "host": f"{os.cpu_count()} cores, {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
    path = RESULTS / "memory.json"
    before = json.loads(path.read_text()) if options.save and not options.fresh and path.exists() else {}
    done = {(row["model"], row["policy"]): row for row in before.get("rows", ()) if before["setting"] == setting}
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": str(options.fraction)}
    limit = options.limit and options.limit * MIB
    rows = []
    for model, policy in ((model, policy) for model in options.models for policy in options.policies):
        known = done.get((model, policy))
        rows.append(known or compare(model, policy, environment, limit=limit, quick=options.quick))
        print(table(rows[-1:]) + "\n", flush=True)
        if options.save:
            save(rows, setting)
    print(page(rows, setting))


def page(rows: Sequence[Mapping[str, Any]], setting: Mapping[str, Any]) -> str:
    """Tables, summary and setting as Markdown."""
    facts = {
        **{f"error, {name}": value for name, value in summary(rows).items()},
        "device": f"{rows[0]['platform']}, {rows[0]['device']}",
        **{name: value for name, value in setting.items() if name not in ("limit", "fraction", "quick")},
    }
    heading = (
        "# Memory of a training step: predicted by compiling, and measured\n\nMade by `python -m "
        "experiments.memory --save`, whose docstring says how it is measured. In MiB; an error is (predicted / "
        "measured) − 1.\n\n"
    )
    return heading + table(rows) + "\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"


def save(rows: Sequence[Mapping[str, Any]], setting: Mapping[str, Any]) -> None:
    """Write what there is so far; the same command goes on from it."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.md").write_text(page(rows, setting), encoding="utf-8")
    (RESULTS / "memory.json").write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
