"""A bare step in every form in which people write it: found out how it is called, and the same numbers as by hand."""

from functools import partial

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, struct
from flax.training.train_state import TrainState

import jaxrecipe as jr
from jaxrecipe import trees

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(24, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 24).astype(np.int32)
NAMED = [{"image": INPUTS[i : i + 8], "label": LABELS[i : i + 8]} for i in range(0, 24, 8)]
PAIRS = [(batch["image"], batch["label"]) for batch in NAMED]
PARAMS = {"w": 0.1 * RNG.normal(size=(6, 3)).astype(np.float32), "b": np.zeros(3, np.float32)}


def cross_entropy(params, inputs, labels):
    logits = inputs @ params["w"] + params["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def updated(params, opt_state, inputs, labels):
    loss, grads = jax.value_and_grad(cross_entropy)(params, inputs, labels)
    updates, opt_state = OPTIMIZER.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


def in_pieces():
    @jax.jit
    def step(params, opt_state, batch):
        return updated(params, opt_state, batch["image"], batch["label"])

    return step, (PARAMS, OPTIMIZER.init(PARAMS)), NAMED


def key_first_and_batch_in_parts():
    @partial(jax.jit, donate_argnums=(1, 2))
    def step(key, params, opt_state, x, y):
        del key
        params, opt_state, loss = updated(params, opt_state, x, y)
        return loss, (params, opt_state)

    return step, (jax.tree.map(jnp.asarray, PARAMS), OPTIMIZER.init(PARAMS)), PAIRS


def batch_first():
    def step(batch, state, *, rng):
        del rng
        params, opt_state, loss = updated(state["params"], state["opt"], batch["image"], batch["label"])
        return {"params": params, "opt": opt_state}, {"loss": loss}

    return step, {"params": PARAMS, "opt": OPTIMIZER.init(PARAMS)}, NAMED


def by_name():
    @jax.jit
    def step(state, image, label):
        params, opt_state, loss = updated(state[0], state[1], image, label)
        return (params, opt_state), loss

    return step, (PARAMS, OPTIMIZER.init(PARAMS)), NAMED


def train_state():
    state = TrainState.create(apply_fn=nn.Dense(3).apply, params=PARAMS, tx=OPTIMIZER)

    @jax.jit
    def step(state, batch):
        loss, grads = jax.value_and_grad(cross_entropy)(state.params, *batch)
        return state.apply_gradients(grads=grads), {"loss": loss, "step": state.step}

    return step, state, PAIRS


def nnx_in_place():
    model = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
    model.kernel.set_value(jnp.asarray(PARAMS["w"]))
    metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"))

    @nnx.jit
    def step(model, optimizer, metrics, batch):
        def loss_of(model):
            logits = model(batch["image"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        loss, grads = nnx.value_and_grad(loss_of)(model)
        metrics.update(loss=loss)
        optimizer.update(model, grads)

    return step, (model, nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param), metrics), NAMED


def equinox_module():
    linear = eqx.nn.Linear(6, 3, key=jax.random.key(0))
    weights = jnp.asarray(PARAMS["w"].T), jnp.zeros(3)
    model = eqx.tree_at(lambda one: (one.weight, one.bias), linear, weights)

    @eqx.filter_jit
    def step(model, opt_state, x, y, key):
        del key

        def loss_of(model):
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

        loss, grads = eqx.filter_value_and_grad(loss_of)(model)
        updates, opt_state = OPTIMIZER.update(grads, opt_state)
        return eqx.apply_updates(model, updates), opt_state, loss

    return step, (model, OPTIMIZER.init(eqx.filter(model, eqx.is_array))), PAIRS


def over_devices():
    count = jax.local_device_count()
    state = {"params": PARAMS, "opt": OPTIMIZER.init(PARAMS)}

    @partial(jax.pmap, axis_name="devices")
    def step(state, batch):
        loss, grads = jax.value_and_grad(cross_entropy)(state["params"], batch["image"], batch["label"])
        updates, opt = OPTIMIZER.update(jax.lax.pmean(grads, "devices"), state["opt"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}, {"loss": loss}

    replicated = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * count), state)
    split = [jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch) for batch in NAMED]
    return step, replicated, split


FORMS = (
    in_pieces,
    key_first_and_batch_in_parts,
    batch_first,
    by_name,
    train_state,
    nnx_in_place,
    equinox_module,
    over_devices,
)


@pytest.mark.parametrize("form", FORMS)
def test_a_step_in_any_form_gives_the_numbers_that_it_gives_by_hand(form):
    step, state, batches = form()
    task = jr.Task.from_step(step, state, batches)
    inputs, targets = task.train
    assert task.batch_size == 8
    np.testing.assert_array_equal(inputs, INPUTS)
    np.testing.assert_array_equal(targets, LABELS)
    params, opt_state, losses = PARAMS, OPTIMIZER.init(PARAMS), []
    held = task.loop.init(jax.random.key(0))
    for start in (0, 8):
        batch = inputs[start : start + 8], targets[start : start + 8]
        params, opt_state, loss = updated(params, opt_state, *batch)
        held, metrics = task.loop.step(held, *batch, jax.random.key(1))
        losses.append((float(loss), float(metrics["loss"])))
    np.testing.assert_allclose(*np.array(losses).T, rtol=1e-5)
    found = [np.squeeze(leaf) for leaf in jax.tree.leaves(task.loop.variables(held)[0])]
    want = {leaf.size: leaf for leaf in params.values()}
    assert sorted(leaf.size for leaf in found) == sorted(want)
    for leaf in found:
        right = np.asarray(want[leaf.size])
        np.testing.assert_allclose(leaf, right if leaf.shape == right.shape else right.T, atol=1e-5)


@pytest.mark.parametrize("form", [train_state, nnx_in_place, equinox_module])
def test_nothing_of_the_users_is_changed_and_every_init_is_alike(form):
    step, state, batches = form()
    task = jr.Task.from_step(step, state, batches)
    first = task.loop.init(jax.random.key(0))
    before = jax.tree.map(np.asarray, first)
    task.loop.step(first, *jax.tree.map(lambda leaf: leaf[:8], task.train), jax.random.key(1))
    again = task.loop.init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, again))


def test_parameters_can_be_exchanged():
    task = jr.Task.from_step(*train_state())
    held = task.loop.init(jax.random.key(0))
    params, _ = task.loop.variables(held)
    doubled = task.loop.with_params(held, jax.tree.map(lambda leaf: 2 * leaf, params))
    np.testing.assert_array_equal(task.loop.variables(doubled)[0]["w"], 2 * PARAMS["w"])
    assert trees.paths(doubled) == trees.paths(held)


def test_a_piece_that_is_not_given_back_is_noted():
    def step(params, opt_state, batch):
        params, _, loss = updated(params, opt_state, *batch)
        return params, loss

    facts = jr.Task.from_step(step, (PARAMS, OPTIMIZER.init(PARAMS)), PAIRS).loop.facts
    assert facts is not None
    assert facts.unreturned == ("opt_state",)


def test_batches_without_a_common_axis_count_as_one_example_each():
    def step(state, batch):
        params, opt_state, loss = updated(*state, batch["x"], batch["y"])
        return (params, opt_state), {"loss": loss * batch["weight"]}

    batches = [{"x": x, "y": y, "weight": np.float32(1)} for x, y in PAIRS]
    task = jr.Task.from_step(step, (PARAMS, OPTIMIZER.init(PARAMS)), batches)
    assert task.batch_size == 1
    assert task.loop.facts is not None
    assert task.loop.facts.whole_batches
    held = task.loop.init(jax.random.key(0))
    _, metrics = task.loop.step(held, *jax.tree.map(lambda leaf: leaf[1:2], task.train), jax.random.key(0))
    np.testing.assert_allclose(metrics["loss"], cross_entropy(PARAMS, *PAIRS[1]), rtol=1e-5)


def test_a_step_may_make_its_own_data():
    def step(state, _):
        key, drawn = jax.random.split(state["key"])
        inputs = jax.random.normal(drawn, (8, 6))
        params, opt_state, loss = updated(state["params"], state["opt"], inputs, jnp.zeros(8, jnp.int32))
        return {"params": params, "opt": opt_state, "key": key}, {"loss": loss}

    state = {"params": PARAMS, "opt": OPTIMIZER.init(PARAMS), "key": jax.random.key(0)}
    task = jr.Task.from_step(step, state, None)
    assert task.loop.facts is not None
    assert task.loop.facts.whole_batches
    held = task.loop.init(jax.random.key(0))
    inputs, targets = jax.tree.map(lambda leaf: leaf[:1], task.train)
    _, metrics = task.loop.step(held, inputs, targets, jax.random.key(0))
    np.testing.assert_allclose(metrics["loss"], step(state, None)[1]["loss"], rtol=1e-6)


def test_metrics_that_the_state_gathers_are_those_of_one_step():
    @struct.dataclass
    class Metrics:
        total: jax.Array
        count: jax.Array

        @classmethod
        def empty(cls):
            return cls(jnp.float32(0), jnp.float32(0))

        def merge(self, other):
            return Metrics(self.total + other.total, self.count + other.count)

        def compute(self):
            return {"loss": self.total / self.count}

    class State(TrainState):
        metrics: Metrics

    state = State.create(apply_fn=nn.Dense(3).apply, params=PARAMS, tx=OPTIMIZER, metrics=Metrics.empty())

    @jax.jit
    def step(state, batch):
        loss, grads = jax.value_and_grad(cross_entropy)(state.params, *batch)
        state = state.apply_gradients(grads=grads)
        return state.replace(metrics=state.metrics.merge(Metrics(loss, jnp.float32(1))))

    task = jr.Task.from_step(step, state, PAIRS)
    held, batch = task.loop.init(jax.random.key(0)), jax.tree.map(lambda leaf: leaf[:8], task.train)
    held, first = task.loop.step(held, *batch, jax.random.key(0))
    _, second = task.loop.step(held, *batch, jax.random.key(0))
    np.testing.assert_allclose(first["loss"], cross_entropy(PARAMS, *PAIRS[0]), rtol=1e-6)
    assert second["loss"] < first["loss"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"batches": []}, ValueError, "no batch at all"),
        ({"batches": 3}, TypeError, "batches is a int"),
        ({"batches": [{"text": "a"}]}, TypeError, "holds a str"),
        ({"step": lambda state, batch: None}, TypeError, "gave no state"),
        ({"step": lambda: None}, TypeError, "no usual order"),
        ({"params": "missing"}, ValueError, "has no missing"),
        ({"loss": "missing"}, ValueError, "gives no 'missing'"),
        ({"targets": "missing"}, ValueError, "has no missing"),
    ],
)
def test_what_cannot_be_a_step_is_refused(change, error, words):
    step, state, batches = batch_first()
    given = {"step": step, "state": state, "batches": batches, **change}
    with pytest.raises(error, match=words):
        jr.Task.from_step(**given)


def test_the_recipe_runs_on_a_bare_step():
    report = jr.check(jr.Task.from_step(*in_pieces()), only=["fix_random_seed", "loss_at_init", "labels"])
    found = {result.name: result for result in report.results}
    assert found["fix_random_seed"].status is jr.Status.PASS
    assert found["loss_at_init"].status is jr.Status.SKIP
    assert "Task(model=" in found["loss_at_init"].summary
    assert any("step(*state, batch)" in note for note in report.notes)


def test_numbers_of_python_that_come_back_as_they_were_are_part_of_the_structure():
    class Model(eqx.Module):
        width: int
        end: float
        kernel: jax.Array

        def __call__(self, x):
            return jnp.concatenate([x, jnp.zeros(self.width)]) @ self.kernel / self.end

    tx, model = optax.sgd(0.1), Model(1, 10.0, jnp.ones((3, 1)))

    @eqx.filter_jit
    def step(model, opt, x, y):
        loss, grads = eqx.filter_value_and_grad(lambda one: ((jax.vmap(one)(x)[:, 0] - y) ** 2).mean())(model)
        updates, opt = tx.update(grads, opt)
        return eqx.apply_updates(model, updates), opt, loss

    batches = [(np.ones((4, 2), np.float32), np.ones(4, np.float32))] * 2
    state = (model, tx.init(eqx.filter(model, eqx.is_inexact_array)))
    task = jr.Task.from_step(step, state, batches)
    assert task.loop is not None
    first = task.loop.init(jax.random.key(0))
    assert set(first["model"]) == {"kernel"}
    x, y = (jnp.asarray(part) for part in batches[0])
    made = jax.eval_shape(task.loop.step, first, x, y, jax.random.key(0))
    assert jax.tree.structure(made[0]) == jax.tree.structure(first)


def test_keys_by_name():
    def step(state, x, keys):
        return state + jax.random.normal(keys["dropout"]) + jax.random.normal(keys["noise"][0]) * x.mean()

    key = {"dropout": jax.random.PRNGKey(0), "noise": jax.random.split(jax.random.key(0), 1)}
    task = jr.Task.from_step(step, jnp.zeros(()), [np.ones(4, np.float32)], key=key, targets=None)
    assert task.loop is not None
