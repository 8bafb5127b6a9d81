"""Loss scaling inside the training step: what a skipped step may change, and what it may not."""

import subprocess
import sys
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe import trees
from jaxrecipe.adapters import linen
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.data.batches import Batch
from jaxrecipe.precision.loss_scale import dynamic_loss_scale, no_loss_scale, static_loss_scale
from jaxrecipe.task import Task
from jaxrecipe.training.state import init_state
from jaxrecipe.training.step import last_bad_path, make_train_step


class Counted(NamedTuple):
    """An optax state that counts the calls, like a schedule or an average of the weights."""

    calls: jax.Array
    average: object


def averaging():
    """Counts its calls and keeps a running mean of the parameters: both must stand still on a skipped step."""

    def init(params):
        return Counted(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        average = jax.tree.map(lambda old, new: jnp.float32(0.9) * old + jnp.float32(0.1) * new, state.average, params)
        return updates, Counted(state.calls + jnp.int32(1), average)

    return optax.GradientTransformation(init, update)


class Net(nn.Module):
    """BatchNorm with float32 inputs, so that strict promotion holds; a linear layer that the policy decides about."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = nn.BatchNorm(use_running_average=not train, dtype=jnp.float32)(x.astype(jnp.float32))
        return nn.Dense(2)(x.astype(jnp.float32))


def squares(outputs, targets):
    return jnp.sum(jnp.square(outputs - targets), axis=-1)


def make_task(**changes):
    defaults = {
        "model": linen(Net()),
        "loss": squares,
        "optimizer": optax.chain(optax.adam(optax.linear_schedule(1e-2, 0.0, 10)), averaging()),
        "train": (np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)),
        "batch_size": 8,
    }
    return Task(**(defaults | changes))


def batch(*, bad=False):
    inputs = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
    targets = np.full((8, 2), np.inf if bad else 1.0, np.float32)
    return Batch(jnp.asarray(inputs), jnp.asarray(targets), jnp.ones(8, bool))


def begin(task):
    return init_state(task, jax.random.key(0), batch().inputs)


def equal(left, right):
    data = [jax.random.key_data(k) if jnp.issubdtype(k.dtype, jax.dtypes.prng_key) else k for k in (left, right)]
    return np.array_equal(*data)


def same(left, right):
    return all(jax.tree.leaves(jax.tree.map(equal, left, right)))


ACCUMULATED = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=2).gradient_transformation()
OPTIMIZERS = {
    "adam with a schedule and averages": make_task().optimizer,
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
    "clipped by value": optax.chain(optax.clip(1.0), optax.sgd(0.1)),
    "accumulated": ACCUMULATED,
    "frozen": optax.multi_transform(
        {"train": optax.adam(0.1), "freeze": optax.set_to_zero()},
        lambda params: {name: "freeze" if "Norm" in name else "train" for name in params},
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_step_moves_only_step_and_scale(name):
    task = make_task(optimizer=OPTIMIZERS[name], loss_scale=dynamic_loss_scale())
    step = jax.jit(make_train_step(task))
    before, _ = step(begin(task), batch())
    after, metrics = step(before, batch(bad=True))
    for field in ("params", "model_state", "opt_state", "key"):
        assert same(getattr(before, field), getattr(after, field)), field
    assert int(after.step) == int(before.step) + 1
    assert float(after.loss_scale.scale) == float(before.loss_scale.scale) / 2
    assert (float(metrics["skipped"]), float(metrics["skipped_in_a_row"])) == (1, 1)
    assert last_bad_path(after).startswith("gradients/")
    good, metrics = step(after, batch())
    assert np.isfinite([np.abs(leaf).max() for leaf in jax.tree.leaves(good.params)]).all()
    assert float(metrics["skipped_in_a_row"]) == 0
    assert name == "accumulated" or not same(good.params, before.params)


def test_good_steps_go_on_as_if_the_bad_one_had_not_been():
    task = make_task(loss_scale=dynamic_loss_scale())
    step = jax.jit(make_train_step(task))
    with_bad, without = begin(task), begin(task)
    for bad in (False, True, False, True, True, False):
        with_bad, _ = step(with_bad, batch(bad=bad))
    for _ in range(3):
        without, _ = step(without, batch())
    for field in ("params", "model_state", "opt_state"):
        assert same(getattr(with_bad, field), getattr(without, field)), field


def test_without_a_loss_scale_a_nan_stays_loud():
    task = make_task(loss_scale=no_loss_scale())
    after, metrics = jax.jit(make_train_step(task))(begin(task), batch(bad=True))
    assert not trees.all_finite(after.params)
    assert not np.isfinite(metrics["loss"])


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([2.0**exponent for exponent in range(-4, 13)]), st.booleans())
def test_the_scale_leaves_no_trace_in_float32(scale, dynamic):
    """Static or growing at every step: parameters are those of a run without scaling, to the last bit."""
    loss_scale = (
        dynamic_loss_scale(init_scale=scale, min_scale=scale, growth_interval=1)
        if dynamic
        else static_loss_scale(scale)
    )
    scaled, plain = begin(TASK), begin(TASK)
    scaled = type(scaled)(
        *(getattr(scaled, f) for f in ("step", "params", "model_state", "opt_state")), loss_scale, scaled.key
    )
    for _ in range(3):
        scaled, _ = STEP(scaled, batch())
        plain, _ = STEP(plain, batch())
    for left, right in zip(jax.tree.leaves(scaled.params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_allclose(left, right, rtol=2e-6, atol=1e-8)


TASK = make_task()
STEP = jax.jit(make_train_step(TASK))


def test_statistics_that_overflow_are_caught_and_named():
    """Inputs that overflow only the statistics: gradients may be finite, the running variance is not."""

    class Watching(nn.Module):
        @nn.compact
        def __call__(self, x, *, train: bool):
            seen = self.variable("stats", "largest", lambda: jnp.float32(0))
            if train and not self.is_initializing():
                seen.value = jnp.float32(1) / (x.max() - x.max())
            return nn.Dense(2)(x)

    task = make_task(model=linen(Watching()), loss_scale=dynamic_loss_scale())
    before = begin(task)
    after, _ = jax.jit(make_train_step(task))(before, batch())
    assert same(before.model_state, after.model_state)
    assert last_bad_path(after) == "model_state/stats/largest"


@pytest.mark.parametrize("donate", [True, False])
def test_one_program_for_all_static_scales_and_every_later_call(donate):
    task = make_task(loss_scale=static_loss_scale(64.0))
    step = jax.jit(make_train_step(task), donate_argnums=0 if donate else ())
    state, data = begin(task), batch()
    jax.block_until_ready(step(trees.copy(state), data))
    with counting_compiles() as compiles:
        for scale in (64.0, 128.0, 256.0):
            again = begin(task.replace(loss_scale=static_loss_scale(scale)))
            compiles.programs = 0
            for _ in range(3):
                again, _ = step(again, data)
            assert compiles.programs == 0


def test_a_dynamic_step_is_one_program_without_a_callback():
    task = make_task(loss_scale=dynamic_loss_scale())
    step = jax.jit(make_train_step(task))
    state, data = begin(task), batch()
    assert "callback" not in str(jax.make_jaxpr(make_train_step(task))(state, data))
    state, _ = step(state, data)
    with counting_compiles() as compiles:
        for _ in range(4):
            state, _ = step(state, data)
    assert compiles.programs == 0


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_overflow_in_half_is_survived(half):
    """Targets near float16's end: at scale 2**15 the backward pass overflows until the scale has come down."""
    model = linen(nn.Dense(2))
    task = make_task(
        model=model, optimizer=optax.sgd(1e-3), policy=half, loss_scale=dynamic_loss_scale(min_scale=2.0**-10)
    )
    step = jax.jit(make_train_step(task))
    state = begin(task)
    large = batch()._replace(targets=jnp.full((8, 2), 300.0, jnp.float32))
    losses = []
    for _ in range(40):
        state, metrics = step(state, large)
        losses.append(float(metrics["loss"]))
    skipped = int(state.loss_scale.skipped)
    assert (skipped > 3) if half == "float16" else (skipped == 0)
    assert losses[-1] < losses[0]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))


def test_scan_over_steps_agrees_with_the_loop():
    task = make_task(loss_scale=dynamic_loss_scale(growth_interval=2))
    step = make_train_step(task)
    batches = [batch(bad=bad) for bad in (False, False, True, False)]
    looped = begin(task)
    for one in batches:
        looped, _ = jax.jit(step)(looped, one)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    scanned, _ = jax.jit(partial(jax.lax.scan, step))(begin(task), stacked)
    assert same(looped.loss_scale, scanned.loss_scale)
    for left, right in zip(jax.tree.leaves(looped.params), jax.tree.leaves(scanned.params), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)


SHARDED = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec as P, AxisType
from jaxrecipe.data.batches import Batch
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.parts import Model
from jaxrecipe.task import Task
from jaxrecipe.training.state import init_state
from jaxrecipe.training.step import make_train_step

model = Model(lambda key, x: ({"w": jnp.ones((3, 2))}, {}), lambda p, s, x, *, train, key: (x @ p["w"], s))
task = Task(model=model, loss=lambda o, t: jnp.sum((o - t) ** 2, -1), optimizer=optax.adam(0.1),
            train=(np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)), loss_scale=dynamic_loss_scale())
mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
split, whole = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
targets = np.ones((8, 2), np.float32)
targets[7] = np.inf  # on the last device only
batch = Batch(np.ones((8, 3), np.float32), targets, np.ones(8, bool))
before = jax.device_put(init_state(task, jax.random.key(0), batch.inputs), whole)
after, _ = jax.jit(make_train_step(task))(before, jax.device_put(batch, split))
shards = [np.asarray(s.data) for s in after.params["w"].addressable_shards]
assert len(shards) == 4 and all((s == 1).all() for s in shards), shards
assert [float(s.data) for s in after.loss_scale.scale.addressable_shards] == [2.0**14] * 4
assert int(after.loss_scale.skipped) == 1
"""


@pytest.mark.slow
def test_one_decision_for_all_devices():
    """Only the last of four devices sees the overflow; all of them skip."""
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("float32", "float32"),
        ("bfloat16", "float32"),
        ("params=bfloat16,compute=bfloat16", "bfloat16"),
        ("params=float16,compute=float16,output=float16", "float16"),
    ],
)
def test_parameters_are_kept_in_the_dtype_of_the_policy_before_and_after_a_step(policy, kept):
    task = make_task(policy=policy, optimizer=optax.sgd(0.1))
    state = begin(task)
    with jax.numpy_dtype_promotion("standard"):  # the net's own inputs are float32, its parameters are not
        after, _ = jax.jit(make_train_step(task))(state, batch())
    for params in (state.params, after.params):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {kept}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(after.model_state)} == {"float32"}
