"""A healthy set-up on the embedded handwritten digits: a small ConvNet with BatchNorm that trains in seconds on a
CPU.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from jaxrecipe.adapters import linen
from jaxrecipe.data.augment import random_crop
from jaxrecipe.data.batches import steps_per_epoch
from jaxrecipe.data.datasets import digits
from jaxrecipe.models.simple import ConvNet
from jaxrecipe.targets import Classes
from jaxrecipe.task import Task

CLASSES = 10
BATCH_SIZE = 64
EPOCHS = 60
PEAK_LEARNING_RATE = 1e-2
WARMUP_STEPS = 20
WEIGHT_DECAY = 1e-4
INK = 16.0
"""The largest pixel value of the data: 0 is paper, 16 is ink."""


def digits_task(seed: int = 0) -> Task:
    """The demonstration's set-up; train it for `EPOCHS` epochs.

    Data: 1,797 real 8×8 digits (see `jaxrecipe.data.datasets.digits`), about 80 % to train and the rest to test.
    Model: two convolutions with BatchNorm and a linear layer, about 20,000 parameters. Its final bias starts at 0,
    which is what the nearly balanced classes ask for. Optimizer: AdamW under a short warm-up and a cosine decay.

    Args:
        seed: chooses the split into training and test data, 0 or more.
    """
    train, test = digits(seed=seed)
    return Task(
        name="digits",
        model=linen(ConvNet(features=(32, 64), classes=CLASSES)),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=adamw(PEAK_LEARNING_RATE, steps=EPOCHS * steps_per_epoch(len(train[1]), BATCH_SIZE)),
        train=train,
        test=test,
        target=Classes(CLASSES),
        batch_size=BATCH_SIZE,
        prepare=scale,
        augment=shift,
    )


def adamw(peak: float, *, steps: int) -> optax.GradientTransformation:
    """AdamW whose learning rate rises to `peak` in `WARMUP_STEPS` steps and falls to 0 after `steps` along a cosine."""
    schedule = optax.warmup_cosine_decay_schedule(peak / WARMUP_STEPS, peak, WARMUP_STEPS, steps)
    return optax.adamw(schedule, weight_decay=WEIGHT_DECAY)


def scale(
    images: UInt8[Array, "batch 8 8 1"], labels: Int[Array, "batch"]
) -> tuple[Float[Array, "batch 8 8 1"], Int[Array, "batch"]]:
    """Pixels from 0…16 to float32 in [0, 1]."""
    return images.astype(jnp.float32) / INK, labels


def shift(
    key: PRNGKeyArray, images: Float[Array, "batch 8 8 1"], labels: Int[Array, "batch"]
) -> tuple[Float[Array, "batch 8 8 1"], Int[Array, "batch"]]:
    """Move each digit by up to one pixel in each direction; paper comes in at the edges."""
    return random_crop(key, images, padding=1), labels
