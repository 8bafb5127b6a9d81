"""Healthy set-ups that classify handwritten digits."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import models, real_data
from jaxrecipe.catalogue.bases.preparing import (
    PIXEL_MEAN,
    PIXEL_STD,
    cross_entropy,
    halves,
    shifted,
    standardized,
    unit,
)
from jaxrecipe.catalogue.edits import frozen
from jaxrecipe.models.simple import ConvNet
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.targets import Classes, Values
from jaxrecipe.task import Task


def table_mlp(seed: int, **fields: Any) -> Task:
    """Digits as a table of numbers, two hidden layers, Adam."""
    train, test = real_data.table(seed)
    return Task(
        name="table MLP",
        model=linen(models.Dense(**fields)),
        loss=cross_entropy,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        target=Classes(10),
        batch_size=32,
    )


def picture_mlp(seed: int, **fields: Any) -> Task:
    """Digits as 8-bit pictures, standardized in prepare, two hidden layers, Adam."""
    train, test = real_data.pictures(seed)
    return table_mlp(seed, **fields).replace(name="picture MLP", train=train, test=test, prepare=standardized)


def convnet(seed: int) -> Task:
    """A ConvNet with BatchNorm on 8-bit pictures, AdamW."""
    train, test = real_data.pictures(seed)
    return Task(
        name="ConvNet with BatchNorm",
        model=linen(ConvNet(features=(16, 32), classes=10)),
        loss=cross_entropy,
        optimizer=optax.adamw(5e-3, weight_decay=1e-4),
        train=train,
        test=test,
        target=Classes(10),
        batch_size=32,
        prepare=unit,
    )


def augmented_convnet(seed: int) -> Task:
    """The ConvNet with random shifts of the training pictures."""
    return convnet(seed).replace(name="ConvNet with augmentation", augment=shifted)


def resnet(seed: int, **fields: Any) -> Task:
    """Residual blocks with GroupNorm, SGD with momentum, clipping and a warm-up with cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(0.01, 0.1, 20, 45 * 20)
    return convnet(seed).replace(
        name="ResNet with GroupNorm",
        model=linen(models.ResNet(**fields)),
        optimizer=optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(schedule, momentum=0.9)),
        prepare=standardized,
    )


def recurrent(seed: int, **fields: Any) -> Task:
    """A GRU that reads the rows of a picture one after the other."""
    return picture_mlp(seed).replace(name="GRU", model=linen(models.Recurrent(**fields)), optimizer=optax.adam(5e-3))


def dropout(seed: int, **fields: Any) -> Task:
    """The picture MLP with a quarter of its hidden units dropped in training."""
    return picture_mlp(seed, **{"dropout": 0.25, "features": (96, 96), **fields}).replace(name="dropout MLP")


def segmentation(seed: int) -> Task:
    """Paper, gray or ink: a class for each pixel of a noisy picture."""
    rng = np.random.default_rng([seed, 3])

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        noisy = (images / 255.0 - PIXEL_MEAN) / PIXEL_STD + 0.5 * rng.normal(size=images.shape)
        return noisy.astype(np.float32), real_data.levels(images)

    train, test = real_data.mapped(real_data.pictures(seed), ask)
    return Task(
        name="segmentation",
        model=linen(models.Segmenter()),
        loss=lambda logits, labels: cross_entropy(logits, labels).mean(axis=(1, 2)),
        optimizer=optax.adam(1e-2),
        train=train,
        test=test,
        target=Classes(3),
        batch_size=32,
    )


def frozen_backbone(seed: int) -> Task:
    """The first layer stays as it is; the task declares it."""
    task = picture_mlp(seed, features=(256, 64))
    return task.replace(name="frozen backbone", optimizer=frozen(task.optimizer, "Dense_0"), frozen=("Dense_0/*",))


def two_inputs(seed: int, **fields: Any) -> Task:
    """A mapping of inputs: the upper and the lower half of a digit."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (halves(x), y))
    return table_mlp(seed).replace(name="two inputs", model=linen(models.TwoInputs(**fields)), train=train, test=test)


def two_heads(seed: int) -> Task:
    """A mapping of inputs and one of outputs: which digit, and how much ink."""

    def ask(images: Any, labels: Any) -> tuple[Any, Any]:
        ink = (images.mean(axis=(1, 2, 3)) - 78.0) / 14.0
        return halves(images), {"digit": labels, "ink": ink.astype(np.float32)}

    train, test = real_data.mapped(real_data.pictures(seed), ask)
    return two_inputs(seed, two_heads=True).replace(
        name="two heads",
        loss=lambda out, wanted: cross_entropy(out["digit"], wanted["digit"]) + jnp.square(out["ink"] - wanted["ink"]),
        train=train,
        test=test,
        target={"digit": Classes(10), "ink": Values()},
    )


def float16(seed: int, **changes: Any) -> Task:
    """The picture MLP computed in float16, its loss scaled dynamically."""
    task = picture_mlp(seed).replace(name="float16 MLP", policy="float16", loss_scale=dynamic_loss_scale())
    return task.replace(**changes)


def float16_unit(seed: int) -> Task:
    """The same with pixels in [0, 1], so that paper is exactly zero."""
    return float16(seed, prepare=unit)


def imbalanced(seed: int) -> tuple[Any, Any, np.ndarray]:
    """The digits with every class but 0 to 4 thinned to a quarter: training and test data, and how often each class is
    left.
    """
    rng = np.random.default_rng([seed, 4])

    def thin(images: Any, labels: Any) -> tuple[Any, Any]:
        kept = (labels < 5) | (rng.random(len(labels)) < 0.25)
        return images[kept], labels[kept]

    train, test = real_data.mapped(real_data.pictures(seed), thin)
    return train, test, np.bincount(train[1], minlength=10)


def class_weights(seed: int) -> Task:
    """Imbalanced digits whose loss weighs a class by how rare it is."""
    train, test, counts = imbalanced(seed)
    return weighted(picture_mlp(seed).replace(name="class weights", train=train, test=test), counts.mean() / counts)


def weighted(task: Task, weights: Any) -> Task:
    """The task with a cross entropy that weighs each class."""
    table = jnp.asarray(weights, jnp.float32)
    return task.replace(loss=lambda logits, labels: table[labels] * cross_entropy(logits, labels))


def contrastive(seed: int) -> Task:
    """Two noisy views of a digit must find each other among a batch; the task declares that its loss compares
    examples.
    """
    rng = np.random.default_rng([seed, 9])

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        scaled = (images / 255.0 - PIXEL_MEAN) / PIXEL_STD
        views = {name: (scaled + 0.5 * rng.normal(size=scaled.shape)).astype(np.float32) for name in ("a", "b")}
        return views, np.zeros(len(images), np.float32)

    def loss(outputs: Any, _: Any) -> Any:
        scores = 5.0 * outputs["a"] @ outputs["b"].T
        return cross_entropy(scores, jnp.arange(scores.shape[0]))

    train, test = real_data.mapped(real_data.pictures(seed), ask)
    return Task(
        name="contrastive",
        model=linen(models.Towers()),
        loss=loss,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        batch_size=32,
        mixes_examples=True,
    )
