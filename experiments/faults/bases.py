"""Healthy set-ups: each a function of a seed, which chooses the split of the data and whatever noise there is. All of them train well."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax.linen import initializers

import jaxrecipe as jr
from experiments.faults import models, real_data
from jaxrecipe.data import random_crop
from jaxrecipe.models import ConvNet

Base = Callable[[int], jr.Task]
cross_entropy = optax.softmax_cross_entropy_with_integer_labels
PIXEL_MEAN, PIXEL_STD = 0.305, 0.376
"""Of the digits, as shares of full ink."""


def unit(images: Any, targets: Any) -> tuple[Any, Any]:
    """Pixels from 0…255 to [0, 1]."""
    return images.astype(jnp.float32) / 255.0, targets


def standardised(images: Any, targets: Any) -> tuple[Any, Any]:
    """Pixels from 0…255 to about zero mean and unit variance."""
    return (images.astype(jnp.float32) / 255.0 - PIXEL_MEAN) / PIXEL_STD, targets


def squared_error(outputs: Any, values: Any) -> Any:
    """Mean squared error of each example."""
    return jnp.square(outputs - values).reshape(outputs.shape[0], -1).mean(axis=1)


def table_mlp(seed: int, **fields: Any) -> jr.Task:
    """Digits as a table of numbers, two hidden layers, Adam."""
    train, test = real_data.table(seed)
    return jr.Task(
        name="table MLP",
        model=jr.linen(models.Dense(**fields)),
        loss=cross_entropy,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        target=jr.Classes(10),
        batch_size=32,
    )


def picture_mlp(seed: int, **fields: Any) -> jr.Task:
    """Digits as 8-bit pictures, standardised in prepare, two hidden layers, Adam."""
    train, test = real_data.pictures(seed)
    return table_mlp(seed, **fields).replace(name="picture MLP", train=train, test=test, prepare=standardised)


def convnet(seed: int) -> jr.Task:
    """A ConvNet with BatchNorm on 8-bit pictures, AdamW."""
    train, test = real_data.pictures(seed)
    return jr.Task(
        name="ConvNet with BatchNorm",
        model=jr.linen(ConvNet(features=(16, 32), classes=10)),
        loss=cross_entropy,
        optimizer=optax.adamw(5e-3, weight_decay=1e-4),
        train=train,
        test=test,
        target=jr.Classes(10),
        batch_size=32,
        prepare=unit,
    )


def shifted(key: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Each picture moved by up to a pixel in each direction."""
    return random_crop(key, images, padding=1), labels


def augmented_convnet(seed: int) -> jr.Task:
    """The ConvNet with random shifts of the training pictures."""
    return convnet(seed).replace(name="ConvNet with augmentation", augment=shifted)


def resnet(seed: int, **fields: Any) -> jr.Task:
    """Residual blocks with GroupNorm, SGD with momentum, clipping and a warm-up with cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(0.01, 0.1, 20, 45 * 20)
    return convnet(seed).replace(
        name="ResNet with GroupNorm",
        model=jr.linen(models.ResNet(**fields)),
        optimizer=optax.chain(optax.clip_by_global_norm(5.0), optax.sgd(schedule, momentum=0.9)),
        prepare=standardised,
    )


def transformer(seed: int, **fields: Any) -> jr.Task:
    """A causal transformer on characters of English prose."""
    train, test = real_data.snippets(seed)
    return jr.Task(
        name="transformer language model",
        model=jr.linen(models.Transformer(real_data.VOCABULARY, **fields)),
        loss=lambda logits, tokens: cross_entropy(logits, tokens).mean(axis=1),
        optimizer=optax.adam(5e-3),
        train=train,
        test=test,
        target=jr.Tokens(real_data.VOCABULARY),
        batch_size=32,
        causal=True,
    )


def masked_loss(logits: Any, tokens: Any) -> Any:
    """Mean cross entropy over the positions of each row that are no padding (0)."""
    counted = (tokens != 0).astype(jnp.float32)
    return (cross_entropy(logits, tokens) * counted).sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1.0)


def padded_transformer(seed: int) -> jr.Task:
    """The same on phrases of different lengths, filled up with a padding token that the loss leaves out."""
    train, test = real_data.phrases(seed)
    return transformer(seed).replace(
        name="padded language model",
        loss=masked_loss,
        train=train,
        test=test,
        target=jr.Tokens(real_data.VOCABULARY, pad=0),
    )


def recurrent(seed: int, **fields: Any) -> jr.Task:
    """A GRU that reads the rows of a picture one after the other."""
    return picture_mlp(seed).replace(name="GRU", model=jr.linen(models.Recurrent(**fields)), optimizer=optax.adam(5e-3))


def regression(seed: int, **fields: Any) -> jr.Task:
    """Where the ink of a picture lies on average: two standardised numbers from pixels."""
    train, test = real_data.pictures(seed)
    mean, std = (getattr(real_data.centre(train[0]), name)(axis=0) for name in ("mean", "std"))

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        return images, ((real_data.centre(images) - mean) / std).astype(np.float32)

    train, test = real_data.mapped((train, test), ask)
    return jr.Task(
        name="regression",
        model=jr.linen(models.Dense(outputs=2, **fields)),
        loss=squared_error,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        target=jr.Values(),
        batch_size=32,
        prepare=standardised,
    )


def total_ink(seed: int, *, bias: bool = True) -> jr.Task:
    """One large number from a picture, how much ink it holds (about 300 ± 50); its mean is in the final bias."""
    train, test = real_data.pictures(seed)
    ask = lambda images, _: (images, (images.astype(np.float32).sum(axis=(1, 2, 3)) / 16.0))  # noqa: E731
    train, test = real_data.mapped((train, test), ask)
    mean, std = float(train[1].mean()), float(train[1].std())
    final: dict[str, Any] = {
        "final_bias_init": initializers.constant(mean),
        "final_kernel_init": initializers.normal(std / 16),
    }
    return regression(seed).replace(
        name="large-target regression",
        model=jr.linen(models.Dense(outputs=1, squeeze=True, **(final if bias else {}))),
        optimizer=optax.adam(1e-2),
        train=train,
        test=test,
    )


def three_parameters(seed: int) -> jr.Task:
    """A linear model of three parameters: ink from the number of inked pixels and their mean darkness, all standardised."""
    train, test = real_data.pictures(seed)

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        inked = (images > 32).sum(axis=(1, 2, 3)).astype(np.float64)
        edge = images[:, :, 2:6].mean(axis=(1, 2, 3)).astype(np.float64)
        return np.stack([inked, edge], axis=1), images.mean(axis=(1, 2, 3)).astype(np.float64)

    (x, y), (x_test, y_test) = real_data.mapped((train, test), ask)
    scale = lambda a, b: ((a - b.mean(axis=0)) / b.std(axis=0)).astype(np.float32)  # noqa: E731
    return jr.Task(
        name="three parameters",
        model=jr.linen(models.Dense(features=(), outputs=1, squeeze=True)),
        loss=squared_error,
        optimizer=optax.sgd(0.1),
        train=(scale(x, x), scale(y, y)),
        test=(scale(x_test, x), scale(y_test, y)),
        target=jr.Values(),
        batch_size=32,
    )


def multi_label(seed: int) -> jr.Task:
    """Five yes-or-no questions about a digit."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (x, real_data.traits(y)))
    return picture_mlp(seed, outputs=5).replace(
        name="multi-label",
        loss=lambda logits, labels: optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=1),
        train=train,
        test=test,
        target=jr.MultiLabel(5),
    )


def binary(seed: int, *, prior: float | None = None) -> jr.Task:
    """Whether a digit is an eight: one in ten, the prior in the final bias."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (x, (y == 8).astype(np.float32)))
    logit = float(np.log(1 / 9)) if prior is None else prior
    return picture_mlp(seed, outputs=1, squeeze=True, final_bias_init=initializers.constant(logit)).replace(
        name="imbalanced binary",
        loss=optax.sigmoid_binary_cross_entropy,
        train=train,
        test=test,
        target=jr.Binary(),
    )


def balanced_binary(seed: int) -> jr.Task:
    """Whether a digit is even."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (x, (y % 2 == 0).astype(np.float32)))
    return binary(seed, prior=0.0).replace(name="balanced binary", train=train, test=test)


def segmentation(seed: int) -> jr.Task:
    """Paper, grey or ink: a class for each pixel of a noisy picture."""
    rng = np.random.default_rng([seed, 3])

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        noisy = (images / 255.0 - PIXEL_MEAN) / PIXEL_STD + 0.5 * rng.normal(size=images.shape)
        return noisy.astype(np.float32), real_data.levels(images)

    train, test = real_data.mapped(real_data.pictures(seed), ask)
    return jr.Task(
        name="segmentation",
        model=jr.linen(models.Segmenter()),
        loss=lambda logits, labels: cross_entropy(logits, labels).mean(axis=(1, 2)),
        optimizer=optax.adam(1e-2),
        train=train,
        test=test,
        target=jr.Classes(3),
        batch_size=32,
    )


def autoencoder(seed: int, *, batch_size: int = 32) -> jr.Task:
    """The table's rows through a bottleneck of 24 numbers."""
    (x, _), (x_test, _) = real_data.table(seed)
    return jr.Task(
        name="autoencoder",
        model=jr.linen(models.Dense(features=(64, 24, 64), outputs=x.shape[1])),
        loss=squared_error,
        optimizer=optax.adam(3e-3),
        train=(x, x),
        test=(x_test, x_test),
        target=jr.Values(),
        batch_size=batch_size,
    )


def dropout(seed: int, **fields: Any) -> jr.Task:
    """The picture MLP with a quarter of its hidden units dropped in training."""
    return picture_mlp(seed, **{"dropout": 0.25, "features": (96, 96), **fields}).replace(name="dropout MLP")


def halves(images: Any) -> dict[str, Any]:
    """A picture as its upper and its lower half, standardised."""
    scaled = ((images / 255.0 - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)
    return {"top": scaled[:, :4], "bottom": scaled[:, 4:]}


def two_inputs(seed: int, **fields: Any) -> jr.Task:
    """A mapping of inputs: the upper and the lower half of a digit."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (halves(x), y))
    return table_mlp(seed).replace(
        name="two inputs", model=jr.linen(models.TwoInputs(**fields)), train=train, test=test
    )


def two_heads(seed: int) -> jr.Task:
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
        target={"digit": jr.Classes(10), "ink": jr.Values()},
    )


def contrastive(seed: int) -> jr.Task:
    """Two noisy views of a digit must find each other among a batch; the task declares that its loss compares examples."""
    rng = np.random.default_rng([seed, 9])

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        scaled = (images / 255.0 - PIXEL_MEAN) / PIXEL_STD
        views = {name: (scaled + 0.5 * rng.normal(size=scaled.shape)).astype(np.float32) for name in ("a", "b")}
        return views, np.zeros(len(images), np.float32)

    def loss(outputs: Any, _: Any) -> Any:
        scores = 5.0 * outputs["a"] @ outputs["b"].T
        return cross_entropy(scores, jnp.arange(scores.shape[0]))

    train, test = real_data.mapped(real_data.pictures(seed), ask)
    return jr.Task(
        name="contrastive",
        model=jr.linen(models.Towers()),
        loss=loss,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        batch_size=32,
        mixes_examples=True,
    )


def float16(seed: int, **changes: Any) -> jr.Task:
    """The picture MLP computed in float16, its loss scaled dynamically."""
    task = picture_mlp(seed).replace(name="float16 MLP", policy="float16", loss_scale=jr.dynamic_loss_scale())
    return task.replace(**changes)


def imbalanced(seed: int) -> tuple[Any, Any, np.ndarray]:
    """The digits with every class but 0 to 4 thinned to a quarter: training and test data, and how often each class is left."""
    rng = np.random.default_rng([seed, 4])

    def thin(images: Any, labels: Any) -> tuple[Any, Any]:
        kept = (labels < 5) | (rng.random(len(labels)) < 0.25)
        return images[kept], labels[kept]

    train, test = real_data.mapped(real_data.pictures(seed), thin)
    return train, test, np.bincount(train[1], minlength=10)


def class_weights(seed: int) -> jr.Task:
    """Imbalanced digits whose loss weighs a class by how rare it is."""
    train, test, counts = imbalanced(seed)
    return weighted(picture_mlp(seed).replace(name="class weights", train=train, test=test), counts.mean() / counts)


def weighted(task: jr.Task, weights: Any) -> jr.Task:
    """The task with a cross entropy that weighs each class."""
    table = jnp.asarray(weights, jnp.float32)
    return task.replace(loss=lambda logits, labels: table[labels] * cross_entropy(logits, labels))


def zero_bias_binary(seed: int) -> jr.Task:
    """The imbalanced question with a final bias that starts at zero."""
    return binary(seed, prior=0.0)


def total_ink_from_zero(seed: int) -> jr.Task:
    """The large target with a final layer that starts at zero like any other."""
    return total_ink(seed, bias=False)


def float16_unit(seed: int) -> jr.Task:
    """The same with pixels in [0, 1], so that paper is exactly zero."""
    return float16(seed, prepare=unit)
