"""The loop written by hand is right as it stands: exact evaluation, whole checkpoints, an epoch in another order each
time."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.catalogue import bases
from jaxrecipe.catalogue.own_loop import with_own_loop


def test_evaluation_counts_every_example_once() -> None:
    task = with_own_loop(bases.three_parameters(0))
    loop: Any = task.loop
    state = loop.init(jax.random.key(0))
    x, y = task.test
    kernel, bias = (np.asarray(state["params"]["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    wanted = np.mean(((x.astype(np.float64) @ kernel + bias)[:, 0] - y) ** 2)
    for size in (1, 7, 1000):
        assert loop.evaluate(state, jnp.asarray(x), jnp.asarray(y), size)["loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_checkpoint_holds_everything(tmp_path: Path) -> None:
    loop: Any = with_own_loop(bases.three_parameters(0)).loop
    x, y = bases.three_parameters(0).train
    moved, _ = loop.step(loop.init(jax.random.key(0)), jnp.asarray(x[:32]), jnp.asarray(y[:32]), jax.random.key(1))
    loop.save(moved, str(tmp_path))
    back = loop.restore(str(tmp_path), loop.init(jax.random.key(5)))
    jax.tree.map(np.testing.assert_array_equal, moved, back)


def test_batches_are_an_epoch_in_another_order_each_time() -> None:
    task = with_own_loop(bases.three_parameters(0))
    loop: Any = task.loop
    first, second = ([inputs for inputs, _ in loop.batches(epoch)] for epoch in (0, 1))
    assert not np.array_equal(first[0], second[0])
    rows = np.concatenate(first)
    assert len(rows) == len(task.train[0]) // 32 * 32
    assert len(np.unique(rows, axis=0)) <= len(rows)
