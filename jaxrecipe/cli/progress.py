"""What is going on, on standard error: a live line on a terminal, one plain line a finished check when piped."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from jaxrecipe.report.result import Result


@contextmanager
def checking(total: int, console: Console) -> Iterator[Callable[[str, Result | None], None]]:
    """What `recipe.check` may tell how far it is: a live line, or a plain line a finished check."""
    done = 0
    with _status(console) as show:

        def watch(name: str, result: Result | None) -> None:
            nonlocal done
            if result is None:
                show(f"{done + 1}/{total} {name}")
                return
            done += 1
            if not console.is_terminal:
                console.out(f"{done}/{total} {result.status} {name} {result.seconds:.1f} s", highlight=False)

        yield watch


@contextmanager
def _status(console: Console) -> Iterator[Any]:
    """A function that shows what is being done now; does nothing where there is no terminal."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("validating", spinner="dots") as status:
        yield status.update


SHOWN = {"loss": ".4f", "accuracy": ".4f", "loss_scale": "g", "skipped": "g"}
"""The metrics of a training step that are shown, those that there are, and how."""


@contextmanager
def training(console: Console, steps: int, every: int) -> Iterator[Any]:
    """A function `write(step, metrics)` that shows the training: a live line, or a plain line every so many steps."""
    with _status(console) as show:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            shown = "  ".join(f"{name} {metrics[name]:{form}}" for name, form in SHOWN.items() if name in metrics)
            if not shown:
                return
            line = f"training {step}/{steps}  {shown}"
            show(line)
            if not console.is_terminal and step % every == 0:
                console.out(line, highlight=False)

        yield write
