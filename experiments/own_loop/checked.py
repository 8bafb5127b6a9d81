"""The project of `project.py` as a task: five short functions say how to call what is there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optax

import jaxrecipe as jr
from experiments.own_loop import project
from experiments.own_loop.project import State
from jaxrecipe.data import digits


def step(state: State, images: Any, labels: Any, key: Any) -> tuple[State, dict[str, Any]]:
    """The project's step draws from its own generator, so the key is not needed."""
    del key
    state, loss = project.train_step(state, images, labels)
    return state, {"loss": loss}


def evaluate(state: State, images: Any, labels: Any, batch_size: int) -> dict[str, float]:
    """Give the two numbers the names of the task's loss and metric."""
    loss, accuracy = project.evaluate(state, images, labels, batch_size)
    return {"loss": loss, "accuracy": accuracy}


loop = jr.Loop(
    init=project.create_state,
    step=step,
    variables=lambda state: (state.params, {"batch_stats": state.batch_stats}),
    evaluate=evaluate,
    predict=project.logits_of,
    save=lambda state, directory: project.save(state, Path(directory) / "state.msgpack"),
    restore=lambda directory, template: project.restore(Path(directory) / "state.msgpack", template),
)


def task() -> jr.Task:
    """The project, on real digits."""
    (images, labels), (test_images, test_labels) = digits()
    return jr.Task(
        name="a loop of its own",
        model=jr.linen(project.net),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=project.optimizer,
        train=(project.normalise(images), labels),
        test=(project.normalise(test_images), test_labels),
        target=jr.Classes(10),
        batch_size=project.BATCH_SIZE,
        loop=loop,
    )


# Three edits that a tired afternoon could make to project.py. None raises; each trains.


def batch_means(state: State, images: Any, labels: Any, batch_size: int) -> dict[str, float]:
    """`evaluate` keeps a list of what each batch scores and returns its mean."""
    starts = range(0, len(images), batch_size)
    scored = [
        project.evaluate(state, images[i : i + batch_size], labels[i : i + batch_size], batch_size) for i in starts
    ]
    loss, accuracy = np.mean(scored, axis=0)
    return {"loss": float(loss), "accuracy": float(accuracy)}


def fresh_momentum(state: State, images: Any, labels: Any, key: Any) -> tuple[State, dict[str, Any]]:
    """`train_step` returns `optimizer.init(params)`, the line that a refactoring left behind."""
    state, metrics = step(state, images, labels, key)
    return replace(state, opt_state=project.optimizer.init(state.params)), metrics


def weights_only(directory: str, template: State) -> State:
    """`restore` takes the parameters and the statistics, as for inference."""
    state = loop.restore(directory, template) if loop.restore else template
    return replace(template, params=state.params, batch_stats=state.batch_stats)


BUGS: dict[str, Callable[[], jr.Loop]] = {
    "batch_means": lambda: replace(loop, evaluate=batch_means),
    "fresh_momentum": lambda: replace(loop, step=fresh_momentum),
    "weights_only": lambda: replace(loop, restore=weights_only),
}


def with_bug(name: str) -> jr.Task:
    """The project with one of the edits.

    Raises:
        KeyError: there is none of that name.
    """
    return task().replace(loop=BUGS[name](), name=f"a loop of its own, {name}")
