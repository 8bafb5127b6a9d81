"""A small training script as people write it: Flax Linen, optax, a state of its own. It does not know that it will be
checked.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization

BATCH_SIZE = 64
STEPS = 700


class Net(nn.Module):
    """Two dense layers with batch normalisation and dropout."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Logits of ten classes."""
        x = images.reshape(images.shape[0], -1)
        x = nn.Dense(64, use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
        return nn.Dense(10)(x)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """Everything that training changes."""

    params: Any
    batch_stats: Any
    opt_state: Any
    step: jax.Array
    rng: jax.Array


net = Net()
optimizer = optax.sgd(optax.cosine_decay_schedule(0.1, STEPS), momentum=0.9)


def normalise(images: np.ndarray) -> np.ndarray:
    """Grey values from 0…16 to about zero mean and unit variance."""
    return ((images - 4.9) / 6.0).astype(np.float32)


def create_state(rng: jax.Array) -> State:
    """A fresh state."""
    rng, init_rng = jax.random.split(rng)
    variables = net.init(init_rng, jnp.zeros((1, 8, 8, 1), jnp.float32), train=False)
    return State(
        variables["params"],
        variables["batch_stats"],
        optimizer.init(variables["params"]),
        jnp.zeros((), jnp.int32),
        jax.random.key_data(rng),
    )


@partial(jax.jit, donate_argnums=0)
def train_step(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, jax.Array]:
    """One update; dropout draws from the state's own generator."""
    rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)

    def loss_fn(params: Any) -> Any:
        logits, updated = net.apply(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            rngs={"dropout": rng},
            mutable=["batch_stats"],
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, updated["batch_stats"]

    (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, batch_stats, opt_state, state.step + 1, state.rng), loss


@jax.jit
def logits_of(state: State, images: jax.Array) -> Any:
    """The network in evaluation mode."""
    return net.apply({"params": state.params, "batch_stats": state.batch_stats}, images, train=False)


def evaluate(state: State, images: np.ndarray, labels: np.ndarray, batch_size: int) -> tuple[float, float]:
    """Mean loss and accuracy over all images; the last batch is filled up, and what fills it is not counted."""
    images, labels = np.asarray(images), np.asarray(labels)
    loss = correct = 0.0
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        count = len(batch)
        filled = np.concatenate([batch, np.zeros((batch_size - count, *batch.shape[1:]), batch.dtype)])
        logits = np.asarray(logits_of(state, filled), np.float64)[:count]
        wanted = labels[start : start + count]
        log_probs = (
            logits
            - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
            - logits.max(1, keepdims=True)
        )
        loss -= log_probs[np.arange(count), wanted].sum()
        correct += (logits.argmax(1) == wanted).sum()
    return loss / len(images), correct / len(images)


def save(state: State, path: Path) -> None:
    """Write the whole state."""
    path.write_bytes(serialization.to_bytes(_parts(state)))


def restore(path: Path, state: State) -> State:
    """Read a state of the same shape back."""
    return State(**serialization.from_bytes(_parts(state), path.read_bytes()))


def _parts(state: State) -> dict[str, Any]:
    return {name: getattr(state, name) for name in State.__dataclass_fields__}


def train(images: np.ndarray, labels: np.ndarray, *, seed: int = 0, steps: int = STEPS) -> State:
    """The whole training."""
    state, order = create_state(jax.random.key(seed)), np.random.default_rng(seed)
    images = normalise(images)
    for _ in range(steps):
        chosen = order.choice(len(images), BATCH_SIZE, replace=False)
        state, _ = train_step(state, images[chosen], labels[chosen])
    return state
