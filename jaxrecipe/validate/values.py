"""NaN and infinity in the data, where the task does not cope with them."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe import trees
from jaxrecipe.objective import mean_cost, objective_of
from jaxrecipe.task import Task
from jaxrecipe.validate.data import Split, nonfinite_rows
from jaxrecipe.validate.problem import Problem

PROBED = 4
"""Examples with NaN that are put through the task, to see whether it copes with them."""


def find(task: Task, split: Split, *, runs: bool) -> Iterator[Problem]:
    """NaN or infinity in a split. A task that masks or replaces them is fine, which is tried when its functions run at
    all.
    """
    for side, rows in nonfinite_rows(split).items():
        if not rows.size or (runs and task.has_costs and _copes(task, split, rows[:PROBED])):
            continue
        scope = f"{len(split.rows)}{'' if split.whole else ' sampled'}"
        yield Problem(
            severity="error" if task.has_model else "warning",  # a step of the user's own may mask them
            where=f"{split.where}, {side}",
            got=f"NaN or infinity in {rows.size} of {scope} examples, first in example {rows[0]}",
            wanted="finite numbers, or a task whose loss and gradients stay finite on them",
            fix="Drop these examples, or replace or mask the values in prepare.",
            code="data/not-finite" if side.startswith("inputs") else "data/labels-not-finite",
        )


def _copes(task: Task, split: Split, rows: np.ndarray) -> bool:
    """Whether loss and gradients are finite on these examples, with untrained parameters."""
    batch = jax.tree.map(jnp.asarray, split.source.gather(rows))
    inputs, targets = task.prepare(*batch) if task.prepare else batch
    objective = objective_of(task)

    @jax.jit
    def measured(key: jax.Array) -> jax.Array:
        params, state = task.model.init(key, inputs)

        def loss(params: object) -> jax.Array:
            return mean_cost(objective(params, state, inputs, targets, train=False, key=key))

        return trees.all_finite(jax.value_and_grad(loss)(params))

    return bool(measured(jax.random.key(0)))
