"""One cell in its own process: `python -m experiments.dpn_precision.worker '{"cell": {…}}'` prints its result as JSON.

With `"serve": true` it takes orders on standard input instead (a number of steps a line) and answers each with the
seconds that they took, wall and processor time: so that several processes can be measured in turns.
"""

import contextlib
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from experiments.dpn_precision.cells import EPOCH, MODELS, Cell, epoch_log
from experiments.dpn_precision.costs import BYTES, kept_values, measured_cpu_flops, peak_flops, training_flops
from experiments.dpn_precision.side import Side

OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory", "bad_alloc", "Unable to allocate")
WARM_UP = 8
"""Steps before those that are timed: on a CPU the heap grows in the first half dozen, and page faults come with
that."""
LEAST_WARM_UP, WARM_UP_SECONDS = 3, 15.0
"""Slow steps get fewer, once that many seconds have gone."""


def side_of(cell: Cell, **options: Any) -> Side:
    """Import only the framework that is asked for."""
    if cell.framework == "jax":
        from experiments.dpn_precision import in_jax

        return in_jax.prepare(cell, **options)
    from experiments.dpn_precision import in_torch

    return in_torch.prepare(cell, **options)


def resident_bytes(field: str = "VmRSS") -> int:
    """Memory of this process: now (VmRSS) or at its highest (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Start the process's memory peak anew, so that compiling does not count."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measure(cell: Cell) -> dict[str, Any]:
    """Everything about one cell: times, memory and, if it trains, its log."""
    before = resident_bytes()
    side = side_of(cell)
    curve = train(side, cell) if cell.train else {}
    taken = cell.train
    forget_peak()
    taken = warm_up(side, taken)
    block = 1 if cell.device == "cpu" else 10
    seconds = []
    for visit in range(max(1, cell.steps // block)):
        start = time.perf_counter()
        for i in range(block):
            side.advance(taken + visit * block + i)
        side.wait()
        seconds.append((time.perf_counter() - start) / block)
    peak = side.peak_bytes() or resident_bytes("VmHWM") - before
    return {"outcome": "ran", "step_seconds": seconds, **summary(cell, side, peak), **curve}


def warm_up(side: Side, taken: int) -> int:
    """Take the steps that are not timed; the number of the next step."""
    start = time.perf_counter()
    for done in range(1, WARM_UP + 1):
        side.advance(taken)
        side.wait()
        taken += 1
        if done >= LEAST_WARM_UP and time.perf_counter() - start > WARM_UP_SECONDS:
            break
    return taken


def summary(cell: Cell, side: Side, peak: int) -> dict[str, Any]:
    """What does not depend on how long the steps took."""
    config = MODELS[cell.model]
    sheet = peak_flops(side.device, cell.precision)
    return {
        "device": side.device,
        "compile_seconds": side.compile_seconds,
        "compiled_bytes": side.compiled_bytes,
        "peak_bytes": peak,
        "policy_share": cell.batch * kept_values(config) * BYTES[cell.precision] / peak,
        "skipped": side.skipped(),
        "flops_a_step": cell.batch * training_flops(config),
        "peak_flops": sheet or measured_cpu_flops(),
        "peak_flops_from": "data sheet" if sheet else "measured: float32 matrix product, numpy",
        "notes": dict(side.notes),
    }


def train(side: Side, cell: Cell) -> dict[str, Any]:
    """Train from scratch, waiting only where the article prints."""
    start = time.perf_counter()
    for number in range(cell.train):
        side.advance(number)
    side.wait()
    seconds = time.perf_counter() - start
    losses, corrects, counts = side.measured().T.tolist()
    steps = -(-EPOCH // cell.batch) if cell.data == "cifar10" else cell.train
    return {
        "train_seconds": seconds,
        "losses": [round(loss, 5) for loss in losses],
        "accuracies": [correct / max(count, 1) for correct, count in zip(corrects, counts, strict=True)],
        "log": epoch_log(losses, corrects, counts, steps),
        "skipped_in_training": side.skipped(),
    }


def serve(cell: Cell, options: dict[str, Any]) -> None:
    """Take orders: a number of steps a line; an empty line ends."""
    side = side_of(cell, **options)
    side.advance(0)
    side.wait()
    number = 1
    print(json.dumps({"compile_seconds": side.compile_seconds, "device": side.device}), flush=True)
    for line in sys.stdin:
        if not line.strip():
            return
        walls, before = [], time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            side.advance(number)
            side.wait()
            walls.append(time.perf_counter() - start)
            number += 1
        used = (time.process_time() - before) / len(walls)
        print(json.dumps({"wall": statistics.fmean(walls), "processor": used}), flush=True)


def main(order: dict[str, Any]) -> None:
    """Carry out one order and print one line of JSON."""
    cell = Cell(**order["cell"])
    if order.get("memory_limit"):
        resource.setrlimit(resource.RLIMIT_DATA, (order["memory_limit"], order["memory_limit"]))
    try:
        if order.get("serve"):
            serve(cell, order.get("options", {}))
            return
        if "predict_within" in order:
            from experiments.dpn_precision import in_jax

            result = {"outcome": "ran", **in_jax.predict_largest(cell, order["predict_within"])}
        else:
            result = measure(cell)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        lacks_memory = isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)
        result = {"outcome": "out of memory" if lacks_memory else "failed", "why": text[:500]}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
