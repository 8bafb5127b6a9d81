"""The lines of Python that would enable the checks which a watched step alone could not have."""

import re
from collections.abc import Sequence
from typing import Any

import jax

from jaxrecipe.cli.watching import Watched
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Status

MOST_CLASSES = 1000
"""Whole numbers up to which targets are taken for classes in the example."""
MOST_NAMED = 2
"""Checks that a line names."""
DECLARED = re.compile(r"(?:Task|Loop)\(([a-z_]+)=|(target)=")
"""How the summary of a skipped check names what would enable it."""
OF_LOOPS = {
    "evaluate": ("my_evaluate", "my_evaluate(state, inputs, targets, batch_size) -> {name: number}"),
    "predict": ("my_predict", "my_predict(state, inputs) -> outputs"),
    "batches": ("my_batches", "my_batches(epoch) -> batches (inputs, targets)"),
    "save": ("my_save", "my_save(state, directory)"),
    "restore": ("my_restore", "my_restore(directory, template) -> state"),
}
"""What a loop may have: an example of its value, and a word on it."""
OF_TASKS = {
    "loss": ("my_loss", "my_loss(outputs, targets) -> [batch]"),
    "optimizer": ("optimizer", "of optax"),
    "test": ("(x_test, y_test)", "that is not trained on"),
    "prepare": ("my_prepare", "my_prepare(inputs, targets) -> (inputs, targets)"),
}
"""The same of a task."""


def missing(report: Report) -> dict[str, list[str]]:
    """What was not declared, in the order of the recipe, and the checks that each of it would enable."""
    found: dict[str, list[str]] = {}
    for result in report.results:
        if result.status is Status.SKIP:
            named = dict.fromkeys(one or other for one, other in DECLARED.findall(result.summary))
            for name in [*named, "restore"] if "save" in named else named:
                found.setdefault(name, []).append(result.name)
    return found


def enabling(report: Report, watched: Watched) -> str:
    """Python that declares what was missing, with the names of the user's step; empty where nothing was."""
    wanted = missing(report)
    if not wanted:
        return ""
    name, state = watched.step.recording.name.rsplit(".")[-1], _state(watched)
    fields = [_line(one, *_field(one, watched), checks) for one, checks in wanted.items() if one not in OF_LOOPS]
    loops = [_line(one, *OF_LOOPS[one], checks) for one, checks in wanted.items() if one in OF_LOOPS]
    count = len({check for checks in wanted.values() for check in checks})
    lines = [
        f"{count} checks were skipped for want of what a step alone does not tell. To enable them:",
        "",
        "    import jaxrecipe as jr",
        "",
        f"    task = jr.Task.from_step({name}, {state}, batches)",
        *(["    task = task.replace(", *(f"        {line}" for line in fields), "    )"] if fields else []),
    ]
    if loops:
        lines += [
            "    loop = dataclasses.replace(",
            "        task.loop,",
            *(f"        {line}" for line in loops),
            "    )",
        ]
        lines += ["    task = task.replace(loop=loop)"]
        lines.insert(2, "    import dataclasses")
    return "\n".join(["", *lines, "    print(jr.check(task))", ""])


def _field(name: str, watched: Watched) -> tuple[str, str]:
    """How a field of the task is declared, and a word on it."""
    if name == "model":
        return _model(watched)
    if name == "target":
        return _target(watched.task.train[1])
    if name == "optimizer" and any(hasattr(piece, "tx") for piece in _pieces(watched)):
        return f"{_state(watched)}.tx", "of optax"
    return OF_TASKS.get(name, ("...", "see jr.Task"))


def _line(name: str, value: str, about: str, checks: Sequence[str]) -> str:
    more = f" and {len(checks) - MOST_NAMED} more" if len(checks) > MOST_NAMED else ""
    return f"{name}={value},  # {about}; for {', '.join(checks[:MOST_NAMED])}{more}"


def _pieces(watched: Watched) -> list[Any]:
    """The pieces of the state that are no Flax NNX objects."""
    recording, roles = watched.step.recording, watched.step.roles
    given = recording.calls[0].given
    return [given[i] for i in (roles.state if roles else ()) if i in given]


def _state(watched: Watched) -> str:
    """The state as from_step takes it, by the names of the step's parameters."""
    recording, roles = watched.step.recording, watched.step.roles
    names = [recording.slots[i].name for i in (roles.state if roles else ())]
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


def _model(watched: Watched) -> tuple[str, str]:
    """How the model is declared, and a word on it."""
    if watched.step.recording.graph is not None:
        return "jr.nnx(model)", "the nnx.Module"
    modules = {
        type(node).__module__.partition(".")[0] for piece in _pieces(watched) for node in (piece, *_fields(piece))
    }
    if "equinox" in modules or any(_is_equinox(piece) for piece in _pieces(watched)):
        return "jr.equinox(model)", "the eqx.Module"
    if "flax" in modules:
        return "jr.linen(module)", "the nn.Module"
    return "jr.Model(init, apply)", "or jr.linen(module), jr.nnx(model), jr.equinox(model)"


def _fields(piece: Any) -> list[Any]:
    return list(vars(piece).values()) if hasattr(piece, "__dict__") else list(piece) if isinstance(piece, tuple) else []


def _is_equinox(piece: Any) -> bool:
    return any(kind.__module__.partition(".")[0] == "equinox" for kind in type(piece).__mro__)


def _target(targets: Any) -> tuple[str, str]:
    """How targets like these are probably declared, and a word on it."""
    leaves = jax.tree.leaves(targets)
    if len(leaves) != 1:
        return "...", "what is predicted: jr.Classes(10), jr.Values(), ...; a dict of these for several"
    (leaf,) = leaves
    if leaf.dtype.kind in "iu" and leaf.ndim == 1 and leaf.min() >= 0 and leaf.max() < MOST_CLASSES:
        return f"jr.Classes({int(leaf.max()) + 1})", "if these are all classes"
    return (
        ("jr.Values()", "if these are numbers to come near to")
        if leaf.dtype.kind == "f"
        else ("...", "what is predicted")
    )
