"""What `fit` costs over a bare jitted loop: the ratio of their times a step over the same batches, with its spread.

Three loops train the same ConvNet (Flax Linen, BatchNorm, Adam) on the same batches of random uint8 images, which lie
on the device:
- "bare": a step as people write it (loss, gradient, optax update), jitted, its state donated, nothing read back before
  the end;
- "bare, same step": the same loop around the library's own training step, which also measures norms and accuracy;
- "fit": `jr.fit`, which reads every metric of every step, one step behind.
"fit" calls a function with the metrics of each step. After every few steps that function stops the clock, lets the
other loops take as many steps, in a new order each time, and starts the clock again: so all loops run in one process
within the same second or two, and a ratio is always taken within such a round. What counts is the median of the rounds.
A second "bare" shows what the machine makes of two equal loops. Compiling and the first rounds are left out.
Processor time (all threads of the process) stands beside wall time, because it suffers less from other processes. For
"fit" both are a little too high: what `fit` does while the step after a round already runs is counted, and that step is
not. A last line says what "fit" adds to a step that takes next to nothing: a bound in microseconds for a step of any
length.

Command:   python experiments/loop_overhead.py             (add --save to write
experiments/results/loop_overhead.{md,json})
Needs:     nothing but the library; about 4 minutes on 2 idle CPU cores.
Expected:  a median ratio of "fit" to "bare" of 1.01 or less on steps of 20 ms or more.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrecipe as jr
from jaxrecipe.data import Batch, index_batches
from jaxrecipe.models import ConvNet
from jaxrecipe.training import new_state

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
WARM_UP = 3
"""Rounds before the clock counts."""

Times = tuple[float, float]
"""Seconds a step: wall, processor."""


def make_task(batch_size: int) -> jr.Task:
    """A ConvNet on random images, scaled to [0, 1]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4096, 16, 16, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, 4096).astype(np.int32)
    return jr.Task(
        model=jr.linen(ConvNet()),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.adam(1e-3),
        train=(images, labels),
        target=jr.Classes(10),
        batch_size=batch_size,
        prepare=lambda inputs, targets: (inputs.astype(jnp.float32) / 255.0, targets),
    )


def make_tiny_task() -> jr.Task:
    """Softmax regression on eight numbers: all that takes time is the loop."""
    rng = np.random.default_rng(0)

    def init(key: jax.Array, _: Any) -> tuple[Any, Any]:
        return {"w": jax.random.normal(key, (8, 2))}, {}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        del train, key
        return inputs @ params["w"], state

    return jr.Task(
        model=jr.Model(init, apply),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.sgd(1e-3),
        train=(rng.integers(0, 256, (4096, 8)).astype(np.uint8), rng.integers(0, 2, 4096).astype(np.int32)),
        target=jr.Classes(2),
        prepare=lambda inputs, targets: (inputs.astype(jnp.float32) / 255.0, targets),
    )


def added_microseconds(found: Mapping[str, list[Times]]) -> float:
    """Median over the rounds of the wall time that "fit" takes beyond "bare", a step."""
    return 1e6 * statistics.median(mine[0] - base[0] for mine, base in zip(found["fit"], found["bare"], strict=True))


def plain_step(task: jr.Task) -> Callable[..., Any]:
    """The step as people write it."""

    def step(state: Any, batch: Batch) -> Any:
        params, model_state, opt_state, key = state
        key, now = jax.random.split(key)

        def mean_loss(params: Any) -> Any:
            inputs = batch.inputs.astype(jnp.float32) / 255.0
            outputs, after = task.model.apply(params, model_state, inputs, train=True, key=now)
            return task.loss(outputs, batch.targets).mean(), after

        (loss, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
        updates, opt_state = task.optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), model_state, opt_state, key), loss

    return step


def bare(task: jr.Task, step: Callable[..., Any], state: Any) -> Callable[[int], None]:
    """A loop and nothing else: takes so many steps, and waits for the last one."""

    def taken(state: Any, data: Any, indices: Any, mask: Any) -> Any:
        inputs, targets = jax.tree.map(lambda leaf: leaf[indices], data)
        return step(state, Batch(inputs, targets, mask))

    compiled = jax.jit(taken, donate_argnums=0)
    data = jax.device_put(task.train)
    batches = index_batches(0, len(task.train[1]), task.batch_size)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            indices, mask = next(batches)
            state, _ = compiled(state, data, indices.astype(np.int32), mask)
        jax.block_until_ready(state)

    return run


def clocks() -> Times:
    """Wall and processor time of this process."""
    return time.perf_counter(), time.process_time()


def between(before: Times, after: Times, steps: int) -> Times:
    """Seconds a step of both clocks."""
    wall, processor = ((b - a) / steps for a, b in zip(before, after, strict=True))
    return wall, processor


def measure(task: jr.Task, *, steps: int, rounds: int) -> dict[str, list[Times]]:
    """Seconds a step of every loop in every round of `steps` steps."""
    fresh = new_state(task)
    plain = (fresh.params, fresh.model_state, fresh.opt_state, fresh.key)
    loops = {
        "bare": bare(task, plain_step(task), jax.tree.map(jnp.array, plain)),
        "bare again": bare(task, plain_step(task), jax.tree.map(jnp.array, plain)),
        "bare, same step": bare(task, jr.make_train_step(task), jax.tree.map(jnp.array, fresh)),
    }
    found: dict[str, list[Times]] = {name: [] for name in (*loops, "fit")}
    rng = np.random.default_rng(0)
    started = clocks()

    def write(step: int, _: Mapping[str, float]) -> None:
        nonlocal started
        # `fit` has dispatched the next step already, which nobody will time: so a round of n steps takes n +
        # 1 of its own.
        if step % (steps + 1):
            return
        found["fit"].append(between(started, clocks(), steps))
        loops["bare"](2)  # outlasts the step that is under way
        for name in rng.permutation(list(loops)):
            before = clocks()
            loops[str(name)](steps)
            found[str(name)].append(between(before, clocks(), steps))
        started = clocks()

    jr.fit(task, steps=(steps + 1) * (rounds + WARM_UP), write=write)
    return {name: times[WARM_UP:] for name, times in found.items()}


def summarise(found: Mapping[str, list[Times]]) -> list[dict[str, Any]]:
    """For each loop the median ratio to "bare" of the same round, with quartiles and a 95 % interval of the median."""
    rows = []
    for name, times in found.items():
        row: dict[str, Any] = {"loop": name, "rounds": len(times)}
        for clock, kind in enumerate(("wall", "processor")):
            ratios = sorted(mine[clock] / base[clock] for mine, base in zip(times, found["bare"], strict=True))
            quartiles = statistics.quantiles(ratios, n=4)
            row[kind] = {
                "milliseconds": 1e3 * statistics.median(each[clock] for each in times),
                "ratio": statistics.median(ratios),
                "quartiles": [quartiles[0], quartiles[2]],
                "interval": median_interval(ratios),
            }
        rows.append(row)
    return rows


def median_interval(values: list[float]) -> list[float]:
    """Percentile bootstrap of the median, 95 %, seeded."""
    resampled = np.random.default_rng(0).choice(values, (4000, len(values)))
    return [float(end) for end in np.quantile(np.median(resampled, axis=1), [0.025, 0.975])]


def table(rows: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| loop | ms a step (wall) | ratio of wall time (95 %) | quartiles | ratio of processor time (95 %) | "
        "quartiles | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["loop"], f"{row['wall']['milliseconds']:.1f}"]
        for kind in ("wall", "processor"):
            ratio, (low, high), (first, third) = (row[kind][name] for name in ("ratio", "interval", "quartiles"))
            cells += [f"{ratio:.4f} ({low:.4f} – {high:.4f})", f"{first:.4f} – {third:.4f}"]
        lines.append("| " + " | ".join([*cells, str(row["rounds"])]) + " |")
    return "\n".join(lines)


def surroundings() -> dict[str, str]:
    """What the numbers depend on, besides the work."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}, {device.device_kind}",
        "host": f"{os.cpu_count()} cores, {platform.machine()}, load average {os.getloadavg()[0]:.1f} at the end",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "jaxrecipe": jr.__version__,
    }


def main() -> None:
    """Measure, print and, if asked for, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    rows = summarise(measure(make_task(options.batch_size), steps=options.steps, rounds=options.rounds))
    tiny = added_microseconds(measure(make_tiny_task(), steps=100, rounds=50))
    work = f"ConvNet (32, 64) on 16×16×3 images, batch {options.batch_size}, Adam; {options.steps} steps a round"
    facts = {**surroundings(), "work": work, "added to a step of next to nothing": f"{tiny:.0f} microseconds"}
    text = table(rows) + "\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"
    print(text)
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        heading = "# What `fit` costs over a bare jitted loop\n\nRatios to the first row, taken within each round.\n\n"
        (RESULTS / "loop_overhead.md").write_text(heading + text, encoding="utf-8")
        (RESULTS / "loop_overhead.json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
