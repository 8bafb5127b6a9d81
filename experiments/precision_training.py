"""Training in float32, bfloat16 and float16 (static and dynamic loss scale), and through overflow provoked on purpose.

Two workloads on real data: a ConvNet with BatchNorm on the embedded handwritten digits, and a small transformer that
predicts the next character of Python's reference text. Every configuration trains in the same three seeds: a seed fixes
the initial parameters, the order of the batches and the augmentation, so the difference from float32 is taken seed by
seed. All of a run's steps count, the last state is scored on the whole test set, and nothing is chosen on it.

Overflow on purpose: a dynamic scale that begins at 2**30, far too high; and "spikes", digits of which about one batch
in fifty is multiplied by a million, which float16 cannot hold. What is then expected: float16 with a loss scale skips
those steps and ends like the undisturbed run; float16 without one breaks down, loudly; float32 and bfloat16 take the
spikes for data, into their running statistics.

Each run is kept in the JSON file as soon as it is done, and is not done again: the command can be stopped and called
again. The intervals are Student's t over three seeds, so they are wide: 4.3 standard errors.

Command:   python -m experiments.precision_training        (--fresh forgets earlier runs; --only float16 chooses by
name)
Needs:     nothing but the library (a plot with the extra `plots`); about 8 minutes on 2 idle CPU cores, which emulate
half precision.
Expected:  differences from float32 of a thousandth of the loss or less, but for the rows in which something is
provoked.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrecipe as jr
from experiments.transformer import Transformer, digest, text_task
from jaxrecipe.demo import BATCH_SIZE, adamw, digits_task, shift
from jaxrecipe.precision import LossScale
from jaxrecipe.training import mean_interval

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
SEEDS = (0, 1, 2)
STEPS = {"digits": 460, "text": 250}
SPIKE_SHARE, SPIKE_FACTOR = 0.02, 1e6
EVERY = 10
"""Steps that are averaged to one point of a stored curve."""


def scales() -> dict[str, tuple[str, LossScale]]:
    """Name of a configuration → policy and loss scale."""
    none, grows = jr.no_loss_scale(), {"growth_interval": 100}
    return {
        "float32": ("float32", none),
        "bfloat16": ("bfloat16", none),
        **{f"float16, static {scale}": ("float16", jr.static_loss_scale(scale)) for scale in (64, 128, 256)},
        "float16, dynamic": ("float16", jr.dynamic_loss_scale(**grows)),
        "float16, no loss scale": ("float16", none),
        "float16, dynamic from 2^30": (
            "float16",
            jr.dynamic_loss_scale(init_scale=2.0**30, max_scale=2.0**30, **grows),
        ),
    }


def configurations(workload: str) -> list[str]:
    """Names of what a workload is trained in; the first is what all others are compared with."""
    spiked = ("float32", "bfloat16", "float16, dynamic", "float16, no loss scale")
    return [*scales(), *(f"{name}, spikes" for name in spiked if workload == "digits")]


def spiky(key: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The demonstration's augmentation; about one batch in fifty is then a million times as bright."""
    shift_key, spike_key = jax.random.split(key)
    images, labels = shift(shift_key, images, labels)
    factor = jnp.where(jax.random.bernoulli(spike_key, SPIKE_SHARE), SPIKE_FACTOR, 1.0).astype(images.dtype)
    return images * factor, labels


def make_task(workload: str, configuration: str, steps: int, **changes: Any) -> jr.Task:
    """The task of a run."""
    policy, loss_scale = scales()[configuration.removesuffix(", spikes")]
    changes = {"policy": policy, "loss_scale": loss_scale, **changes}
    if workload == "text":
        schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, min(40, steps // 2), steps)
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4))
        return text_task(length=32, characters=200_000, model=Transformer(), optimizer=optimizer, **changes)
    # A smaller learning rate than the demonstration's: what is compared is precision, so the runs should differ
    # little otherwise.
    task = digits_task().replace(optimizer=adamw(3e-3, steps=steps), batch_size=BATCH_SIZE)
    if configuration.endswith("spikes"):
        task = task.replace(augment=spiky)
    return task.replace(**changes)


def train(task: jr.Task, seed: int, steps: int) -> dict[str, Any]:
    """One run from start to end: test scores, what the loss scale did, and curves; or how it broke down."""
    began = time.perf_counter()
    try:
        done = jr.fit(task, steps=steps, seed=seed)
    except FloatingPointError as error:
        return {"broke": str(error).split(":")[0], "seconds": round(time.perf_counter() - began, 1)}
    if done.evaluation is None:
        raise KeyboardInterrupt
    ends = steps // EVERY * EVERY
    points = {name: values[:ends].reshape(-1, EVERY) for name, values in done.history.items()}
    scale = done.state.loss_scale
    return {
        "loss": done.evaluation.loss,
        "accuracy": done.evaluation["accuracy"].value,
        "examples": done.evaluation.size,
        "skipped": int(scale.skipped),
        "scale": float(scale.scale),
        "curve": [round(float(value), 4) for value in points["loss"].mean(axis=1)],
        "scales": [float(value) for value in points["loss_scale"][:, -1]] if "loss_scale" in points else [],
        "seconds": round(time.perf_counter() - began, 1),
    }


def row_of(runs: Mapping[str, Any], workload: str, configuration: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Means over the seeds that are done, with their intervals, and paired differences from the first configuration."""
    first = configurations(workload)[0]
    pairs = [
        (runs.get(f"{workload} | {first} | {seed}"), runs.get(f"{workload} | {configuration} | {seed}"))
        for seed in seeds
    ]
    done = [(one, other) for one, other in pairs if one and other]
    base, mine = [one for one, _ in done], [other for _, other in done]
    row: dict[str, Any] = {"workload": workload, "configuration": configuration, "seeds": len(done)}
    if not done:
        return row | {"broke": "not done yet"}
    if broken := [run["broke"] for run in mine if "broke" in run]:
        return row | {"broke": f"{len(broken)} of {len(mine)}: {'; '.join(dict.fromkeys(broken))}"}
    for name in ("loss", "accuracy"):
        values = np.array([run[name] for run in mine])
        differences = values - np.array([run[name] for run in base])
        for kind, numbers in (("", values), (" difference", differences)):
            found = mean_interval(numbers)
            row[name + kind] = [found.value, found.low, found.high]
    return row | {"skipped": [run["skipped"] for run in mine], "scale": [run["scale"] for run in mine]}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of one workload as Markdown."""
    lines = [
        "| precision | test loss (95 %) | difference from float32 (95 %) | test accuracy, % (95 %) | difference, "
        "points (95 %) | steps skipped | final scale | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "broke" in row:
            lines.append(f"| {row['configuration']} | {row['broke']} | | | | | | {row['seeds']} |")
            continue
        formats = (("loss", "{:.4f}", 1), ("loss difference", "{:+.4f}", 1), ("accuracy", "{:.2f}", 100))
        cells = [row["configuration"]]
        for name, form, factor in (*formats, ("accuracy difference", "{:+.2f}", 100)):
            value, low, high = (form.format(factor * number) for number in row[name])
            compared = row["configuration"] != "float32" or "difference" not in name
            cells.append(f"{value} ({low} to {high})" if compared else "–")
        unscaled = row["configuration"].startswith(("float32", "bfloat16")) or "no loss scale" in row["configuration"]
        scales = ["–"] if unscaled else sorted({f"2^{np.log2(scale):g}" for scale in row["scale"]})
        cells += ["–" if unscaled else ", ".join(map(str, row["skipped"])), ", ".join(scales)]
        lines.append(f"| {' | '.join([*cells, str(row['seeds'])])} |")
    return "\n".join(lines)


def plot(runs: Mapping[str, Any], workloads: Sequence[str], seeds: Sequence[int], path: Path) -> bool:
    """Training loss and loss scale over the steps, mean of the seeds; False without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    figure, axes = pyplot.subplots(2, len(workloads), figsize=(6 * len(workloads), 7), squeeze=False)
    for column, workload in enumerate(workloads):
        for configuration in configurations(workload):
            found = [runs.get(f"{workload} | {configuration} | {seed}", {}) for seed in seeds]
            for place, name in enumerate(("curve", "scales")):
                curves = [run[name] for run in found if run.get(name)]
                if curves:
                    steps = EVERY * np.arange(1, len(curves[0]) + 1)
                    axes[place, column].plot(steps, np.mean(curves, axis=0), label=configuration, linewidth=1)
        axes[0, column].set(title=f"{workload}: training loss", yscale="log")
        axes[1, column].set(title=f"{workload}: loss scale", yscale="log", xlabel="step")
        axes[1, column].set_yscale("log", base=2)
        for place in (0, 1):
            axes[place, column].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
    return True


def stored(path: Path, setting: Mapping[str, Any], *, fresh: bool) -> dict[str, Any]:
    """Runs of an earlier call with the same setting."""
    if fresh or not path.exists():
        return {}
    before = json.loads(path.read_text())
    return before["runs"] if before["setting"] == setting else {}


def run_all(
    names: Sequence[tuple[str, str, int]], path: Path, setting: Mapping[str, Any], *, fresh: bool
) -> dict[str, Any]:
    """Do what is not done yet, and keep each run at once."""
    runs = stored(path, setting, fresh=fresh)
    for workload, configuration, seed in names:
        name = f"{workload} | {configuration} | {seed}"
        if name not in runs:
            steps = setting["steps"][workload]
            runs[name] = train(make_task(workload, configuration, steps), seed, steps)
            told = {key: value for key, value in runs[name].items() if key not in ("curve", "scales")}
            print(f"{name}: {told}", flush=True)
            path.write_text(json.dumps({"setting": setting, "runs": runs}, indent=None) + "\n")
    return runs


def main() -> None:
    """Read the options, and keep compiled programs for as long as this takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only configurations whose name holds this, besides float32")
    parser.add_argument("--workloads", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--report", action="store_true", help="tables of what is done already")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    # Seeds share their programs, and so do static scales.
    with tempfile.TemporaryDirectory() as directory:
        jax.config.update("jax_compilation_cache_dir", directory)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Train what is missing, print the tables and write them."""
    seeds = range(options.seeds)
    options.out.mkdir(exist_ok=True, parents=True)
    setting = {
        "steps": STEPS,
        "device": f"{jax.devices()[0].platform}, {jax.devices()[0].device_kind}",
        "host": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "text data": f"200,000 characters of pydoc_data.topics (SHA-256 {digest()}…) in rows of 32",
        "spikes": f"about {SPIKE_SHARE:.0%} of the batches times {SPIKE_FACTOR:g}",
    }
    chosen = [
        (workload, name)
        for workload in options.workloads
        for name in configurations(workload)
        if options.only in name or name == "float32"
    ]
    names = [(*pair, seed) for seed in seeds for pair in chosen]
    runs = run_all(
        [] if options.report else names, options.out / "precision_training.json", setting, fresh=options.fresh
    )
    parts = [
        "# Training in each precision\n\nMade by `python -m experiments.precision_training`, whose docstring says "
        "how.\n"
    ]
    for workload in options.workloads:
        rows = [row_of(runs, *pair, seeds) for pair in chosen if pair[0] == workload]
        parts.append(f"## {workload}: {STEPS[workload]} steps\n\n{table(rows)}\n")
    if plot(runs, options.workloads, seeds, options.out / "precision_training.png"):
        parts.append("![training loss and loss scale](precision_training.png)\n")
    parts.append("\n".join(f"- {name}: {value}" for name, value in setting.items()) + "\n")
    (options.out / "precision_training.md").write_text("\n".join(parts), encoding="utf-8")
    print("\n".join(parts))


if __name__ == "__main__":
    main()
