"""Flax's ogbg_molpcba: its step on graphs that are drawn at random, with labels that follow from them."""

import jax
import jraph
import numpy as np
from configs.test import get_config  # pyright: ignore[reportMissingImports] # the project's
from flax.training.train_state import TrainState
from train import create_model, create_optimizer, replace_globals, train_step  # pyright: ignore[reportMissingImports]

import jaxrecipe as jr
from experiments.projects.graphs import graph


def task() -> jr.Task:
    """Batches of 7 graphs and one of padding, in the project's smallest configuration, narrower."""
    config, rng = get_config(), np.random.default_rng(0)
    config.update({"latent_size": 32, "num_classes": 4, "message_passing_steps": 2})
    batches = [jraph.pad_with_graphs(jraph.batch_np([graph(rng) for _ in range(7)]), 128, 256, 8) for _ in range(16)]
    params = create_model(config, deterministic=True).init(jax.random.key(0), replace_globals(batches[0]))
    net = create_model(config, deterministic=False)
    state = TrainState.create(apply_fn=net.apply, params=params, tx=create_optimizer(config))
    return jr.Task.from_step(train_step, state, batches, key={"dropout": jax.random.key(0)}, targets=["globals"])
