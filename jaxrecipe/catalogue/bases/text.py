"""Healthy language models of English prose, character by character."""

from typing import Any

import jax.numpy as jnp
import optax

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import models, real_data
from jaxrecipe.catalogue.bases.preparing import cross_entropy
from jaxrecipe.targets import Tokens
from jaxrecipe.task import Task


def transformer(seed: int, **fields: Any) -> Task:
    """A causal transformer on characters of English prose."""
    train, test = real_data.snippets(seed)
    return Task(
        name="transformer language model",
        model=linen(models.Transformer(real_data.VOCABULARY, **fields)),
        loss=lambda logits, tokens: cross_entropy(logits, tokens).mean(axis=1),
        optimizer=optax.adam(5e-3),
        train=train,
        test=test,
        target=Tokens(real_data.VOCABULARY),
        batch_size=32,
        causal=True,
    )


def masked_loss(logits: Any, tokens: Any) -> Any:
    """Mean cross entropy over the positions of each row that are no padding (0)."""
    counted = (tokens != 0).astype(jnp.float32)
    return (cross_entropy(logits, tokens) * counted).sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1.0)


def padded_transformer(seed: int) -> Task:
    """The same on phrases of different lengths, filled up with a padding token that the loss leaves out."""
    train, test = real_data.phrases(seed)
    return transformer(seed).replace(
        name="padded language model",
        loss=masked_loss,
        train=train,
        test=test,
        target=Tokens(real_data.VOCABULARY, pad=0),
    )
