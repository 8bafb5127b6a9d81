"""Each edit changes the one part that it names and leaves everything else, and the task itself, as it was."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import bases, edits, model, models
from jaxrecipe.task import Task


@pytest.fixture(scope="module")
def task() -> Task:
    return bases.three_parameters(0)


def run(task: Task, params: Any, inputs: Any) -> np.ndarray:
    return np.asarray(task.model.apply(params, {}, inputs, train=False, key=None)[0])


def test_outputs_and_inputs_are_changed_behind_and_before_the_model(task: Task) -> None:
    x = jnp.asarray(task.train[0][:4])
    params, _ = task.model.init(jax.random.key(0), x)
    kernel, bias = (np.asarray(params["Dense_0"][name]) for name in ("kernel", "bias"))
    by_hand = (np.asarray(x) @ kernel + bias)[:, 0]
    np.testing.assert_allclose(run(edits.on_outputs(task, lambda y: 2 * y), params, x), 2 * by_hand, rtol=1e-5)
    shifted = ((np.asarray(x) + 1) @ kernel + bias)[:, 0]
    np.testing.assert_allclose(run(edits.on_inputs(task, lambda x: x + 1), params, x), shifted, rtol=1e-5)
    np.testing.assert_allclose(run(task, params, x), by_hand, rtol=1e-5)


def test_kernels_are_changed_and_biases_are_not() -> None:
    task = bases.table_mlp(0).replace(model=linen(models.Dense(bias_init=jax.nn.initializers.constant(0.5))))
    x = jnp.asarray(task.train[0][:2])
    before, _ = task.model.init(jax.random.key(0), x)
    after, _ = edits.on_kernels(task, jnp.zeros_like).model.init(jax.random.key(0), x)
    for layer in before:
        np.testing.assert_array_equal(after[layer]["kernel"], 0)
        np.testing.assert_array_equal(after[layer]["bias"], before[layer]["bias"])
        assert after[layer]["kernel"].shape == before[layer]["kernel"].shape


def test_data_are_changed_in_the_split_that_is_named(task: Task) -> None:
    def twice(x: Any, y: Any) -> tuple[Any, Any]:
        return 2 * x, y

    for edit, changed in (
        (edits.on_train, ("train",)),
        (edits.on_test, ("test",)),
        (edits.on_both, ("train", "test")),
    ):
        edited = edit(task, twice)
        for split in ("train", "test"):
            factor = 2 if split in changed else 1
            np.testing.assert_array_equal(getattr(edited, split)[0], factor * getattr(task, split)[0])


def test_a_frozen_layer_stays_and_the_others_move() -> None:
    params = {name: {"kernel": jnp.ones(3, jnp.float32)} for name in ("Dense_0", "Dense_1")}
    optimizer = edits.frozen(optax.sgd(0.5), "Dense_0")
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["Dense_0"]["kernel"], 0)
    np.testing.assert_array_equal(updates["Dense_1"]["kernel"], -0.5)


def test_reshape_for_transpose_takes_rows_from_other_images() -> None:
    """By a loop: what the first image becomes is the first row of eight images."""
    task, seen = bases.recurrent(0), []
    spy = task.replace(
        model=task.model.__class__(
            init=task.model.init,
            apply=lambda params, state, inputs, *, train, key: (seen.append(np.asarray(inputs)), state),
        )
    )
    images = np.asarray(task.train[0][:16], np.float32)
    model.reshape_for_transpose(spy).model.apply({}, {}, jnp.asarray(images), train=False, key=None)
    rows = [images[image, row] for row in range(8) for image in range(16)]
    np.testing.assert_array_equal(seen[0][0], np.stack(rows[:8]))
