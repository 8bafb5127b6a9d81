"""What is wrong with what trains: the optimizer, the user's own loop, frozen paths and the ladder of capacities."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.parts import Loop, Model
from jaxrecipe.precision.policy import apply_policy, storage_params
from jaxrecipe.task import Task
from jaxrecipe.validate.problem import (
    Problem,
    PyTree,
    described,
    differences,
    kind_of,
    listed,
    message_of,
    nothing_returned,
)
from jaxrecipe.validate.returns import returns_nothing
from jaxrecipe.validate.shapes import TRACEABLE, Traced, strong


def find_optimizer(traced: Traced, task: Task) -> None:
    """The optimizer must take the parameters, and keep the form of its state and of them."""
    params = strong(jax.eval_shape(lambda params: storage_params(task.precision, params), traced.params))
    told = f"It got parameters {described(params)}."
    fix = f"{told} Labels and masks (optax.multi_transform, optax.masked) must have the structure of the parameters."
    where, wanted = "task.optimizer.init", "a state for these parameters"
    state = None
    if not _keeps_no_state(task, params):
        state = traced.attempt(where, task.optimizer.init, params, wanted=wanted, fix=fix)
        if state is None:
            return
    where, wanted = "task.optimizer.update", "(updates, state) from (gradients, state, params)"
    fix = f"{told} It is called as update(gradients, state, params), with nothing else."
    with jax.numpy_dtype_promotion("standard"):  # as the training step does: optax mixes floats and counters itself
        given = traced.attempt(where, task.optimizer.update, params, state, params, wanted=wanted, fix=fix)
    if given is None:
        return
    updates, after = given
    lines = differences(params, updates, dtypes=False)
    fix = "Every parameter needs an update of its own shape: to leave one as it is, use optax.set_to_zero."
    wanted = "updates of the structure and shapes of the parameters"
    traced.expect(not lines, where, got=f"updates that do not fit: {listed(lines)}", wanted=wanted, fix=fix)
    lines = differences(state, after)
    fix = (
        "Make the state of its final form and dtypes in init; with half-precision parameters, keep the moments in "
        "float32."
    )
    wanted = "the structure, shapes and dtypes of the state that it was given"
    traced.expect(not lines, where, got=f"a state of another form: {listed(lines)}", wanted=wanted, fix=fix)


def _keeps_no_state(task: Task, params: PyTree) -> bool:
    """Whether an optimizer written by hand gives None for its state and works with it."""
    try:
        with jax.numpy_dtype_promotion("standard"):
            state = jax.eval_shape(task.optimizer.init, params)
            return state is None and jax.eval_shape(task.optimizer.update, params, None, params)[1] is None
    except Exception:
        return False


def find_frozen(traced: Traced, task: Task) -> None:
    """Every frozen pattern must fit a parameter."""
    paths = trees.paths(traced.params)
    idle = [pattern for pattern in task.frozen if not any(trees.matches(path, pattern) for path in paths)]
    fix = f"The paths are {', '.join(paths[:8])}{', ...' if len(paths) > 8 else ''}."
    wanted = "patterns that fit at least one parameter each"
    traced.expect(not idle, "task.frozen", got=f"{', '.join(map(repr, idle))}, which fits none", wanted=wanted, fix=fix)


def find_capacities(traced: Traced, task: Task) -> None:
    """Every model of the ladder must give outputs like those of the model."""
    for index, model in enumerate(task.capacities):
        where = f"task.capacities[{index}]"
        outputs = _outputs(traced, task, model, where)
        if outputs is None or traced.evaluated is None:
            continue
        lines = differences(traced.evaluated, outputs)
        wanted = f"outputs like those of task.model: {described(traced.evaluated)}"
        fix = "Change the width or depth of the model, not what it gives."
        traced.expect(not lines, where, got=f"other outputs: {listed(lines)}", wanted=wanted, fix=fix)


def _outputs(traced: Traced, task: Task, model: Model, where: str) -> Any:
    """Outputs of a model in evaluation, or None."""
    apply = apply_policy(model.apply, task.precision)

    def run(key: Any, inputs: PyTree) -> PyTree:
        params, state = model.init(key, inputs)
        return apply(params, state, inputs, train=False, key=None)[0]

    inputs = traced.batch[0]
    fix = f"It got inputs {described(inputs)}. {TRACEABLE}"
    return traced.attempt(where, run, jax.random.key(0), inputs, wanted="a model for the task's inputs", fix=fix)


ON_THE_HOST = {
    "evaluate": "a mapping of numbers, {name: number}, from (state, inputs, targets, batch_size)",
    "restore": "a state of the form of the template, from (directory, template)",
}
"""Functions of a loop that are never traced, and what they must return."""


def find_loop(traced: Traced, loop: Loop) -> None:
    """The user's own loop, as far as it can be traced: code that runs on the host is left for when it runs.

    Its variables are compared with those of the model where there is one.
    """
    if loop.batches is not None:
        _check_batches(traced, loop.batches)
    state = _looped(traced, "task.loop.init", loop.init, jax.random.key(0), wanted="a state from a key")
    if state is None:
        return
    wanted = "a pair (params, model_state) from the state"
    variables = _looped(traced, "task.loop.variables", loop.variables, state, wanted=wanted)
    if variables is not None and traced.params is not None:
        _check_variables(traced, variables)
    batch = traced.augmented or traced.batch
    wanted = "a pair (state, metrics) from (state, inputs, targets, key)"
    given = _looped(traced, "task.loop.step", loop.step, state, *batch, jax.random.key(0), wanted=wanted)
    if given is not None:
        _check_step(traced, state, given)
    if loop.predict is not None and traced.evaluated is not None:
        wanted = f"outputs like those of task.model: {described(traced.evaluated)}"
        outputs = _looped(traced, "task.loop.predict", loop.predict, state, traced.batch[0], wanted=wanted)
        known = None not in (outputs, traced.evaluated)
        lines = differences(traced.evaluated, outputs, dtypes=False) if known else []  # rounded as the loop likes
        fix = "Both must be the same network with the same output."
        traced.expect(not lines, "task.loop.predict", got=f"other outputs: {listed(lines)}", wanted=wanted, fix=fix)
    for name, wanted in ON_THE_HOST.items():
        function = getattr(loop, name)
        if function is not None and returns_nothing(function):
            traced.problems.append(nothing_returned(f"task.loop.{name}", wanted))


def _check_batches(traced: Traced, batches: Callable[[int], Any]) -> None:
    """The first batch that the user's loader hands out must be a pair with one leading size."""
    where, wanted = "task.loop.batches(0)", "an iterable of pairs (inputs, targets), each with one leading size"
    fix = "Write batches=lambda epoch: my_loader(seed=epoch), a new iterable at each call."
    try:
        first = next(iter(batches(0)), None)
    except Exception as error:
        traced.problems.append(Problem(where=where, got=message_of(error), wanted=wanted, fix=fix))
        return
    pair = isinstance(first, tuple | list) and len(first) == 2
    if not traced.expect(pair, where, got=f"{kind_of(first)} as the first batch", wanted=wanted, fix=fix):
        return
    try:
        trees.leading_size(jax.tree.map(np.asarray, first))
    except (TypeError, ValueError) as error:
        traced.problems.append(Problem(where=where, got=message_of(error), wanted=wanted, fix=fix))


def _looped(traced: Traced, where: str, function: Any, *arguments: Any, wanted: str) -> Any:
    """Shapes of what a function of the loop gives, or None; that it cannot be traced is no problem."""
    try:
        given = strong(jax.eval_shape(function, *arguments))
        if given is None:
            traced.problems.append(nothing_returned(where, wanted))
        return given
    except Exception as error:
        if _runs_on_the_host(error):
            if returns_nothing(function):
                traced.problems.append(nothing_returned(where, wanted))
            return None
        told = ", ".join(described(argument) for argument in arguments if jax.tree.leaves(argument))[:600]
        problem = Problem(
            where=where, got=message_of(error), wanted=wanted, fix=f"It got {told}. Make it fit, or the task."
        )
        traced.problems.append(problem)
        return None


def _runs_on_the_host(error: Exception) -> bool:
    """Whether a function failed because values were abstract, rather than because it is wrong."""
    if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError | jax.errors.UnexpectedTracerError):
        return True
    wrong = (TypeError, ValueError, KeyError, AttributeError, IndexError)
    return not isinstance(error, wrong) or "valid JAX type" in str(error) or "Tracer" in str(error)


def _check_variables(traced: Traced, variables: Any) -> None:
    where, wanted = "task.loop.variables", "a pair (params, model_state) in the form that task.model.apply takes"
    right = isinstance(variables, tuple | list) and len(variables) == 2
    fix = "Return `params, model_state`, with {} when there is no state."
    if not traced.expect(right, where, got=f"{kind_of(variables)}: {described(variables)}", wanted=wanted, fix=fix):
        return
    lines = differences(
        {"params": traced.params, "state": traced.state}, dict(zip(("params", "state"), variables, strict=True))
    )
    fix = "The loop and task.model must hold the same network; the checks run both."
    traced.expect(not lines, where, got=f"variables of another form: {listed(lines)}", wanted=wanted, fix=fix)


def _check_step(traced: Traced, state: PyTree, given: Any) -> None:
    where, wanted = "task.loop.step", "a pair (state, metrics), metrics a mapping of scalars"
    right = isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Mapping)
    got = f"{kind_of(given)}: {described(given)}"
    if not traced.expect(right, where, got=got, wanted=wanted, fix='Return `state, {"loss": loss}`.'):
        return
    lines = differences(state, given[0])
    fix = (
        "A state that changes its form compiles anew at every step and cannot be saved: make it of its final form "
        "in init."
    )
    same = "the structure, shapes and dtypes of the state that it was given"
    traced.expect(not lines, where, got=f"a state of another form: {listed(lines)}", wanted=same, fix=fix)
    wide = [f"{name}: {described(value)}" for name, value in given[1].items() if getattr(value, "shape", None) != ()]
    fix = "Reduce each metric to one number a step, such as its mean."
    traced.expect(not wide, where, got=f"metrics {listed(wide)}", wanted=wanted, fix=fix)
