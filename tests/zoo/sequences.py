"""Set-ups along time, healthy and broken: attention, recurrence, padding and masks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.parts import Model
from jaxrecipe.targets import Classes, Tokens
from jaxrecipe.task import Task
from tests.zoo.healthy import cross_entropy, dense, linear, stateless

TOKENS, LENGTH, WIDTH = 12, 10, 16
Mask = Callable[[int], np.ndarray]


def causal(length: int) -> np.ndarray:
    return np.tril(np.ones((length, length), bool))


def off_by_one(length: int) -> np.ndarray:
    return np.tril(np.ones((length, length), bool), k=1)


def everything(length: int) -> np.ndarray:
    return np.ones((length, length), bool)


def attend(params: Any, x: Any, mask: Any) -> Any:
    """One head of attention where a mask `[..., time, time]` allows it."""
    scores = linear(params["q"], x) @ jnp.swapaxes(linear(params["k"], x), 1, 2) / np.float32(np.sqrt(x.shape[-1]))
    return jax.nn.softmax(jnp.where(mask, scores, -1e9), axis=-1) @ linear(params["v"], x)


def transformer(mask: Mask = causal, *, activation: Any = jax.nn.gelu, zero_out: bool = False) -> Model:
    """Embeddings of tokens and positions, one block, logits."""

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 8)
        params = {
            "embed": 0.3 * jax.random.normal(keys[0], (TOKENS, WIDTH), jnp.float32),
            "places": 0.3 * jax.random.normal(keys[1], (64, WIDTH), jnp.float32),
            **{name: dense(k, WIDTH, WIDTH) for name, k in zip("qkv", keys[2:5], strict=True)},
            "up": dense(keys[5], WIDTH, 4 * WIDTH),
            "down": dense(keys[6], 4 * WIDTH, WIDTH),
            "logits": dense(keys[7], WIDTH, TOKENS, 0.5),
        }
        return {**params, "logits": jax.tree.map(jnp.zeros_like, params["logits"])} if zero_out else params

    def forward(params: Any, tokens: Any) -> Any:
        x = params["embed"][tokens] + params["places"][: tokens.shape[1]]
        x = x + attend(params, x, mask(tokens.shape[1]))
        x = x + linear(params["down"], activation(linear(params["up"], x)))
        return linear(params["logits"], x)

    return stateless(init, forward, "transformer")


def recurrent(*, backwards: bool = False) -> Model:
    """A GRU over embeddings."""

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 4)
        return {
            "embed": 0.5 * jax.random.normal(keys[0], (TOKENS, WIDTH), jnp.float32),
            "gates": dense(keys[1], 2 * WIDTH, 2 * WIDTH),
            "new": dense(keys[2], 2 * WIDTH, WIDTH),
            "logits": dense(keys[3], WIDTH, TOKENS, 0.5),
        }

    def forward(params: Any, tokens: Any) -> Any:
        x = jnp.swapaxes(params["embed"][tokens], 0, 1)

        def cell(h: Any, seen: Any) -> tuple[Any, Any]:
            z, r = jnp.split(jax.nn.sigmoid(linear(params["gates"], jnp.concatenate([h, seen], -1))), 2, axis=-1)
            new = jnp.tanh(linear(params["new"], jnp.concatenate([r * h, seen], -1)))
            h = (1 - z) * h + z * new
            return h, h

        _, states = jax.lax.scan(cell, jnp.zeros(x.shape[1:], x.dtype), x, reverse=backwards)
        return linear(params["logits"], jnp.swapaxes(states, 0, 1))

    return stateless(init, forward, "GRU")


def rows(seed: int = 0, length: int = LENGTH + 1, size: int = 400) -> np.ndarray:
    """Counting rows with a random start, stride and a few errors; tokens 1 to 11, so that 0 is free for padding."""
    rng = np.random.default_rng(seed)
    start, stride = rng.integers(0, 11, size=(size, 1)), rng.integers(1, 4, size=(size, 1))
    tokens = 1 + (start + stride * np.arange(length)) % 11
    noise = rng.random(tokens.shape) < 0.05
    return np.where(noise, rng.integers(1, 12, size=tokens.shape), tokens).astype(np.int32)


def token_loss(logits: Any, tokens: Any) -> Any:
    return cross_entropy(logits, tokens).mean(axis=1)


def padded_loss(logits: Any, tokens: Any) -> Any:
    counted = (tokens != 0).astype(jnp.float32)
    return (cross_entropy(logits, tokens) * counted).sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1.0)


def shifting_loss(logits: Any, tokens: Any) -> Any:
    """Output t against token t + 1."""
    return token_loss(logits[:, :-1], tokens[:, 1:])


def transformer_task(seed: int = 0, *, model: Model | None = None, shift: int = 1, **changes: Any) -> Task:
    """A causal transformer on counting rows; target t is input t + shift."""
    tokens = rows(seed, LENGTH + max(shift, 0))
    x, y = tokens[:, :LENGTH], tokens[:, shift : shift + LENGTH]
    task = Task(
        model=model or transformer(),
        loss=token_loss,
        optimizer=optax.adam(5e-3),
        train=(x[:320], y[:320]),
        test=(x[320:], y[320:]),
        target=Tokens(TOKENS),
        batch_size=32,
        causal=True,
        name="transformer",
    )
    return task.replace(**changes)


def padded_task(seed: int = 0, **changes: Any) -> Task:
    """The same with rows of several lengths, padded with 0 at the end."""
    tokens = rows(seed)
    lengths = np.random.default_rng(seed + 1).integers(4, LENGTH + 2, size=(len(tokens), 1))
    tokens = np.where(np.arange(LENGTH + 1) < lengths, tokens, 0).astype(np.int32)
    x, y = tokens[:, :-1], tokens[:, 1:]
    base = transformer_task(seed, loss=padded_loss, target=Tokens(TOKENS, pad=0), name="padded transformer")
    return base.replace(train=(x[:320], y[:320]), test=(x[320:], y[320:]), **changes)


def masked_sum_task(seed: int = 0, *, use_mask: bool = True, polarity: bool = True, name: str = "mask") -> Task:
    """Which token a padded row holds most of, from features and a mask: a masked mean, then an MLP."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, LENGTH + 1, size=(400, 1))
    valid = np.arange(LENGTH) < lengths
    x = rng.normal(size=(400, LENGTH, 4)).astype(np.float32)
    y = (x * valid[..., None]).sum(axis=1).argmax(axis=1).astype(np.int32)
    x = np.where(valid[..., None], x, 0.0).astype(np.float32)
    mask = valid if polarity else ~valid

    def init(key: jax.Array) -> Any:
        first, last = jax.random.split(key)
        return {"hidden": dense(first, 4, 32), "logits": dense(last, 32, 4)}

    def forward(params: Any, inputs: Any) -> Any:
        counted = (inputs[name] == polarity).astype(jnp.float32)[..., None] if use_mask else 1.0
        hidden = jax.nn.relu(linear(params["hidden"], inputs["x"])) * counted
        return linear(params["logits"], hidden.mean(axis=1))

    return Task(
        model=stateless(init, forward),
        loss=cross_entropy,
        optimizer=optax.adam(1e-2),
        train=({"x": x[:320], name: mask[:320]}, y[:320]),
        test=({"x": x[320:], name: mask[320:]}, y[320:]),
        target=Classes(4),
        batch_size=32,
        name="masked mean",
    )
