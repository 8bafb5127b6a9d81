"""Exact evaluation against a loop over single examples in float64."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.compiles import counting_compiles
from jaxrecipe.training.evaluation import evaluate
from jaxrecipe.training.steps import new_state


def one_by_one(task: Any, params: Any, model_state: Any, data: Any) -> tuple[list[float], list[float]]:
    """Loss and hit of each example, in numpy float64."""
    w, b, mean = (np.asarray(leaf, np.float64) for leaf in (params["w"], params["b"], model_state["mean"]))
    losses, hits = [], []
    for row, label in zip(*data, strict=True):
        logits = (row.astype(np.float64) / 127.5 - 1 - mean) @ w + b
        losses.append(float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]))
        hits.append(float(np.argmax(logits) == label))
    return losses, hits


def trained(task: Any) -> tuple[Any, Any]:
    """Parameters and a model state that are far from their initial zeros."""
    state = new_state(task)
    key = jax.random.key(5)
    params = jax.tree.map(lambda leaf: leaf + jax.random.normal(key, leaf.shape), state.params)
    return params, {"mean": jnp.linspace(-0.5, 0.5, 6)}


@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 100])
def test_every_example_counts_once(make_task: Any, batch_size: int) -> None:
    task = make_task()
    params, model_state = trained(task)
    found = evaluate(task, params, model_state, batch_size=batch_size)
    losses, hits = one_by_one(task, params, model_state, task.test)
    np.testing.assert_allclose(found.losses, losses, rtol=2e-5, atol=1e-6)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["accuracy"].value == np.mean(hits)
    assert (found.size, found["accuracy"].n, found["accuracy"].method, found["loss"].method) == (23, 23, "wilson", "t")
    assert list(found.values) == ["loss", "accuracy"]


@given(size=st.integers(1, 40), batch_size=st.integers(1, 45), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=10)
def test_batch_size_and_order_change_nothing(size: int, batch_size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(-9, 9, (size, 2)).astype(np.float32), rng.integers(0, 2, size).astype(np.float32)
    order = rng.permutation(size)
    task, params = exact_task(data)
    straight = evaluate(task, params, {})
    shuffled = evaluate(task, params, {}, (data[0][order], data[1][order]), batch_size=batch_size)
    assert straight.values == shuffled.values
    np.testing.assert_array_equal(straight.losses[order], shuffled.losses)


def exact_task(data: Any) -> Any:
    """A set-up in which float32 makes no rounding error, so that results must be equal to the last bit."""
    import optax

    from jaxrecipe.parts import Model
    from jaxrecipe.targets import Values
    from jaxrecipe.task import Task

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return inputs.sum(axis=1) * params, state

    return (
        Task(
            model=Model(lambda key, inputs: (jnp.ones(()), {}), apply),
            loss=lambda outputs, targets: jnp.square(outputs - targets),
            optimizer=optax.sgd(0.1),
            train=data,
            test=data,
            target=Values(),
            batch_size=16,
        ),
        jnp.float32(2.0),
    )


def test_data_that_are_read_by_index(make_task: Any) -> None:
    task = make_task()
    params, model_state = trained(task)
    items = [(inputs, targets) for inputs, targets in zip(*task.test, strict=True)]
    assert evaluate(task, params, model_state, items).values == evaluate(task, params, model_state).values


def test_prepares_but_never_augments_and_uses_evaluation_mode(make_task: Any) -> None:
    modes: list[Any] = []
    task = make_task(augment=lambda key, inputs, targets: pytest.fail("augmented"))
    plain = task.model.apply

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        modes.append((train, key, inputs.dtype))
        return plain(params, state, inputs, train=train, key=key)

    params, model_state = trained(task)
    evaluate(task.replace(model=replace(task.model, apply=apply)), params, model_state)
    assert modes == [(False, None, jnp.float32)]


def test_one_program_and_none_for_the_next_evaluation(make_task: Any) -> None:
    traced: list[int] = []
    task = make_task()
    plain = task.loss

    def loss(outputs: Any, targets: Any) -> Any:
        traced.append(outputs.shape[0])
        return plain(outputs, targets)

    task = task.replace(loss=loss, metrics={})
    params, model_state = trained(task)
    evaluate(task, params, model_state)
    assert traced == [8]
    others = jax.tree.map(lambda leaf: -leaf, params)
    with counting_compiles() as compiles:
        evaluate(task, others, model_state)
    assert (traced, compiles.programs) == ([8], 0)


def test_policy_is_applied(make_task: Any) -> None:
    task = make_task()
    params, model_state = trained(task)
    full = evaluate(task, params, model_state)
    half = evaluate(task.replace(policy="bfloat16"), params, model_state)
    assert half.losses.dtype == np.float32
    assert 0 < np.abs(half.losses - full.losses).max() < 0.2


def test_means_are_taken_in_float64(make_task: Any) -> None:
    # In float32 (or as a mean of batch means) the small losses would vanish beside the large ones.
    data = (np.zeros((4000, 2), np.float32), np.where(np.arange(4000) < 4, 4096.0, 0.125).astype(np.float32))
    task, params = exact_task(data)
    exact = (4 * 4096.0**2 + 3996 * 0.125**2) / 4000
    assert evaluate(task, params, {}).loss == exact


def test_rejects_what_gives_no_number_an_example(make_task: Any) -> None:
    task = make_task(loss=lambda outputs, targets: outputs.sum(), metrics={"pairs": lambda outputs, targets: outputs})
    with pytest.raises(ValueError, match=r"\[8\], but loss gave \[\], pairs gave \[8, 3\]"):
        evaluate(task, *trained(task))
    with pytest.raises(ValueError, match="no test data"):
        evaluate(make_task(test=None), *trained(task))
    with pytest.raises(ValueError, match='called "loss"'):
        evaluate(make_task(metrics={"loss": make_task().loss}), *trained(task))


def test_a_callable_without_a_hash_will_do(make_task: Any) -> None:
    class Loss:
        __hash__ = None  # pyright: ignore[reportAssignmentType]

        def __call__(self, outputs: Any, targets: Any) -> Any:
            return make_task().loss(outputs, targets)

    task = make_task()
    params, model_state = trained(task)
    assert evaluate(task.replace(loss=Loss()), params, model_state).loss == evaluate(task, params, model_state).loss


def test_nan_in_one_example_is_not_hidden(make_task: Any) -> None:
    task = make_task()
    params, model_state = trained(task)
    data = task.test[0].astype(np.float32), task.test[1]
    data[0][3] = np.nan
    found = evaluate(task, params, model_state, data)
    assert np.isnan(found.loss)
    assert list(np.flatnonzero(np.isnan(found.losses))) == [3]
