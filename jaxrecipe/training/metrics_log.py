"""Metrics on disk: functions `write(step, metrics)` to give to `fit`, for JSON lines and for TensorBoard."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Write = Callable[[int, Mapping[str, float]], None]
"""`write(step, {name: number})`: what `fit` calls with the metrics of a finished step, or of an evaluation after it."""


@contextlib.contextmanager
def jsonl_writer(path: str | os.PathLike[str]) -> Iterator[Write]:
    """Append metrics to a file, one JSON object a line: `{"step": 3, "loss": 0.7, ...}`.

    A line is whole on disk before the next step is reported, so a kill loses at most the line being written. When a run
    is resumed, lines at or after the first step that is written again (and a torn last line) are dropped, so that no
    step stands in the file twice; the file as it was before is kept under the same name with `.old` added.
    NaN and infinities, which JSON has not, are written as the strings "nan", "inf" and "-inf": `float()` reads them.

    Args:
        path: the file; its folder is made if need be.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stream: Any = None

        def write(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal stream
            if stream is None:
                _drop_from(path, step)
                stream = stack.enter_context(path.open("a", encoding="utf-8", buffering=1))
            stream.write(json.dumps({"step": step, **{name: _json(value) for name, value in metrics.items()}}) + "\n")

        # Fails now rather than after the first step if the file cannot be written.
        path.touch()
        yield write


@contextlib.contextmanager
def tensorboard_writer(directory: str | os.PathLike[str]) -> Iterator[Write]:
    """Write metrics as TensorBoard scalars (`pip install 'jaxrecipe[tensorboard]'`); needs no TensorFlow.

    When a run is resumed, TensorBoard is told to hide what an earlier run wrote from that step on.

    Raises:
        ImportError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard output needs tensorboardX: pip install 'jaxrecipe[tensorboard]'") from error
    with contextlib.ExitStack() as stack:
        summary: Any = None

        def write(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal summary
            if summary is None:
                summary = stack.enter_context(SummaryWriter(os.fspath(directory), purge_step=step))
            for name, value in metrics.items():
                summary.add_scalar(name, value, step)

        yield write


def both(*writes: Write) -> Write:
    """One `write` that calls several in turn, for instance a file and a progress line."""

    def write(step: int, metrics: Mapping[str, float]) -> None:
        for each in writes:
            each(step, metrics)

    return write


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


def _drop_from(path: Path, step: int) -> None:
    """Keep only whole lines of earlier steps; the former file stays beside it when anything is dropped."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) < step]
    if len(kept) < len(lines):
        rewritten = path.with_name(path.name + ".new")
        rewritten.write_text("".join(kept), encoding="utf-8")
        os.replace(path, path.with_name(path.name + ".old"))
        os.replace(rewritten, path)


def _step_of(line: str) -> float:
    """The step of a line; infinite for one that is torn."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
