"""What is wrong with a task, in four parts: where, what was got, what was wanted, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from jaxrecipe import trees

PyTree = Any
LONGEST = 300
"""Characters of a foreign error message that are passed on."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a task.

    Attributes:
        where: the field, split or function: "task.loss", "task.train, inputs/image".
        got: what is there.
        wanted: what should be.
        fix: what to do, a whole sentence.
        code: the row of the table of causes that it is; empty where there is none.
        severity: "error" cannot work or is certainly a mistake; "warning" works and is probably not meant.
    """

    where: str
    got: str
    wanted: str
    fix: str
    code: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.where}: got {self.got}; wanted {self.wanted}. {self.fix}"


class InvalidTaskError(ValueError):
    """A task that cannot work; `problems` holds everything that is wrong with it, errors and warnings."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(name, tuple(problems))
        self.name = name
        self.problems = tuple(problems)

    def __str__(self) -> str:
        count = sum(problem.severity == "error" for problem in self.problems)
        title = f"task {self.name!r} cannot work: {count} problem{'s' if count != 1 else ''}"
        return "\n".join([title, *(f"  {_numbered(i, one)}" for i, one in enumerate(self.problems, 1))])


def _numbered(number: int, problem: Problem) -> str:
    return f"{number}. {'(warning) ' if problem.severity == 'warning' else ''}{problem}"


def kind_of(value: Any) -> str:
    """A value in a few words: its type, its shape, or itself when it is short."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if trees.is_array(value):
        return f"an array {shape_of(value)}"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return "a function" if name == "function" else f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def shape_of(leaf: Any) -> str:
    """Dtype and shape, as in `float32[3, 4]`."""
    return f"{np.dtype(leaf.dtype).name if isinstance(leaf.dtype, np.dtype) else leaf.dtype}{list(leaf.shape)}"


def described(tree: PyTree) -> str:
    """Dtypes and shapes of a tree of arrays, by path; the first six of them."""
    named = trees.named_leaves(tree)
    if list(named) == [""]:
        return shape_of(named[""])
    told = [f"{path}: {shape_of(leaf)}" for path, leaf in named.items()]
    return "{" + ", ".join(told[:6]) + (f", and {len(told) - 6} more" if len(told) > 6 else "") + "}"


def differences(before: PyTree, after: PyTree, *, dtypes: bool = True) -> list[str]:
    """How one tree of arrays differs from another in structure, shapes and dtypes, one line a leaf; "" ones are the
    tree itself.
    """
    old, new = trees.named_leaves(before), trees.named_leaves(after)
    lines = [f"{path or 'it'} is gone" for path in old if path not in new]
    lines += [f"{path or 'a leaf'} is new" for path in new if path not in old]
    for path in [path for path in old if path in new]:
        same = old[path].shape == new[path].shape and (not dtypes or old[path].dtype == new[path].dtype)
        if not same:
            lines.append(f"{path or 'it'} was {shape_of(old[path])} and is {shape_of(new[path])}")
    if not lines and not trees.same_form(before, after):
        lines.append(f"the containers differ: {jax.tree.structure(before)} and {jax.tree.structure(after)}"[:LONGEST])
    return lines


def listed(lines: Sequence[str], most: int = 4) -> str:
    """The first few of several things, and how many more there are."""
    return "; ".join(lines[:most]) + (f"; and {len(lines) - most} more" if len(lines) > most else "")


def nothing_returned(where: str, wanted: str) -> Problem:
    """A function that gives None."""
    fix = "The function returns nothing: it may lack its `return`."
    return Problem(where=where, got="None", wanted=wanted, fix=fix)


def message_of(error: BaseException) -> str:
    """An exception on one line, shortened."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:LONGEST]}{'...' if len(text) > LONGEST else ''}"
