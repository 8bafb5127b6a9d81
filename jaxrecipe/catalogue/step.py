"""Faults 43 to 55: in the optimizer and in the training step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.catalogue import bases
from jaxrecipe.catalogue.bases.preparing import shifted
from jaxrecipe.catalogue.edits import frozen
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.own_loop import with_own_loop
from jaxrecipe.parts import Model
from jaxrecipe.precision.loss_scale import no_loss_scale
from jaxrecipe.precision.policy import Policy
from jaxrecipe.task import Task


def learning_rate_huge(task: Task) -> Task:
    """Adam's learning rate is 0.5 instead of 0.002."""
    return task.replace(optimizer=optax.adam(0.5))


def learning_rate_huge_sgd(task: Task) -> Task:
    """The learning rate of SGD with momentum is 100 instead of 0.1."""
    return task.replace(optimizer=optax.sgd(100.0, momentum=0.9))


def learning_rate_tiny(task: Task) -> Task:
    """Adam's learning rate is a ten-thousandth of what it should be."""
    return task.replace(optimizer=optax.adam(2e-7))


def learning_rate_tiny_sgd(task: Task) -> Task:
    """The learning rate of SGD with momentum is a thousandth of what it should be."""
    return task.replace(optimizer=optax.sgd(1e-4, momentum=0.9))


def updates_thrown_away(task: Task) -> Task:
    """A loop of one's own computes the updates and keeps the old parameters."""
    return with_own_loop(task, apply_updates=lambda params, _updates: params)


def layer_frozen(task: Task) -> Task:
    """The first layer does not move: a mask left from fine-tuning."""
    return task.replace(optimizer=frozen(task.optimizer, "Dense_0"))


def wrong_layer_frozen(task: Task) -> Task:
    """The backbone should be frozen, as the task declares, but the optimizer freezes the last layer."""
    return task.replace(optimizer=frozen(optax.adam(2e-3), "Dense_2"))


def gradients_accumulate(task: Task) -> Task:
    """The gradients of all earlier steps are added to each step's own: they are never set back to zero."""

    def add_up(state: Any, grads: Any) -> tuple[Any, Any]:
        total = jax.tree.map(jnp.add, state["total"], grads)
        return {**state, "total": total}, total

    zeros = lambda state: {**state, "total": jax.tree.map(jnp.zeros_like, state["params"])}  # noqa: E731
    return with_own_loop(task, add=zeros, gradients=add_up)


def weight_decay_swamps(task: Task) -> Task:
    """The weight decay of AdamW is 30, where 0.0001 was meant."""
    return task.replace(optimizer=optax.adamw(2e-3, weight_decay=30.0))


def epsilon_vanishes(task: Task) -> Task:
    """Parameters and Adam's moments are float16, where its epsilon of 1e-16 is zero."""
    policy = Policy(param_dtype=jnp.float16, compute_dtype=jnp.float16, output_dtype=jnp.float32)
    return task.replace(policy=policy, loss_scale=no_loss_scale(), optimizer=optax.adam(2e-3, eps=1e-16))


def schedule_in_epochs(task: Task) -> Task:
    """The cosine decay is told 20, the number of epochs, where it counts steps: the learning rate is zero after 20
    steps.
    """
    return task.replace(optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, 20)))


def warm_up_in_epochs(task: Task) -> Task:
    """The warm-up of 300 steps is counted in examples, so that it would take 300 epochs."""
    return task.replace(optimizer=optax.adam(optax.linear_schedule(0.0, 2e-3, 300 * len(task.train[1]))))


def clip_norm_tiny(task: Task) -> Task:
    """Gradients are clipped to a norm of a millionth."""
    return task.replace(optimizer=optax.chain(optax.clip_by_global_norm(1e-6), optax.sgd(0.1, momentum=0.9)))


def batch_of_one(task: Task) -> Task:
    """A batch is one example, at the learning rate for 32."""
    return task.replace(batch_size=1)


def same_key_for_dropout(task: Task) -> Task:
    """A loop of one's own gives dropout the same key at every step."""
    return with_own_loop(task, draw=lambda _state, _key: jax.random.key(0))


def same_key_for_augmentation(task: Task) -> Task:
    """The augmentation draws with one constant key: every picture at the same place of a batch is always moved
    alike.
    """
    augment = task.augment or shifted
    return task.replace(augment=lambda _key, inputs, targets: augment(jax.random.key(0), inputs, targets))


def unseeded_init(task: Task) -> Task:
    """The initial parameters come from the system's randomness."""
    model = task.model

    def init(_key: Any, inputs: Any) -> tuple[Any, Any]:
        return model.init(jax.random.key(int(np.random.default_rng().integers(2**31))), inputs)

    return task.replace(model=Model(init, model.apply, model.name))


class UnseededCrops:
    """Examples that are moved by numpy's global generator when they are read."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep the arrays."""
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One example, moved at random."""
        return np.roll(self.images[index], np.random.randint(-1, 2), axis=1), self.labels[index]


def unseeded_reader(task: Task) -> Task:
    """The data set moves its pictures with a generator that nobody seeds."""
    return task.replace(train=UnseededCrops(*task.train))


def momentum_not_carried(task: Task) -> Task:
    """A loop of one's own forgets to keep the optimizer's new state, so that momentum starts anew at every step."""
    return with_own_loop(task, after=lambda old, new: {**new, "opt": old["opt"]})


STEP = ("overfit_one_batch", "updates", "visualize_prediction_dynamics")
FAULTS = (
    Fault(43, learning_rate_huge, bases.picture_mlp, STEP, ("optimizer/learning-rate-too-high",), "a"),
    Fault(43, learning_rate_huge_sgd, bases.resnet, STEP, ("optimizer/learning-rate-too-high",), "b"),
    Fault(44, learning_rate_tiny, bases.convnet, STEP, ("optimizer/learning-rate-too-low",), "a"),
    Fault(44, learning_rate_tiny_sgd, bases.resnet, STEP, ("optimizer/learning-rate-too-low",), "b"),
    Fault(
        45,
        updates_thrown_away,
        bases.convnet,
        ("overfit_one_batch", "updates", "reference_step"),
        ("step/updates-thrown-away",),
    ),
    Fault(46, layer_frozen, bases.picture_mlp, ("updates",), ("optimizer/unintended-freeze",), "a"),
    Fault(
        46,
        wrong_layer_frozen,
        bases.frozen_backbone,
        ("updates",),
        ("optimizer/declared-frozen-moves", "optimizer/unintended-freeze"),
        "b",
    ),
    Fault(47, gradients_accumulate, bases.resnet, ("reference_step",), ("step/gradients-accumulate",)),
    Fault(48, weight_decay_swamps, bases.picture_mlp, ("overfit_one_batch",), ("optimizer/weight-decay-too-strong",)),
    Fault(
        49,
        epsilon_vanishes,
        bases.float16_unit,
        ("half_precision_updates", "overfit_one_batch", "precision_parity"),
        ("precision/epsilon-vanishes",),
    ),
    Fault(50, schedule_in_epochs, bases.picture_mlp, STEP, ("optimizer/schedule-run-down",), "a"),
    Fault(50, warm_up_in_epochs, bases.picture_mlp, STEP, ("optimizer/warm-up-too-long",), "b"),
    Fault(51, clip_norm_tiny, bases.resnet, ("updates",), ("optimizer/clipping-too-tight",)),
    Fault(52, batch_of_one, bases.convnet, ("visualize_prediction_dynamics",), ("optimizer/batch-too-small",)),
    Fault(53, same_key_for_dropout, bases.dropout, ("fix_random_seed",), ("step/key-reused",), "a"),
    Fault(
        53,
        same_key_for_augmentation,
        bases.augmented_convnet,
        ("fix_random_seed",),
        ("step/augmentation-key-reused", "step/key-reused"),
        "b",
    ),
    Fault(54, unseeded_init, bases.picture_mlp, ("fix_random_seed",), ("step/initialization-not-reproducible",), "a"),
    Fault(
        54,
        unseeded_reader,
        bases.convnet,
        ("fix_random_seed",),
        ("step/data-not-reproducible", "data/random-reader"),
        "b",
    ),
    Fault(55, momentum_not_carried, bases.resnet, ("reference_step",), ("step/optimizer-state-lost",)),
)
