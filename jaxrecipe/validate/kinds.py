"""Declared kinds of inputs that no input can have."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxrecipe import trees
from jaxrecipe.inputs import kind_fits
from jaxrecipe.task import Task
from jaxrecipe.validate.problem import Problem, shape_of

WANTED = {
    "image": "an image to be [batch, height, width] or [batch, height, width, channels]",
    "sequence": "a sequence to be [batch, time, ...]",
    "tokens": "tokens to be whole numbers [batch, time]",
}


def find(task: Task, stored: Any, prepared: Any) -> Iterator[Problem]:
    """Kinds that fit neither the inputs as stored nor as they enter the model, and paths that are none."""
    if task.inputs is None:
        return
    forms = [{path or "inputs": leaf for path, leaf in trees.named_leaves(tree).items()} for tree in (stored, prepared)]
    paths = list(dict.fromkeys([*forms[0], *forms[1]]))
    if not isinstance(task.inputs, Mapping) and min(map(len, forms)) > 1:
        yield Problem(
            where="task.inputs",
            got=f"one kind, {task.inputs!r}, for the inputs {', '.join(paths)}",
            wanted="the kind of each of them, by path",
            fix=f'Write inputs={{"{paths[0]}": {task.inputs!r}, ...}}; what is left out is guessed.',
        )
        return
    kinds = task.inputs if isinstance(task.inputs, Mapping) else dict.fromkeys(paths, task.inputs)
    if unknown := [path for path in kinds if path not in paths]:
        yield Problem(
            where="task.inputs",
            got=f"kinds of {', '.join(map(repr, unknown))}",
            wanted=f"paths of inputs: {', '.join(map(repr, paths))}",
            fix="Correct the paths; what is left out is guessed.",
        )
    for path, kind in kinds.items():
        leaves = [form[path] for form in forms if path in form]
        if leaves and not any(kind_fits(kind, leaf.shape[1:], leaf.dtype) for leaf in leaves):
            where = "task.inputs" if path == "inputs" else f"task.inputs[{path!r}]"
            yield Problem(
                where=where,
                got=f"{kind!r} for {' and, prepared, '.join(dict.fromkeys(map(shape_of, leaves)))}",
                wanted=WANTED[kind],
                fix="Correct the kind, or leave it out to have it guessed.",
            )
