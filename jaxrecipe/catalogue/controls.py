"""Healthy set-ups that must raise no alarm, among them everything that a hasty check takes for a fault."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from jaxrecipe.adapters import nnx as nnx_model
from jaxrecipe.catalogue import bare_step, bases, objectives
from jaxrecipe.catalogue.bases.preparing import standardized
from jaxrecipe.catalogue.fault import Base
from jaxrecipe.catalogue.own_loop import with_own_loop
from jaxrecipe.models.simple import NNXConvNet
from jaxrecipe.targets import Unspecified
from jaxrecipe.task import Task

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Control:
    """A healthy set-up and the proof that it is one.

    Attributes:
        make: the task of a seed.
        metric: what is looked at on the test data after training; "loss" is the task's own. Of a step alone it is the
            loss that the last steps report.
        bound: what it reaches at least, or at most for a loss or an error.
        steps: training steps that this takes.
    """

    make: Base
    metric: str
    bound: float
    steps: int = 450

    @property
    def name(self) -> str:
        """How tables and `--only` call it."""
        return self.make.__name__

    def reached(self, value: float) -> bool:
        """Whether a value on the test data is as good as it must be."""
        return value <= self.bound if "loss" in self.metric or "error" in self.metric else value >= self.bound


def layer_norm(seed: int) -> Task:
    """A LayerNorm in each hidden layer."""
    return bases.picture_mlp(seed, layer_norm=True).replace(name="LayerNorm MLP")


def nnx_convnet(seed: int) -> Task:
    """The ConvNet with BatchNorm as a Flax NNX module."""
    from flax import nnx

    module = NNXConvNet(features=(16, 32), classes=10, channels=1, rngs=nnx.Rngs(seed))
    return bases.convnet(seed).replace(name="NNX ConvNet", model=nnx_model(module))


def label_smoothing(seed: int) -> Task:
    """A tenth of each label is spread over all classes."""

    def loss(logits: Any, labels: Any) -> Any:
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, 10, dtype=jnp.float32), 0.1)
        return optax.softmax_cross_entropy(logits, smooth)

    return bases.picture_mlp(seed).replace(name="label smoothing", loss=loss)


def mixup(seed: int) -> Task:
    """Pictures and labels of pairs of a batch are mixed in training; the task declares that it mixes examples."""

    def prepare(images: Any, labels: Any) -> tuple[Any, Any]:
        return standardized(images, labels)[0], jax.nn.one_hot(labels, 10, dtype=jnp.float32)

    def augment(key: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        pairs, shares = jax.random.split(key)
        size = images.shape[0]
        other, share = jax.random.permutation(pairs, size), jax.random.beta(shares, 0.4, 0.4, (size, 1), jnp.float32)
        mix = lambda leaf, share: share * leaf + (1.0 - share) * leaf[other]  # noqa: E731
        return mix(images, share[:, :, None, None]), mix(labels, share)

    def accuracy(logits: Any, labels: Any) -> Any:
        return (jnp.argmax(logits, axis=1) == jnp.argmax(labels, axis=1)).astype(jnp.float32)

    return bases.picture_mlp(seed).replace(
        name="mixup",
        prepare=prepare,
        augment=augment,
        loss=optax.softmax_cross_entropy,
        target=Unspecified(),
        metrics={"accuracy": accuracy},
        mixes_examples=True,
    )


def bfloat16(seed: int) -> Task:
    """The ConvNet with BatchNorm computed in bfloat16, parameters in float32."""
    return bases.convnet(seed).replace(name="bfloat16 ConvNet", policy="bfloat16")


def weight_decay(seed: int) -> Task:
    """AdamW with a decay of 0.05 on kernels only."""
    decayed = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
    optimizer = optax.adamw(2e-3, weight_decay=0.05, mask=decayed)
    return bases.picture_mlp(seed).replace(name="weight decay", optimizer=optimizer)


def accumulation(seed: int) -> Task:
    """Gradients of two batches make one update."""
    optimizer = optax.MultiSteps(optax.adam(4e-3), every_k_schedule=2)
    task = bases.picture_mlp(seed).replace(name="gradient accumulation")
    return task.replace(optimizer=optimizer.gradient_transformation())


def average_weights(seed: int) -> Task:
    """A loop of one's own that evaluates with an exponential moving average of the weights."""

    def follow(_old: Any, new: Any) -> Any:
        blend = lambda mean, leaf: 0.95 * mean + 0.05 * leaf  # noqa: E731
        return {**new, "mean": jax.tree.map(blend, new["mean"], new["params"])}

    return with_own_loop(
        bases.picture_mlp(seed).replace(name="average weights"),
        add=lambda state: {**state, "mean": jax.tree.map(jnp.array, state["params"])},
        after=follow,
        evaluated=lambda state: (state["mean"], state["stats"]),
    )


def schedule_free(seed: int) -> Task:
    """A loop of one's own around a schedule-free optimizer, whose average is evaluated."""
    optimizer = optax.contrib.schedule_free(optax.adam(5e-3, b1=0.0), learning_rate=5e-3, b1=0.9)

    def averaged(state: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return optax.contrib.schedule_free_eval_params(state["opt"], state["params"]), state["stats"]

    task = bases.picture_mlp(seed).replace(name="schedule-free", optimizer=optimizer)
    return with_own_loop(task, evaluated=averaged)


def own_loop_with_batch_norm(seed: int) -> Task:
    """A loop of one's own around the ConvNet with BatchNorm: step, evaluation, prediction and checkpoints."""
    return with_own_loop(bases.convnet(seed))


def own_loop_with_dropout(seed: int) -> Task:
    """A loop of one's own around dropout, with keys that follow from the number of the step."""
    return with_own_loop(bases.dropout(seed), draw=lambda state, key: jax.random.fold_in(key, state["step"]))


def own_loop_language_model(seed: int) -> Task:
    """A loop of one's own around the language model on padded phrases."""
    return with_own_loop(bases.padded_transformer(seed))


def huber(seed: int) -> Task:
    """Regression with the Huber loss and few, large outliers among the targets."""
    task = bases.regression(seed)
    (x, y), test = task.train, task.test
    rng = np.random.default_rng([seed, 6])
    wild = y + (rng.random(len(y)) < 0.01)[:, None] * rng.normal(0.0, 6.0, y.shape)
    return task.replace(
        name="Huber regression",
        loss=lambda outputs, values: optax.huber_loss(outputs, values).mean(axis=1),
        train=(x, wild.astype(np.float32)),
        test=test,
    )


def small_data(seed: int) -> Task:
    """Two hundred examples of ten classes, no test data, the whole of Adam's defaults."""
    task = bases.picture_mlp(seed)
    chosen = np.random.default_rng([seed, 8]).permutation(len(task.train[1]))[:200]
    return task.replace(
        name="little data",
        train=jax.tree.map(lambda leaf: leaf[chosen], task.train),
        test=None,
        optimizer=optax.adam(1e-3),
        batch_size=20,
    )


def one_by_one(seed: int) -> Task:
    """A data set that gives one example at a time, as decoded files do."""
    task = bases.convnet(seed)
    return task.replace(name="examples one by one", train=list(zip(*task.train, strict=True)))


CONTROLS: tuple[Control, ...] = (
    Control(bases.table_mlp, "accuracy", 0.94),
    Control(bases.picture_mlp, "accuracy", 0.95),
    Control(bases.convnet, "accuracy", 0.96, steps=1200),
    Control(bases.augmented_convnet, "accuracy", 0.96, steps=1200),
    Control(nnx_convnet, "accuracy", 0.96, steps=1200),
    Control(bases.resnet, "accuracy", 0.96, steps=1200),
    Control(layer_norm, "accuracy", 0.95),
    Control(bases.dropout, "accuracy", 0.95),
    Control(bases.binary, "accuracy", 0.97),
    Control(bases.balanced_binary, "accuracy", 0.95),
    Control(bases.contrastive, "loss", 1.2),
    Control(bases.frozen_backbone, "accuracy", 0.94),
    Control(label_smoothing, "accuracy", 0.95),
    Control(bases.transformer, "loss", 2.2),
    Control(bases.padded_transformer, "loss", 2.2),
    Control(bases.recurrent, "accuracy", 0.93),
    Control(bases.two_inputs, "accuracy", 0.95),
    Control(bases.two_heads, "digit/accuracy", 0.94),
    Control(bfloat16, "accuracy", 0.96, steps=1200),
    Control(bases.float16, "accuracy", 0.95),
    Control(bases.regression, "absolute_error", 0.25),
    Control(huber, "absolute_error", 0.25),
    Control(bases.total_ink, "absolute_error", 12.0),
    Control(bases.multi_label, "accuracy", 0.95),
    Control(bases.autoencoder, "loss", 0.4),
    Control(bases.segmentation, "accuracy", 0.75),
    Control(bases.three_parameters, "loss", 0.5),
    Control(mixup, "accuracy", 0.94),
    Control(bases.class_weights, "accuracy", 0.93),
    Control(accumulation, "accuracy", 0.94),
    Control(weight_decay, "accuracy", 0.95),
    Control(average_weights, "accuracy", 0.95),
    Control(schedule_free, "accuracy", 0.95),
    Control(own_loop_with_batch_norm, "accuracy", 0.96, steps=1200),
    Control(own_loop_with_dropout, "accuracy", 0.95),
    Control(own_loop_language_model, "loss", 2.2),
    Control(bare_step.bare_batch_norm, "loss", 0.2),
    Control(bare_step.bare_dropout, "loss", 0.4),
    Control(bare_step.bare_contrastive, "loss", 1.2),
    Control(bare_step.bare_frozen, "loss", 0.4),
    Control(small_data, "accuracy", 0.95),
    Control(one_by_one, "accuracy", 0.96, steps=1200),
    Control(objectives.variational_autoencoder, "loss", 40.0),
    Control(objectives.diffusion, "loss", 0.6),
    Control(objectives.two_views, "loss", 1.0),
    Control(objectives.policy_gradient, "loss", -0.2),
    Control(objectives.penalty_in_loss, "accuracy", 0.94),
    Control(objectives.physics_informed, "loss", 0.01),
    Control(objectives.token_weighted, "loss", 2.2),
)
