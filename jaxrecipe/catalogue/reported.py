"""Faults 65 and up: what users have reported in public, each kind once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.catalogue import bases, controls
from jaxrecipe.catalogue.bases.preparing import unit
from jaxrecipe.catalogue.edits import on_both, on_outputs, on_train
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.own_loop import own_loop
from jaxrecipe.targets import Unspecified
from jaxrecipe.task import Task


def one_hot_loss(logits: Any, labels: Any) -> Any:
    """Cross entropy of ten classes by way of one_hot, as many write it."""
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, 10, dtype=jnp.float32))


def labels_from_one(task: Task) -> Task:
    """Labels count from 1, and one_hot makes a row of zeros of the last class, which then teaches nothing."""
    metrics = {"accuracy": lambda logits, labels: (jnp.argmax(logits, axis=1) == labels).astype(jnp.float32)}
    broken = on_both(task, lambda x, y: (x, (y + 1).astype(np.int32)))
    return broken.replace(loss=one_hot_loss, target=Unspecified(), metrics=metrics)


def gradient_of_few_is_nan(task: Task) -> Task:
    """Logits are scaled by their standard deviation, which is 0 for three black pictures: their loss is finite and
    their gradient NaN.
    """
    black = np.random.default_rng(0).permutation(len(task.train[1]))[:3]

    def blackened(images: Any, labels: Any) -> tuple[Any, Any]:
        changed = images.copy()
        changed[black] = 0
        return changed, labels

    scaled = on_outputs(task, lambda logits: logits / (1.0 + jnp.std(logits, axis=1, keepdims=True)))
    return on_train(scaled, blackened).replace(prepare=unit)


def metric_counts_padding(task: Task) -> Task:
    """The loss leaves the padding out, and the accuracy counts it."""
    right = lambda logits, tokens: (jnp.argmax(logits, axis=-1) == tokens).astype(jnp.float32)  # noqa: E731
    return task.replace(metrics={"accuracy": lambda logits, tokens: right(logits, tokens).mean(axis=1)})


def head_masked(task: Task) -> Task:
    """optax.masked was meant to train the last layer only, and hands on the raw gradients of all others."""

    def last(params: Any) -> Any:
        return {name: jax.tree.map(lambda _, name=name: name == "Dense_2", leaves) for name, leaves in params.items()}

    return task.replace(optimizer=optax.masked(optax.adam(2e-3), last))


def bytes_wrap(task: Task) -> Task:
    """The mean is subtracted from bytes before they are made floats: dark pixels become the brightest."""
    return task.replace(prepare=lambda images, labels: ((images - 78).astype(jnp.float32) / 96.0, labels))


def schedule_free_not_averaged(task: Task) -> Task:
    """The weights that a schedule-free optimizer trains are evaluated, and not their average."""
    return task.replace(loop=own_loop(task))


FAULTS = (
    Fault(65, labels_from_one, bases.picture_mlp, ("example_gradients",), ("data/labels-from-one",)),
    Fault(66, gradient_of_few_is_nan, bases.picture_mlp, ("example_gradients",), ("model/gradient-not-finite",)),
    Fault(
        67,
        metric_counts_padding,
        bases.padded_transformer,
        ("chart_input_dependencies",),
        ("evaluation/padding-counted",),
    ),
    Fault(68, head_masked, bases.frozen_backbone, ("updates",), ("optimizer/masked-passes-gradient",)),
    Fault(69, bytes_wrap, bases.picture_mlp, ("finite_inputs",), ("data/integer-arithmetic",)),
    Fault(
        70,
        schedule_free_not_averaged,
        controls.schedule_free,
        ("mode_consistency",),
        ("evaluation/schedule-free-weights",),
    ),
)
