"""Training steps alone, without their model, loss and optimizer: healthy ones, and faults of their kind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.catalogue import bases
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.own_loop import batches, own_loop
from jaxrecipe.task import Task


def bare(task: Task, **parts: Any) -> Task:
    """The step of a loop by hand around a task, its first state and its batches, and nothing else.

    Args:
        task: whose training data are arrays.
        parts: of the loop that are given another way, see `own_loop`.
    """
    loop = own_loop(task, **parts)

    def step(state: Any, batch: Any, key: Any) -> Any:
        inputs, targets = batch
        return loop.step(state, inputs, targets, key)

    inputs, targets = task.train
    order = np.random.default_rng(5).permutation(len(jax.tree.leaves(targets)[0]))
    mixed = [jax.tree.map(lambda leaf: leaf[order], side) for side in (inputs, targets)]
    given = batches(mixed[0], mixed[1], task.batch_size)
    prepared = [jax.tree.map(np.asarray, task.prepare(*batch)) if task.prepare else batch for batch in given[:-1]]
    made = Task.from_step(jax.jit(step), loop.init(jax.random.key(0)), prepared)
    return made.replace(name=f"{task.name}, step alone")


def bare_batch_norm(seed: int) -> Task:
    """The step alone of the ConvNet with BatchNorm."""
    return bare(bases.convnet(seed))


def bare_dropout(seed: int) -> Task:
    """The step alone of an MLP with dropout, whose keys come from outside."""
    return bare(bases.dropout(seed))


def bare_contrastive(seed: int) -> Task:
    """The step alone of pairs of views, contrasted with the rest of their batch."""
    return bare(bases.contrastive(seed))


def bare_frozen(seed: int) -> Task:
    """The step alone of a classifier on a backbone that is frozen, which is not declared."""
    return bare(bases.frozen_backbone(seed))


def rate_huge_alone(task: Task) -> Task:
    """A step alone whose learning rate is a thousand times too high."""
    return bare(task, optimizer=optax.sgd(100.0))


def rate_tiny_alone(task: Task) -> Task:
    """A step alone whose learning rate is a hundred thousand times too low."""
    return bare(task, optimizer=optax.adam(1e-8))


def updates_thrown_away_alone(task: Task) -> Task:
    """A step alone that returns the parameters that it was given."""
    return bare(task, after=lambda old, new: {**new, "params": old["params"]})


def uphill_alone(task: Task) -> Task:
    """A step alone that subtracts the updates in place of adding them."""
    return bare(task, apply_updates=lambda params, updates: jax.tree.map(jnp.subtract, params, updates))


def optimizer_state_dropped_alone(task: Task) -> Task:
    """A step alone that returns the optimizer state that it was given, so that Adam begins anew at every step."""
    return bare(task, after=lambda old, new: {**new, "opt": old["opt"]})


def statistics_dropped_alone(task: Task) -> Task:
    """A step alone that returns the batch statistics that it was given."""
    return bare(task, after=lambda old, new: {**new, "stats": old["stats"]})


def constant_key_alone(task: Task) -> Task:
    """A step alone that draws dropout from a constant key."""
    return bare(task, draw=lambda _state, _key: jax.random.key(0))


HIGH, LOW = ("optimizer/learning-rate-too-high", "optimizer/diverged"), ("optimizer/learning-rate-too-low",)
LEARNS, CARRIES = ("learns_one_batch",), ("carries_state",)
FAULTS = (
    Fault(24, uphill_alone, bases.table_mlp, LEARNS, ("step/goes-uphill", "loss/sign-flipped"), "c"),
    Fault(57, statistics_dropped_alone, bases.convnet, CARRIES, ("step/statistics-thrown-away",), "c"),
    Fault(43, rate_huge_alone, bases.table_mlp, (*LEARNS, "stays_finite"), HIGH, "c"),
    Fault(44, rate_tiny_alone, bases.table_mlp, LEARNS, LOW, "c"),
    Fault(45, updates_thrown_away_alone, bases.table_mlp, CARRIES, ("step/updates-thrown-away",), "b"),
    Fault(53, constant_key_alone, bases.dropout, ("draws_anew",), ("step/key-reused",), "c"),
    Fault(55, optimizer_state_dropped_alone, bases.table_mlp, CARRIES, ("step/optimizer-state-lost",), "b"),
)
