"""A small training set-up in which everything that can go wrong in a loop matters: random, stateful, augmented."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.parts import Model
from jaxrecipe.targets import Classes
from jaxrecipe.task import Task


def noisy_model() -> Model:
    """Softmax regression with dropout on the inputs and a running mean of them as model state."""

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        features = inputs.shape[1]
        params = {"w": 0.1 * jax.random.normal(key, (features, 3)), "b": jnp.zeros(3)}
        return params, {"mean": jnp.zeros(features)}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        if train:
            inputs = inputs * jax.random.bernoulli(key, 0.8, inputs.shape).astype(inputs.dtype)
            state = {"mean": 0.9 * state["mean"] + 0.1 * inputs.mean(axis=0).astype(jnp.float32)}
        logits = (inputs - state["mean"].astype(inputs.dtype)) @ params["w"] + params["b"]
        return logits, state

    return Model(init, apply, "noisy")


def plain_model() -> Model:
    """Softmax regression and nothing else."""

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        return {"w": 0.1 * jax.random.normal(key, (inputs.shape[1], 3)), "b": jnp.zeros(3)}, {}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return inputs @ params["w"] + params["b"], state

    return Model(init, apply, "plain")


def examples(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Raw bytes `[size, 6]` and labels that depend on them."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 256, (size, 6)).astype(np.uint8)
    return inputs, np.argmax(inputs[:, :3], axis=1).astype(np.int32)


def scale(inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Bytes to [-1, 1]."""
    return inputs.astype(jnp.float32) / jnp.float32(127.5) - 1.0, targets


def jitter(key: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
    return inputs + 0.1 * jax.random.uniform(key, inputs.shape), targets


def the_task(*, noisy: bool = True, size: int = 50, **changes: Any) -> Task:
    """50 training examples in batches of 8 (so the seventh is partial), clipped Adam on a schedule."""
    task = Task(
        model=noisy_model() if noisy else plain_model(),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 200))),
        train=examples(size),
        test=examples(23, seed=1),
        target=Classes(3),
        batch_size=8,
        prepare=scale,
        augment=jitter if noisy else None,
    )
    return task.replace(**changes)


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """`make_task(**changes)`."""
    return the_task


@pytest.fixture
def same() -> Callable[[Any, Any], bool]:
    """Whether two trees are equal in structure, dtype and every bit."""

    def compare(one: Any, other: Any) -> bool:
        if jax.tree.structure(one) != jax.tree.structure(other):
            return False
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return all(a.dtype == b.dtype and _bytes(a) == _bytes(b) for a, b in pairs)

    return compare


def _bytes(leaf: Any) -> bytes:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()
