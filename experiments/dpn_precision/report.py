"""From what the workers measured to rows, tables and plots. Computes only; `__main__` prints and writes."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.dpn_precision.cells import ARTICLE, EPOCH, ArticleRow, Cell
from experiments.dpn_precision.costs import cpu_name

Record = Mapping[str, Any]
"""`{"cell": …, "visits": […]}`: a cell and what its processes said, one entry a round."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
NOTHING = "–"


def versions() -> dict[str, str]:
    """Of what is measured."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def row(record: Record) -> dict[str, Any]:
    """The numbers of one cell over all its visits; only the outcome for one that did not run."""
    cell, visits = Cell(**record["cell"]), record["visits"]
    ran = [visit for visit in visits if visit["outcome"] == "ran"]
    if not ran:
        return {"cell": cell, "outcome": visits[-1]["outcome"], "why": visits[-1].get("why", "")}
    first = ran[0]
    low, step, high = quartiles([second for visit in ran for second in visit["step_seconds"]])
    return {
        "cell": cell,
        "outcome": "ran",
        "device": first["device"],
        "step_seconds": step,
        "step_quartiles": (low, high),
        "images_a_second": cell.batch / step,
        "epoch_seconds": step * EPOCH / cell.batch,
        "compile_seconds": first["compile_seconds"],
        "peak_bytes": statistics.median(visit["peak_bytes"] for visit in ran),
        "policy_share": statistics.median(visit["policy_share"] for visit in ran),
        "mfu": first["flops_a_step"] / step / first["peak_flops"],
        "peak_flops_from": first["peak_flops_from"],
        "skipped": first.get("skipped_in_training", first["skipped"]),
        "log": first.get("log", []),
    }


def duration(seconds: float | None) -> str:
    """`3 min 33 s`; tenths below ten seconds."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


COLUMNS = (
    "model",
    "framework",
    "precision",
    "batch",
    "loss scale",
    "step (quartiles)",
    "images/s",
    "epoch of 50,000",
    "compiling",
    "peak memory",
    "of it activations",
    "MFU",
    "steps skipped",
)


def full_table(records: Sequence[Record]) -> str:
    """Every column but the logs."""
    return table(COLUMNS, [_full_line(row(record)) for record in records])


def _full_line(found: Mapping[str, Any]) -> list[str]:
    cell = found["cell"]
    names = [cell.model, cell.framework, cell.precision, str(cell.batch), _scale(cell)]
    if found["outcome"] != "ran":
        return [*names, found["outcome"], *[NOTHING] * (len(COLUMNS) - 6)]
    low, high = (1e3 * second for second in found["step_quartiles"])
    return [
        *names,
        f"{1e3 * found['step_seconds']:.0f} ms ({low:.0f} to {high:.0f})",
        f"{found['images_a_second']:.1f}",
        duration(found["epoch_seconds"]),
        duration(found["compile_seconds"]) if found["compile_seconds"] else NOTHING,
        f"{found['peak_bytes'] / 1e9:.2f} GB",
        f"{100 * found['policy_share']:.0f} %",
        f"{100 * found['mfu']:.1f} %",
        str(found["skipped"]),
    ]


def _scale(cell: Cell) -> str:
    return NOTHING if cell.loss_scale == "none" else cell.loss_scale


def article_table(records: Sequence[Record]) -> str:
    """The article's rows in its order, with ours of the same precision, batch and scale beside them."""
    header = ["run", "batch", "loss scale", "2019: epoch", "2019: last line", "2019: memory"]
    frameworks = sorted({record["cell"]["framework"] for record in records})
    for name in frameworks:
        header += [f"{name}: epoch", f"{name}: last line", f"{name}: memory"]
    rows = [row(record) for record in records]
    lines = []
    for theirs in ARTICLE:
        scale = NOTHING if theirs.loss_scale == "none" else theirs.loss_scale
        line = [
            theirs.precision,
            str(theirs.batch),
            scale,
            duration(theirs.epoch_seconds),
            theirs.printed,
            theirs.memory,
        ]
        for name in frameworks:
            line += _beside(next((found for found in rows if _same(found["cell"], theirs, name)), None))
        lines.append(line)
    return table(header, lines)


def _same(cell: Cell, theirs: ArticleRow, framework: str) -> bool:
    ours = (cell.framework, cell.precision, cell.batch, cell.loss_scale)
    return ours == (framework, theirs.precision, theirs.batch, theirs.loss_scale)


def _beside(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["not run"] * 3
    if found["outcome"] != "ran":
        return [NOTHING, found["outcome"], NOTHING]
    last = found["log"][-1] if found["log"] else "not trained"
    return [duration(found["epoch_seconds"]), last, f"{found['peak_bytes'] / 1e9:.2f} GB"]


def largest_table(largest: Sequence[Mapping[str, Any]]) -> str:
    """The largest batches, predicted and found."""
    lines = [
        [
            entry["framework"],
            entry["precision"],
            _or_nothing(entry.get("predicted")),
            _or_nothing(entry.get("found")),
            entry.get("how", ""),
        ]
        for entry in largest
    ]
    return table(["framework", "precision", "predicted", "found", "how"], lines)


def _or_nothing(value: Any) -> str:
    return NOTHING if value is None else str(value)


def hardware(records: Sequence[Record]) -> str:
    """The devices that were measured, in words."""
    devices = {visit["device"] for record in records for visit in record["visits"] if visit["outcome"] == "ran"}
    return ", ".join(sorted({cpu_name() if name == "cpu" else name for name in devices})) or "nothing ran"


def plot(records: Sequence[Record], path: Path, *, data: str) -> bool:
    """Images a second, memory and loss curves as one picture; False where matplotlib is absent."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [found for found in map(row, records) if found["outcome"] == "ran"]
    trained = [record for record in records if record["visits"][0].get("losses")]
    panels = 3 if trained else 2
    figure, axes = pyplot.subplots(1, panels, figsize=(5.4 * panels, 0.25 * len(rows) + 3.5), layout="constrained")
    labels = [found["cell"].name for found in rows]
    axes[0].barh(labels, [found["images_a_second"] for found in rows])
    axes[0].set_xlabel("images a second")
    axes[1].barh(labels, [found["peak_bytes"] / 1e9 for found in rows])
    axes[1].set_xlabel("peak memory, GB")
    axes[1].set_yticklabels([])
    for record in trained:
        cell = Cell(**record["cell"])
        style = "-" if cell.framework == "jax" else "--"
        axes[2].plot(record["visits"][0]["losses"], style, label=cell.name, linewidth=1)
    if trained:
        axes[2].set_xlabel("step")
        axes[2].set_ylabel(f"training loss, {data}")
        axes[2].legend(fontsize=6)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True
