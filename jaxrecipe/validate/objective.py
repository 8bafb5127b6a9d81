"""What is wrong with an objective: the form of what it returns, and values that nothing can be trained by."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.objective import mean_cost, objective_of
from jaxrecipe.parts import Costs, Objective
from jaxrecipe.task import Task
from jaxrecipe.validate.problem import Problem, described, differences, kind_of, listed, shape_of
from jaxrecipe.validate.shapes import TRACEABLE, Traced, per_example, strong

WANTED = "jr.Costs(losses=..., ...)"
RESERVED = ("loss", "grad_norm", "param_norm", "update_norm", "count", "step", "seconds")
"""What a training step and `fit` report themselves."""


def find_costs(traced: Traced, task: Task, objective: Objective) -> None:
    """Check what the objective returns in training and in evaluation; the first mode that is wrong is told."""
    known = len(traced.problems)
    for train, batch in ((True, traced.augmented or traced.batch), (False, traced.batch)):
        if traced.params is None or len(traced.problems) > known:
            return
        where = f"task.objective, train={train}"
        costs = _costs(traced, objective, where, batch, train=train)
        if costs is not None:
            _check_parts(traced, where, costs)
            _check_state(traced, where, costs)
            _check_names(traced, task, where, costs)


def _costs(traced: Traced, objective: Objective, where: str, batch: Any, *, train: bool) -> Costs | None:
    """Shapes of what the objective returns, or None; traced without its policy, which would wrap what it returns."""
    returned: list[Any] = []

    def run(*arguments: Any) -> Any:
        returned.append(objective(*arguments, train=train, key=jax.random.key(0)))
        return jax.tree.map(jnp.asarray, returned[-1]) if isinstance(returned[-1], Costs) else 0

    told = f"inputs {described(batch[0])} and targets {described(batch[1])}"
    fix = f"It got {told}. {TRACEABLE}"
    shapes = traced.attempt(where, run, traced.params, traced.state, *batch, wanted=WANTED, fix=fix)
    if shapes is None:
        return None
    fix = "End it with `return jr.Costs(losses=losses)`, losses being one number an example."
    right = isinstance(shapes, Costs)
    return shapes if traced.expect(right, where, got=kind_of(returned[0]), wanted=WANTED, fix=fix) else None


def _check_parts(traced: Traced, where: str, costs: Costs) -> None:
    """Losses and weights are one number an example; extra terms and aux are scalars."""
    per_example(traced, f"{where}, losses", costs.losses, costs.outputs, costs.losses, trained=True)
    size = traced.size
    if costs.weights is not None:
        right = trees.is_array(costs.weights) and costs.weights.shape == (size,)
        fix = "Give each example one weight: the number of its tokens (mask.sum(axis=1)), or the weight of its class."
        got, wanted = described(costs.weights), f"float32[{size}], one weight an example"
        traced.expect(right, f"{where}, weights", got=got, wanted=wanted, fix=fix)
    for part, fix in (
        ("extra", "A term of each example belongs into `losses`; extra terms belong to no example."),
        ("aux", "Reduce each to one number a batch, such as its mean."),
    ):
        given = getattr(costs, part)
        wrong = [f"{path or part}: {shape_of(leaf)}" for path, leaf in trees.named_leaves(given).items() if leaf.shape]
        wanted = "a scalar, or scalars by name"
        traced.expect(not wrong, f"{where}, {part}", got=listed(wrong), wanted=wanted, fix=fix)
    for part in ("extra", "aux"):
        given = getattr(costs, part)
        flat = given is None or (isinstance(given, Mapping) and all(map(trees.is_array, given.values())))
        right = flat or (part == "extra" and trees.is_array(given))
        fix = f'Write {part}={{"penalty": penalty}}.'
        wanted = "a mapping from names to scalars" + (", or a scalar" if part == "extra" else "")
        traced.expect(right, f"{where}, {part}", got=kind_of(given), wanted=wanted, fix=fix)


def _check_state(traced: Traced, where: str, costs: Costs) -> None:
    """A model's state must come back, in the form in which it went in."""
    if costs.model_state is None and not jax.tree.leaves(traced.state):
        return
    lines = differences(traced.state, strong(costs.model_state))
    traced.expect(
        not lines,
        f"{where}, model_state",
        got=f"a state of another form: {listed(lines)}" if costs.model_state is not None else "None",
        wanted="the structure, shapes and dtypes of the state that it was given",
        fix="Return what model.apply gave (batch statistics), or the state as it came: model_state=model_state.",
    )


def _check_names(traced: Traced, task: Task, where: str, costs: Costs) -> None:
    """What is reported beside the loss must have names of its own, and metrics need outputs."""
    extra = list(costs.extra) if isinstance(costs.extra, Mapping) else []
    aux = list(costs.aux) if isinstance(costs.aux, Mapping) else []
    names, taken = [*extra, *aux], {*RESERVED, *task.all_metrics}
    twice = sorted({name for name in names if name in taken or names.count(name) > 1})
    fix = "These names are taken by the loss, the norms and the metrics that a step reports, or by another term."
    wanted = "a name of its own for each extra term and each number of aux"
    traced.expect(not twice, f"{where}, aux", got=f"{', '.join(twice)} again", wanted=wanted, fix=fix)
    right = not task.metrics or costs.outputs is not None
    got = "no outputs, but metrics that read them"
    fix = "Return jr.Costs(..., outputs=outputs), or leave out Task(metrics=...)."
    traced.expect(right, f"{where}, outputs", got=got, wanted="outputs for the metrics", fix=fix)


def find_values(traced: Traced, task: Task, raw: tuple[Any, Any]) -> None:
    """Costs of the untrained model on a batch that nothing can be trained by; called when all forms are right."""
    batch = jax.tree.map(jnp.asarray, raw)
    inputs, targets = task.prepare(*batch) if task.prepare else batch
    objective = objective_of(task)

    @jax.jit
    def measured(key: jax.Array) -> tuple[Costs, jax.Array]:
        params, state = task.model.init(key, inputs)
        costs = objective(params, state, inputs, targets, train=True, key=key)
        return Costs(losses=costs.losses, weights=costs.weights, extra=costs.extra), mean_cost(costs)

    costs, mean = jax.tree.map(np.asarray, measured(jax.random.key(0)))
    where = "task.objective"
    if costs.weights is not None:
        odd = ~(costs.weights >= 0)
        fix = "Put a sign or an importance weight into `losses`; weights say how much an example counts."
        got = (
            f"a weight of {costs.weights[odd].min(initial=0)} in {odd.sum()} of {odd.size} examples of the first batch"
        )
        traced.expect(not odd.any(), f"{where}, weights", got=got, wanted="weights of 0 or more", fix=fix)
    if np.isfinite(mean):
        return
    counted = np.isfinite(costs.losses) if costs.weights is None else np.isfinite(costs.losses) | (costs.weights == 0)
    terms = [path or "extra" for path, term in trees.named_leaves(costs.extra).items() if not np.isfinite(term)]
    told = [f"{(~counted).sum()} of {counted.size} losses"] if not counted.all() else []
    traced.problems.append(
        Problem(
            where=where,
            got=f"a cost of {mean} of the first batch with untrained parameters: not finite are "
            f"{listed([*told, *terms]) or 'the weights'}",
            wanted="a finite number",
            fix="Look for a log, a square root or a division of zero, and give what is masked out weight 0.",
            code="loss/not-finite",
        )
    )
