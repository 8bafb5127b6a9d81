"""What a fault of the benchmark is, and how parts of a task are replaced."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jaxrecipe as jr
from experiments.faults.bases import Base

Plant = Callable[[jr.Task], jr.Task]

CATEGORIES = {
    "data": range(1, 17),
    "loss": range(17, 29),
    "model": range(29, 43),
    "optimizer and step": range(43, 56),
    "evaluation and precision": range(56, 65),
}


@dataclass(frozen=True)
class Fault:
    """One thing that is broken in a healthy set-up.

    Attributes:
        number: its place in the list of 64 faults.
        plant: breaks a task; its docstring says in a sentence what is wrong.
        on: the healthy set-up that it is planted in.
        caught_by: the checks that should catch it ("validate" for what is refused before anything runs).
        words: regular expressions, in lower case; the hint names the cause when one of them is found in it. They were written down
            with the fault, before any result was seen.
        variant: tells faults of one number apart.
    """

    number: int
    plant: Plant
    on: Base
    caught_by: tuple[str, ...]
    words: tuple[str, ...]
    variant: str = ""

    @property
    def name(self) -> str:
        """How tables and `--only` call it."""
        return f"{self.number:02d}{self.variant}_{self.plant.__name__}"

    @property
    def title(self) -> str:
        """What is wrong, in a sentence."""
        return " ".join((self.plant.__doc__ or "").split())

    @property
    def category(self) -> str:
        """Where people make it."""
        return next(name for name, numbers in CATEGORIES.items() if self.number in numbers)

    def make(self, seed: int) -> jr.Task:
        """The broken task."""
        task = self.plant(self.on(seed))
        return task.replace(name=f"{self.name} on {self.on.__name__}")

    def named_in(self, told: str) -> bool:
        """Whether a message names the cause."""
        return any(re.search(word, told.lower()) for word in self.words)


def on_outputs(task: jr.Task, change: Callable[[Any], Any]) -> jr.Task:
    """The task with something done to the model's outputs."""
    apply = task.model.apply

    def changed(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, state = apply(params, state, inputs, train=train, key=key)
        return change(outputs), state

    return task.replace(model=replace(task.model, apply=changed))


def on_train(task: jr.Task, change: Callable[[Any, Any], tuple[Any, Any]]) -> jr.Task:
    """The task with something done to its training data."""
    return task.replace(train=change(*task.train))


def on_test(task: jr.Task, change: Callable[[Any, Any], tuple[Any, Any]]) -> jr.Task:
    """The task with something done to its test data."""
    return task.replace(test=change(*task.test))


def on_both(task: jr.Task, change: Callable[[Any, Any], tuple[Any, Any]]) -> jr.Task:
    """The task with the same done to both splits."""
    return on_test(on_train(task, change), change)
