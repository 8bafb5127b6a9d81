"""What a fault of the catalogue is."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxrecipe.task import Task

Plant = Callable[[Task], Task]
"""Breaks one thing in a healthy task, which itself stays as it was."""
Base = Callable[[int], Task]
"""Makes the healthy set-up of a seed."""

CATEGORIES = {
    "data": range(1, 17),
    "loss": range(17, 29),
    "model": range(29, 43),
    "optimizer and step": range(43, 56),
    "evaluation and precision": range(56, 65),
    "reported by users": range(65, 71),
}
"""Where people make the faults, by number; those that users have reported in public since stand together."""


@dataclass(frozen=True)
class Fault:
    """One thing that is broken in a healthy set-up.

    Attributes:
        number: its place in the list of 64 faults.
        plant: breaks a task; its docstring says in a sentence what is wrong.
        on: the healthy set-up that it is planted in.
        caught_by: the checks that should catch it ("validate" for what is refused before anything runs).
        causes: the codes of the table of causes that truly name this fault, the right one first. They are written down
            from the titles in the table, before any result is seen.
        variant: tells faults of one number apart.
    """

    number: int
    plant: Plant
    on: Base
    caught_by: tuple[str, ...]
    causes: tuple[str, ...]
    variant: str = ""

    @property
    def name(self) -> str:
        """How tables and `--only` call it."""
        return f"{self.number:02d}{self.variant}_{self.plant.__name__}"

    @property
    def title(self) -> str:
        """What is wrong, in a sentence."""
        return sentence(self.plant)

    @property
    def category(self) -> str:
        """Where people make it."""
        return next(name for name, numbers in CATEGORIES.items() if self.number in numbers)

    def make(self, seed: int) -> Task:
        """The broken task."""
        task = self.plant(self.on(seed))
        return task.replace(name=f"{self.name} on {self.on.__name__}")


def sentence(plant: Plant) -> str:
    """What a plant breaks: its docstring on one line."""
    return " ".join((plant.__doc__ or "").split())
