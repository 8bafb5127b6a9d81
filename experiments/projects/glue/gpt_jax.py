"""gpt-jax: its pmapped step on its TrainState, and text by characters instead of its TFRecords."""

from unittest import mock

import jax
import numpy as np
from flax.jax_utils import replicate
from model import GPTConfig  # pyright: ignore[reportMissingImports] # the project's
from train import TrainConfig, init_train_state, train_step  # pyright: ignore[reportMissingImports]

import jaxrecipe as jr
from experiments.projects.prose import prose


def task() -> jr.Task:
    """Two blocks of width 32 on 32 characters."""
    model = GPTConfig(block_size=32, vocab_size=128, num_layers=2, num_heads=2, num_embeds=32)
    config = TrainConfig(batch_size=4, model=model)
    with mock.patch(
        "flax.core.frozen_dict.freeze", dict
    ):  # as when it was written, a mask has the type of the parameters
        state = replicate(init_train_state(jax.random.key(0), config, 1e-3))
    tokens = np.asarray(prose()[: 16 * 2 * 4 * 33]).reshape(16, 2, 4, 33)
    return jr.Task.from_step(train_step, state, list(tokens), key=jax.random.split(jax.random.key(1), 2))
