"""Images per second of the three ways to feed a training step: kept on the device, streamed from arrays, streamed from
disk.

Each way gives the same batches of random uint8 images of 32×32×3 to the same jitted augmentation (random crop with
padding 4, horizontal flip, normalisation to float32); nothing else is computed, so these are upper bounds for a
training step. "From disk" reads PNG images from array_record files through tensorflow-datasets' data source, as
CIFAR-10 is read. The images are random numbers, which PNG cannot compress: real ones decode at another speed.

The rate of one process differs from that of the next by up to a factor of two (measured, on CPU), far more than its own
runs differ among each other, so several fresh processes are measured and all their runs are pooled.

Command:   python experiments/data_throughput.py           (add --save to write
experiments/results/data_throughput.{md,json})
Needs:     pip install 'jaxrecipe[datasets]'; about 90 s on 2 CPU cores.
Expected:  on CPU, where device and host are one memory, the first two are alike; from disk is far slower than either.
           The stored table names its hardware and versions.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrecipe.data import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    Batch,
    Source,
    as_source,
    examples,
    feed,
    normalise,
    random_crop,
    random_flip,
    stream,
)

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "numpy", "tensorflow-datasets", "array-record", "pillow")


@dataclass(frozen=True)
class Row:
    """Images per second of one way, over the runs of all processes; `medians` are those of each process."""

    way: str
    batch_size: int
    median: float
    low: float
    high: float
    runs: int
    medians: list[float]


@jax.jit
def augmented(key: jax.Array, images: jax.Array) -> jax.Array:
    """Crop, flip and normalise one batch."""
    crop_key, flip_key = jax.random.split(key)
    return normalise(random_flip(flip_key, random_crop(crop_key, images)), CIFAR10_MEAN, CIFAR10_STD)


def images_per_second(feed: Iterator[Batch], *, batch_size: int, steps: int, repeats: int) -> list[float]:
    """Rates of `repeats` runs of `steps` batches, after one run to compile and to fill the prefetch queue."""
    rates: list[float] = []
    key = jax.random.key(0)
    for _ in range(repeats + 1):
        last: jax.Array = key
        started = time.perf_counter()
        for step in range(steps):
            last = augmented(jax.random.fold_in(key, step), next(feed).inputs)
        last.block_until_ready()
        rates.append(batch_size * steps / (time.perf_counter() - started))
    return rates[1:]


def random_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random numbers in the shape of CIFAR-10: uint8 `[count, 32, 32, 3]` and int32 `[count]`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.int32)


def on_disk(images: np.ndarray, labels: np.ndarray, directory: str) -> Source:
    """The same images as PNG in array_record files, read through tensorflow-datasets."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    def png(image: np.ndarray) -> io.BytesIO:
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        encoded.seek(0)
        return encoded

    features = {"image": tfds.features.Image(shape=(32, 32, 3)), "label": tfds.features.ClassLabel(num_classes=10)}
    identity = DatasetIdentity("random_images", tfds.core.Version("1.0.0"), data_dir=directory, module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=len(images), file_format="array_record")
    writer.initialize_splits(["train"])
    pairs = zip(images, labels, strict=True)
    writer.add_examples({"train": [{"image": png(image), "label": int(label)} for image, label in pairs]})
    writer.close_all()
    builder: Any = tfds.builder_from_directory(directory)
    return as_source(examples(builder.as_data_source(split="train")))


def rates_of_ways(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The rates of all ways in this process, one after the other."""
    size = arguments.batch_size
    images, labels = random_images(arguments.images)
    arrays = as_source((images, labels))
    rates: dict[str, list[float]] = {}

    def run(way: str, batches: Iterator[Batch], steps: int) -> None:
        rates[way] = images_per_second(batches, batch_size=size, steps=steps, repeats=arguments.repeats)

    run("kept on the device", feed(arrays, seed=0, batch_size=size, budget=2**40), arguments.steps)
    run("streamed from arrays", stream(arrays, seed=0, batch_size=size), arguments.steps)
    few = min(len(images), 10_000)
    with tempfile.TemporaryDirectory() as directory:
        disk = on_disk(images[:few], labels[:few], directory)
        steps = max(arguments.steps // 10, 1)
        run("streamed from array_record (PNG)", stream(disk, seed=0, batch_size=size), steps)
    return rates


def measure(arguments: argparse.Namespace) -> list[Row]:
    """All ways, in several fresh processes one after the other."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one-process"]
    outputs = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(arguments.processes)
    ]
    found: list[dict[str, list[float]]] = [json.loads(output.splitlines()[-1]) for output in outputs]
    rows: list[Row] = []
    for way in found[0]:
        runs = [rate for process in found for rate in process[way]]
        medians = [statistics.median(process[way]) for process in found]
        rows.append(Row(way, arguments.batch_size, statistics.median(runs), min(runs), max(runs), len(runs), medians))
    return rows


def table(rows: list[Row], setting: dict[str, str]) -> str:
    """The rows as Markdown, with where and with what they were measured."""
    lines = [
        "| way | batch | images/s (median) | lowest – highest | runs | median of each process |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        each = ", ".join(f"{median:,.0f}" for median in sorted(row.medians))
        spread = f"{row.low:,.0f} – {row.high:,.0f}"
        lines.append(f"| {row.way} | {row.batch_size} | {row.median:,.0f} | {spread} | {row.runs} | {each} |")
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in setting.items()), ""])


def setting_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Versions, hardware and arguments."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}, {device.device_kind}",
        "host": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, load average {os.getloadavg()[0]:.1f} "
        "at the end",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "data": f"{arguments.images:,} random uint8 images of 32×32×3 (from disk: at most 10,000 of them, as PNG)",
        "work": "random crop (padding 4), horizontal flip, normalisation to float32; shuffled batches",
    }


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200, help="batches a run (from disk: a tenth)")
    parser.add_argument("--repeats", type=int, default=5, help="runs a process")
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--one-process", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write the results beside this script")
    arguments = parser.parse_args()
    if arguments.one_process:
        print(json.dumps(rates_of_ways(arguments)))
        return
    rows, setting = measure(arguments), setting_of(arguments)
    text = table(rows, setting)
    print(text)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "data_throughput.md").write_text(f"# Data throughput\n\n{text}", encoding="utf-8")
        stored = {"rows": [asdict(row) for row in rows], "setting": setting}
        (RESULTS / "data_throughput.json").write_text(
            json.dumps(stored, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
