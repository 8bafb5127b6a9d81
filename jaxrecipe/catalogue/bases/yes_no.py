"""Healthy set-ups that answer yes-or-no questions about digits."""

import numpy as np
import optax
from flax.linen import initializers

from jaxrecipe.catalogue import real_data
from jaxrecipe.catalogue.bases.pictures import picture_mlp
from jaxrecipe.targets import Binary, MultiLabel
from jaxrecipe.task import Task


def multi_label(seed: int) -> Task:
    """Five yes-or-no questions about a digit."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (x, real_data.traits(y)))
    return picture_mlp(seed, outputs=5).replace(
        name="multi-label",
        loss=lambda logits, labels: optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=1),
        train=train,
        test=test,
        target=MultiLabel(5),
    )


def binary(seed: int, *, prior: float | None = None) -> Task:
    """Whether a digit is an eight: one in ten, the prior in the final bias."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (x, (y == 8).astype(np.float32)))
    logit = float(np.log(1 / 9)) if prior is None else prior
    return picture_mlp(seed, outputs=1, squeeze=True, final_bias_init=initializers.constant(logit)).replace(
        name="imbalanced binary",
        loss=optax.sigmoid_binary_cross_entropy,
        train=train,
        test=test,
        target=Binary(),
    )


def zero_bias_binary(seed: int) -> Task:
    """The imbalanced question with a final bias that starts at zero."""
    return binary(seed, prior=0.0)


def balanced_binary(seed: int) -> Task:
    """Whether a digit is even."""
    train, test = real_data.mapped(real_data.pictures(seed), lambda x, y: (x, (y % 2 == 0).astype(np.float32)))
    return binary(seed, prior=0.0).replace(name="balanced binary", train=train, test=test)
