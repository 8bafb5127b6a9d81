"""A small character language model on real text that every Python brings along, for the experiments on precision.

The text is the reference that `help("assert")` and the like print (`pydoc_data.topics`, about 460,000 characters of
English and grammar). It differs a little between versions of Python; `digest` says which one it was.
"""

import hashlib
import string
from pydoc_data import topics
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import jaxrecipe as jr

ALPHABET = "\n" + string.printable[:95]
"""Every other character becomes "?"."""


class Block(nn.Module):
    """Causal self-attention and an MLP, each after a LayerNorm and beside a residual path."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch time width"]) -> Float[Array, "batch time width"]:
        """The same shape and dtype; output t sees inputs up to t only."""
        mask = nn.make_causal_mask(jnp.zeros(x.shape[:2]), dtype=jnp.bool_)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x), mask=mask)
        hidden = nn.gelu(nn.Dense(4 * x.shape[-1])(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1])(hidden)


class Transformer(nn.Module):
    """Token and position embeddings, blocks, a LayerNorm and a linear layer.

    No layer has a dtype of its own, so a precision policy decides about all of them.
    """

    vocabulary: int = len(ALPHABET)
    width: int = 64
    heads: int = 4
    blocks: int = 2

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch time"]) -> Float[Array, "batch time vocabulary"]:
        """Logits of the next token at each position."""
        places = self.param("places", nn.initializers.normal(0.02), (tokens.shape[1], self.width))
        x = nn.Embed(self.vocabulary, self.width)(tokens)
        x = x + places.astype(x.dtype)
        for _ in range(self.blocks):
            x = Block(self.heads)(x)
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))


def text() -> str:
    """The whole text, in the order of its headings."""
    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


def digest() -> str:
    """The first half of the text's SHA-256, to tell versions apart."""
    return hashlib.sha256(text().encode()).hexdigest()[:32]


def windows(length: int, *, characters: int | None = None) -> np.ndarray:
    """The text, or its start, as rows of `length + 1` tokens `[rows, length + 1]`; each row begins with the last of the
    one before.
    """
    place = {character: index for index, character in enumerate(ALPHABET)}
    tokens = np.array([place.get(character, place["?"]) for character in text()[:characters]], np.int32)
    rows = (len(tokens) - 1) // length
    return tokens[np.arange(rows)[:, None] * length + np.arange(length + 1)]


def next_token_loss(
    logits: Float[Array, "batch time vocabulary"], tokens: Int[Array, "batch time"]
) -> Float[Array, "batch"]:
    """Mean cross entropy of each row."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean(axis=1)


def text_task(
    *, length: int = 64, characters: int | None = None, model: nn.Module | None = None, **changes: Any
) -> jr.Task:
    """Predict each next character of the text; the last tenth of it is for testing.

    Args:
        length: positions of a row.
        characters: use only so much of the text.
        model: takes tokens, gives logits.
        changes: of other fields of the task.
    """
    rows = windows(length, characters=characters)
    split = len(rows) - max(1, len(rows) // 10)
    inputs, targets = rows[:, :-1], rows[:, 1:]
    task = jr.Task(
        name="text",
        model=jr.linen(model or Transformer()),
        loss=next_token_loss,
        optimizer=optax.adamw(3e-3),
        train=(inputs[:split], targets[:split]),
        test=(inputs[split:], targets[split:]),
        target=jr.Tokens(len(ALPHABET)),
        causal=True,
    )
    return task.replace(**changes)
