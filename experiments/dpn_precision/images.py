"""The images of the benchmark, the same for both frameworks: real CIFAR-10, enlarged digits, or random ones; and their
order.
"""

import numpy as np

from jaxrecipe.data import batch_indices, cifar10, digits

RANDOM_IMAGES = 2048


def load(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images uint8 `[n, 32, 32, 3]` and labels int32 `[n]`; "auto" is CIFAR-10 where it is on disk, else
    random.
    """
    if name == "cifar10":
        (images, labels), _ = cifar10()
        return images, labels
    if name == "digits":
        (images, labels), _ = digits()
        large = np.repeat(np.repeat(images * 15, 4, axis=1), 4, axis=2)  # 16 shades of ink to 0 … 240, 8×8 to 32×32
        return np.repeat(large, 3, axis=3).astype(np.uint8), labels
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (RANDOM_IMAGES, 32, 32, 3)).astype(np.uint8)
    return images, draw.integers(0, 10, RANDOM_IMAGES).astype(np.int32)


def augmented(name: str) -> bool:
    """Whether training crops and flips at random, as the article does. Mirrored digits are no digits."""
    return name == "cifar10"


def indices(seed: int, step: int, size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Which examples make a step's batch, and which of them count (the last batch of an epoch is filled up)."""
    chosen, mask = batch_indices(seed, step, size, batch)
    return np.asarray(chosen), np.asarray(mask)
