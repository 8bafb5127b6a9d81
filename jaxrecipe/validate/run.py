"""Everything that can be seen before training, in the order in which one thing needs another."""

import numpy as np

from jaxrecipe.task import Task
from jaxrecipe.validate import arguments, data, kinds, labels, objective, shapes, training, values
from jaxrecipe.validate.problem import InvalidTaskError, Problem


def validate(task: Task) -> list[Problem]:
    """Raise when a task cannot work, else give the warnings; nothing is trained and nothing of the user's is changed.

    Looks at the fields, at the data on the host (whole arrays, or a sample of what has to be read), and at shapes and
    dtypes of everything that the functions of the task make of one batch, by tracing them.

    Returns:
        What works and is probably not meant, each with where, got, wanted and what to do; empty where there is nothing
        odd.

    Raises:
        InvalidTaskError: a `ValueError` that lists everything that is wrong, warnings too.
    """
    found = problems(task)
    if any(problem.severity == "error" for problem in found):
        raise InvalidTaskError(str(task.name), found)
    return found


def problems(task: Task) -> list[Problem]:
    """Everything that is wrong with a task, errors first; the same is not told twice.

    What needs a part that is broken itself is left out: repair that and look again.
    """
    found = list(arguments.find(task))
    broken = {problem.where.split(".")[1].split("[")[0] for problem in found}
    train, more = data.read(task.train, "task.train")
    found += more
    test, more = (None, []) if task.test is None else data.read(task.test, "task.test")
    found += more
    if train is not None:
        found += data.find(train, test, None if "batch_size" in broken else task.batch_size)
        found += _problems_of_functions(task, train, test, broken)
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda problem: problem.severity == "warning")


def _problems_of_functions(task: Task, train: data.Split, test: data.Split | None, broken: set[str]) -> list[Problem]:
    """What is wrong with the functions of a task on its data."""
    if broken & {"prepare", "augment", "model", "policy"}:
        return []
    size = min(train.source.size, 32 if "batch_size" in broken else task.batch_size)
    raw = data.batch_of(train, size)
    traced = shapes.trace(task, raw, size)
    if traced.batch is None:
        return traced.problems
    if "inputs" not in broken:
        traced.problems.extend(kinds.find(task, raw[0], traced.batch[0]))
    _find_parts(traced, task, broken)
    alike = test is not None and data.one_of(test) == data.one_of(train)
    splits = [train] + ([test] if test is not None and alike else [])
    if "target" not in broken:
        for split in splits:
            labels.find_ranges(traced, task, split)
    right = not any(problem.severity == "error" for problem in traced.problems) and not broken
    for split in splits:
        traced.problems.extend(values.find(task, split, runs=right))
    if right and task.has_loss:
        shapes.find_fixed_batch(traced, task, data.batch_of(train, size + 1))
    if right and task.objective is not None:
        objective.find_values(traced, task, train.source.gather(np.arange(size)))
    return traced.problems


def _find_parts(traced: shapes.Traced, task: Task, broken: set[str]) -> None:
    """What is wrong with each part that is of the right kind and has what it needs."""
    shapes.find_inputs(traced)
    if "loss" not in broken and task.has_model and task.has_loss:
        shapes.find_losses(traced, task)
    if "objective" not in broken and task.has_model and task.objective is not None:
        objective.find_costs(traced, task, task.objective)
    if "target" not in broken:
        known = len(traced.problems)
        labels.find_shapes(traced, task)
        # The metrics of a target that does not fit would only say the same again.
        fits = len(traced.problems) == known or task.metrics is not None
        if "metrics" not in broken and fits:
            shapes.find_metrics(traced, task)
    if task.loop is not None and "loop" not in broken and not task.has_model:
        training.find_loop(traced, task.loop)
    if traced.params is None:
        return
    if "optimizer" not in broken and task.has_optimizer:
        training.find_optimizer(traced, task)
    if "frozen" not in broken:
        training.find_frozen(traced, task)
    if "capacities" not in broken:
        training.find_capacities(traced, task)
    if task.loop is not None and "loop" not in broken:
        training.find_loop(traced, task.loop)
