"""The training step against loops written out in numpy and plain optax."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.compiles import counting_compiles
from jaxrecipe.data.batches import Batch
from jaxrecipe.parts import Model
from jaxrecipe.precision.loss_scale import dynamic_loss_scale, static_loss_scale
from jaxrecipe.precision.memory import step_memory
from jaxrecipe.training.step import last_bad_path, make_train_step, masked_mean
from jaxrecipe.training.steps import new_state


def batch_of(task: Any, indices: Any, mask: Any = None) -> Batch:
    inputs, targets = task.train
    counted = np.ones(len(indices), bool) if mask is None else np.asarray(mask)
    return Batch(jnp.asarray(inputs[indices]), jnp.asarray(targets[indices]), jnp.asarray(counted))


def numpy_gradients(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss and gradients of softmax regression, one example after the other, in float64."""
    loss, dw, db = 0.0, np.zeros_like(w), np.zeros_like(b)
    for row, label in zip(x, y, strict=True):
        logits = row @ w + b
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        loss -= np.log(shares[label])
        error = shares - np.eye(len(b))[label]
        dw += np.outer(row, error)
        db += error
    return loss / len(x), dw / len(x), db / len(x)


def norm(*arrays: np.ndarray) -> float:
    return float(np.sqrt(sum((array**2).sum() for array in arrays)))


def test_steps_are_those_of_a_float64_loop_with_momentum(make_task: Any) -> None:
    task = make_task(noisy=False, optimizer=optax.sgd(0.3, momentum=0.9))
    state = new_state(task)
    w, b = (np.asarray(state.params[name], np.float64) for name in ("w", "b"))
    velocity = [np.zeros_like(w), np.zeros_like(b)]
    step = jax.jit(make_train_step(task))
    for taken in range(6):
        indices = np.arange(taken, taken + 8)
        # The last two rows do not count, so the oracle never sees them.
        state, metrics = step(state, batch_of(task, indices, [True] * 6 + [False] * 2))
        x = task.train[0][indices[:6]].astype(np.float64) / 127.5 - 1
        loss, dw, db = numpy_gradients(w, b, x, task.train[1][indices[:6]])
        velocity = [0.9 * velocity[0] + dw, 0.9 * velocity[1] + db]
        w, b = w - 0.3 * velocity[0], b - 0.3 * velocity[1]
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(metrics["grad_norm"], norm(dw, db), rtol=1e-5)
        np.testing.assert_allclose(metrics["update_norm"], 0.3 * norm(*velocity), rtol=1e-5)
        np.testing.assert_allclose(metrics["param_norm"], norm(w, b), rtol=1e-5)
        assert metrics["count"] == 6
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.params["b"], b, rtol=1e-5, atol=1e-6)
    assert int(state.step) == 6


def test_random_stateful_step_is_that_of_a_plain_optax_loop(make_task: Any) -> None:
    task = make_task()
    state = new_state(task, seed=3)
    params, model_state, opt_state = state.params, state.model_state, task.optimizer.init(state.params)
    step = jax.jit(make_train_step(task))
    for taken in range(5):
        indices = np.arange(8) + taken
        state, metrics = step(state, batch_of(task, indices))
        augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, taken))
        x, y = task.prepare(jnp.asarray(task.train[0][indices]), jnp.asarray(task.train[1][indices]))
        x, y = task.augment(augment_key, x, y)

        def mean_loss(params: Any, x: Any = x, y: Any = y, before: Any = model_state, key: Any = model_key) -> Any:
            logits, after = task.model.apply(params, before, x, train=True, key=key)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), after

        (loss, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = task.optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    for ours, plain in ((state.params, params), (state.model_state, model_state)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, plain)


def test_masked_rows_have_no_influence(make_task: Any) -> None:
    task = make_task(noisy=False)
    mask = [True] * 5 + [False] * 3
    step = jax.jit(make_train_step(task))
    one, _ = step(new_state(task), batch_of(task, [0, 1, 2, 3, 4, 10, 11, 12], mask))
    other, _ = step(new_state(task), batch_of(task, [0, 1, 2, 3, 4, 20, 21, 22], mask))
    alone, _ = step(new_state(task), batch_of(task, [0, 1, 2, 3, 4]))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one.params, alone.params)


def test_masked_mean_ignores_nan_and_passes_it_no_gradient() -> None:
    values = jnp.array([1.0, 2.0, jnp.nan, jnp.inf])
    mask = jnp.array([True, True, False, False])
    mean, gradient = jax.value_and_grad(masked_mean)(values, mask)
    assert float(mean) == 1.5
    np.testing.assert_array_equal(gradient, [0.5, 0.5, 0.0, 0.0])


def test_masked_mean_of_nothing_is_zero() -> None:
    assert float(masked_mean(jnp.array([jnp.nan]), jnp.array([False]))) == 0.0


@pytest.mark.parametrize("loss_scale", [static_loss_scale(8.0), dynamic_loss_scale(init_scale=8.0)])
def test_a_skipped_step_keeps_everything_but_step_and_scale(make_task: Any, same: Any, loss_scale: Any) -> None:
    task = make_task(loss_scale=loss_scale, prepare=lambda x, y: (x.astype(jnp.float32), y), augment=None)
    step = jax.jit(make_train_step(task))
    before, _ = step(new_state(task), batch_of(task, np.arange(8)))
    good = batch_of(task, np.arange(8))
    bad = good._replace(inputs=good.inputs.astype(jnp.float32).at[0].set(jnp.inf))
    after, metrics = step(before, bad)
    kept = ("params", "model_state", "opt_state", "key")
    assert all(same(getattr(before, name), getattr(after, name)) for name in kept)
    assert int(after.step) == int(before.step) + 1
    assert (float(metrics["skipped"]), float(metrics["skipped_in_a_row"]), float(metrics["update_norm"])) == (1, 1, 0)
    assert float(after.loss_scale.scale) == (4.0 if loss_scale.kind == "dynamic" else 8.0)
    again, metrics = step(after, good)
    assert not same(again.params, after.params)
    assert (float(metrics["skipped"]), float(metrics["skipped_in_a_row"])) == (1, 0)


def test_the_offending_leaf_is_named(make_task: Any) -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        # The square root has an infinite slope at 0, which the zero-initialised bias is at.
        return outputs["kept"].sum(axis=1) + outputs["rooted"]

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        rooted = jnp.broadcast_to(jnp.sqrt(params["b"]).sum(), inputs.shape[:1])
        return {"kept": inputs @ params["w"], "rooted": rooted}, state

    task = make_task(noisy=False, loss=loss, metrics={}, loss_scale=dynamic_loss_scale(init_scale=2.0))
    task = task.replace(model=replace(task.model, apply=apply))
    state, _ = jax.jit(make_train_step(task))(new_state(task), batch_of(task, np.arange(8)))
    assert last_bad_path(state) == "gradients/b"
    assert last_bad_path(new_state(task)) is None


def test_without_a_loss_scale_a_nan_stays_loud(make_task: Any) -> None:
    task = make_task(prepare=lambda x, y: (x.astype(jnp.float32) * jnp.nan, y))
    state, metrics = jax.jit(make_train_step(task))(new_state(task), batch_of(task, np.arange(8)))
    assert np.isnan(metrics["loss"])
    assert np.isnan(state.params["w"]).all()


def test_a_power_of_two_as_loss_scale_changes_no_bit(make_task: Any, same: Any) -> None:
    plain = make_task()
    scaled = plain.replace(loss_scale=static_loss_scale(1024.0))
    states = []
    for task in (plain, scaled):
        state, step = new_state(task), jax.jit(make_train_step(task))
        for taken in range(3):
            state, metrics = step(state, batch_of(task, np.arange(8) + taken))
        states.append((state.params, metrics["loss"], metrics["grad_norm"]))
    assert same(*states)


def test_randomness_follows_from_key_and_step_alone(make_task: Any, same: Any) -> None:
    task = make_task()
    step = jax.jit(make_train_step(task))
    fresh, batch = new_state(task), batch_of(task, np.arange(8))
    at_seven = replace(fresh, step=jnp.int32(7))
    assert same(step(at_seven, batch)[0].params, step(at_seven, batch)[0].params)
    assert not same(step(at_seven, batch)[0].params, step(fresh, batch)[0].params)
    other_key = replace(fresh, key=jax.random.key(99))
    assert not same(step(other_key, batch)[0].params, step(fresh, batch)[0].params)


def test_prepare_comes_before_augment_which_sees_another_key_than_the_model(make_task: Any) -> None:
    seen: dict[str, Any] = {}

    def augment(key: Any, inputs: Any, targets: Any) -> Any:
        seen["augment"] = (key, inputs.dtype)
        return inputs, targets

    task = make_task(augment=augment)
    plain_apply = task.model.apply

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        seen["model"] = key
        return plain_apply(params, state, inputs, train=train, key=key)

    task = task.replace(model=replace(task.model, apply=apply))
    with jax.disable_jit():
        make_train_step(task)(new_state(task), batch_of(task, np.arange(8)))
    assert seen["augment"][1] == jnp.float32
    assert not np.array_equal(jax.random.key_data(seen["augment"][0]), jax.random.key_data(seen["model"]))


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
def test_half_precision_keeps_float32_masters_and_metrics(make_task: Any, policy: str) -> None:
    task = make_task(policy=policy, loss_scale=dynamic_loss_scale(init_scale=2.0**8))
    state, metrics = jax.jit(make_train_step(task))(new_state(task), batch_of(task, np.arange(8)))
    floating = [leaf for leaf in jax.tree.leaves((state.params, state.model_state)) if leaf.ndim]
    assert {leaf.dtype for leaf in floating} == {np.dtype("float32")}
    assert {metric.dtype for metric in metrics.values()} == {np.dtype("float32")}
    assert {metric.shape for metric in metrics.values()} == {()}


def test_one_compile_for_all_steps(make_task: Any) -> None:
    task = make_task(loss_scale=dynamic_loss_scale(growth_interval=2))
    step = jax.jit(make_train_step(task))
    state, batches = new_state(task), [batch_of(task, np.arange(8) + taken) for taken in range(4)]
    state, _ = step(state, batches[0])
    with counting_compiles() as compiles:
        for batch in batches[1:]:
            state, _ = step(state, batch)
    assert compiles.programs == 0


@pytest.mark.parametrize("bad", [False, True])
def test_branch_and_choice_take_the_same_step(make_task: Any, same: Any, monkeypatch: Any, bad: bool) -> None:
    """What runs on a CPU and what runs elsewhere are two ways to write one decision."""
    task = make_task(
        loss_scale=dynamic_loss_scale(init_scale=8.0), prepare=lambda x, y: (x.astype(jnp.float32), y), augment=None
    )
    batch = batch_of(task, np.arange(8))
    batch = batch._replace(inputs=batch.inputs.astype(jnp.float32).at[0].set(jnp.nan if bad else 1.0))
    branch, branch_metrics = jax.jit(make_train_step(task))(new_state(task), batch)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, default, **_: default(*given))
    text = jax.jit(make_train_step(task)).lower(new_state(task), batch).as_text()
    assert "stablehlo.case" not in text  # a branch would make a GPU wait for the host
    choice, choice_metrics = jax.jit(make_train_step(task))(new_state(task), batch)
    assert int(branch.loss_scale.skipped) == bad
    assert same(branch.loss_scale, choice.loss_scale)
    for name in ("params", "model_state", "opt_state"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
            getattr(branch, name),
            getattr(choice, name),
        )
    for name, value in branch_metrics.items():
        np.testing.assert_allclose(value, choice_metrics[name], rtol=1e-5)


def test_gradients_whose_squares_overflow_are_not_skipped(make_task: Any) -> None:
    """Finite gradients of 1e25: their norm is infinite in float32, and the exact check decides."""
    task = make_task(noisy=False, loss_scale=dynamic_loss_scale(init_scale=1.0), optimizer=optax.sgd(1e-20))
    task = task.replace(loss=lambda outputs, targets: 1e25 * outputs.sum(axis=-1))
    after, metrics = jax.jit(make_train_step(task))(new_state(task), batch_of(task, np.arange(8)))
    assert not np.isfinite(metrics["grad_norm"])
    assert int(after.loss_scale.skipped) == 0
    assert float(metrics["update_norm"]) > 0


def test_an_optimizer_that_changes_a_dtype_is_named(make_task: Any) -> None:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return updates, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)

    changing = optax.GradientTransformation(lambda params: {"mean": jnp.zeros(3)}, update)
    task = make_task(loss_scale=dynamic_loss_scale(), optimizer=changing)
    with pytest.raises(ValueError, match="mean, bfloat16"):
        jax.jit(make_train_step(task))(new_state(task), batch_of(task, np.arange(8)))


def test_scaling_needs_no_second_copy_of_the_optimizer_state(make_task: Any) -> None:
    """A choice between old and new moments once made XLA copy all of them on the CPU."""
    wide = make_task(noisy=False)
    data = (np.zeros((8, 512), np.float32), np.zeros(8, np.int32))

    def init(key: Any, inputs: Any) -> Any:
        return {"w": jnp.ones((512, 512))}, {}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return inputs @ params["w"], state

    task = wide.replace(
        model=Model(init, apply), optimizer=optax.adam(1e-3), train=data, prepare=None, augment=None, metrics={}
    )
    batch = Batch(*(jnp.asarray(part) for part in data), jnp.ones(8, bool))
    scaled = task.replace(loss_scale=dynamic_loss_scale())
    plain, more = (step_memory(make_train_step(one), new_state(one), batch).temporaries for one in (task, scaled))
    assert more - plain < 1.5 * 512 * 512 * 4
