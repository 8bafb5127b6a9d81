"""What is going on, on standard error: a live line on a terminal, one plain line a finished check when piped."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from jaxrecipe.compiles import counting_compiles
from jaxrecipe.recipe import run_checks, select_checks, versions
from jaxrecipe.report.result import Report, Result
from jaxrecipe.task import Task


def checked(task: Task, console: Console, **options: Any) -> Report:
    """`recipe.check` with progress on a console; takes the same options and raises the same."""
    total = len(select_checks(only=options.get("only"), skip=options.get("skip", ())))
    started = time.perf_counter()
    results: list[Result] = []
    with counting_compiles() as compiles, _status(console) as show:

        def starting(name: str) -> None:
            show(f"{len(results) + 1}/{total} {name}")

        for result in run_checks(task, **options, starting=starting):
            results.append(result)
            if not console.is_terminal:
                console.out(
                    f"{len(results)}/{total} {result.status} {result.name} {result.seconds:.1f} s", highlight=False
                )
    return Report(
        task=task.name,
        results=tuple(results),
        seed=options.get("seed", 0),
        seconds=time.perf_counter() - started,
        programs=compiles.programs,
        versions=versions(),
    )


@contextmanager
def _status(console: Console) -> Iterator[Any]:
    """A function that shows what is being done now; does nothing where there is no terminal."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("validating", spinner="dots") as status:
        yield status.update


SHOWN = ("loss", "accuracy")
"""The metrics of a training step that are shown."""


@contextmanager
def training(console: Console, steps: int, every: int) -> Iterator[Any]:
    """A function `write(step, metrics)` that shows the training: a live line, or a plain line every so many steps."""
    with _status(console) as show:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            shown = "  ".join(f"{name} {metrics[name]:.4f}" for name in SHOWN if name in metrics)
            if not shown:
                return
            line = f"training {step}/{steps}  {shown}"
            show(line)
            if not console.is_terminal and step % every == 0:
                console.out(line, highlight=False)

        yield write
