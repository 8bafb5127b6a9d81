"""Healthy set-ups that predict numbers."""

from typing import Any

import numpy as np
import optax
from flax.linen import initializers

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import models, real_data
from jaxrecipe.catalogue.bases.preparing import squared_error, standardized
from jaxrecipe.targets import Values
from jaxrecipe.task import Task


def regression(seed: int, **fields: Any) -> Task:
    """Where the ink of a picture lies on average: two standardized numbers from pixels."""
    train, test = real_data.pictures(seed)
    mean, std = (getattr(real_data.center(train[0]), name)(axis=0) for name in ("mean", "std"))

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        return images, ((real_data.center(images) - mean) / std).astype(np.float32)

    train, test = real_data.mapped((train, test), ask)
    return Task(
        name="regression",
        model=linen(models.Dense(outputs=2, **fields)),
        loss=squared_error,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        target=Values(),
        batch_size=32,
        prepare=standardized,
    )


def total_ink(seed: int, *, bias: bool = True) -> Task:
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
        model=linen(models.Dense(outputs=1, squeeze=True, **(final if bias else {}))),
        optimizer=optax.adam(1e-2),
        train=train,
        test=test,
    )


def total_ink_from_zero(seed: int) -> Task:
    """The large target with a final layer that starts at zero like any other."""
    return total_ink(seed, bias=False)


def three_parameters(seed: int) -> Task:
    """A linear model of three parameters: ink from the number of inked pixels and their mean darkness, all
    standardized.
    """
    train, test = real_data.pictures(seed)

    def ask(images: Any, _: Any) -> tuple[Any, Any]:
        inked = (images > 32).sum(axis=(1, 2, 3)).astype(np.float64)
        edge = images[:, :, 2:6].mean(axis=(1, 2, 3)).astype(np.float64)
        return np.stack([inked, edge], axis=1), images.mean(axis=(1, 2, 3)).astype(np.float64)

    (x, y), (x_test, y_test) = real_data.mapped((train, test), ask)
    scale = lambda a, b: ((a - b.mean(axis=0)) / b.std(axis=0)).astype(np.float32)  # noqa: E731
    return Task(
        name="three parameters",
        model=linen(models.Dense(features=(), outputs=1, squeeze=True)),
        loss=squared_error,
        optimizer=optax.sgd(0.1),
        train=(scale(x, x), scale(y, y)),
        test=(scale(x_test, x), scale(y_test, y)),
        target=Values(),
        batch_size=32,
    )


def autoencoder(seed: int, *, batch_size: int = 32) -> Task:
    """The table's rows through a bottleneck of 24 numbers."""
    (x, _), (x_test, _) = real_data.table(seed)
    return Task(
        name="autoencoder",
        model=linen(models.Dense(features=(64, 24, 64), outputs=x.shape[1])),
        loss=squared_error,
        optimizer=optax.adam(3e-3),
        train=(x, x),
        test=(x_test, x_test),
        target=Values(),
        batch_size=batch_size,
    )
