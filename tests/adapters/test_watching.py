"""What a recording of calls is made of: roles of arguments, faithful copies, hooks that leave nothing behind."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxrecipe.adapters.watching import Seen, Watch, hooked, recorded_step, verdict_of
from jaxrecipe.adapters.watching.recording import equal, given_back, graph_given_back, kept, kept_graph
from jaxrecipe.adapters.watching.roles import roles_of
from jaxrecipe.adapters.watching.seen import steps_among

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 64).astype(np.int32)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def start():
    params = {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}
    return params, OPTIMIZER.init(params)


def updated(params, opt_state, x, y):
    def loss_of(params):
        return optax.softmax_cross_entropy_with_integer_labels(x @ params["w"] + params["b"], y).mean()

    loss, grads = jax.value_and_grad(loss_of)(params)
    updates, opt_state = OPTIMIZER.update(grads, opt_state)
    return optax.apply_updates(params, updates), opt_state, loss


def recorded(script, **options):
    """What is seen while a function runs, as recordings."""
    watch = Watch(**{"batches": 6, "most_bytes": 10**8, "go_on": True, **options})
    with hooked(watch):
        script()
    return [record.recording() for record in watch.records]


def names_of(recording, indices):
    return [recording.slots[i].name for i in indices]


def test_every_argument_has_its_role():
    def script():
        @jax.jit
        def step(params, opt_state, frozen, x, y, key, rate, smooth):
            noise = jax.random.normal(key, x.shape) * rate * smooth
            return updated(params, opt_state, x + noise + frozen["w"].sum(), y)

        params, opt_state = start()
        frozen = {"w": jnp.zeros(5), "v": jnp.ones(2)}
        for i in range(6):
            rows = slice(8 * i, 8 * i + 8)
            key = jax.random.fold_in(jax.random.key(0), i)
            params, opt_state, _ = step(params, opt_state, frozen, X[rows], Y[rows], key, float(i), 0.0)

    (recording,) = recorded(script)
    roles = roles_of(recording)
    assert names_of(recording, roles.state) == ["params", "opt_state"]
    assert roles.places == ((0,), (1,))
    assert names_of(recording, roles.batch) == ["x", "y"]
    assert names_of(recording, roles.keys) == ["key"]
    assert names_of(recording, roles.moving) == ["rate"]
    bare = recorded_step(recording)
    np.testing.assert_array_equal(bare.batches.examples[0], X[:48])
    assert bare.loop.facts is not None
    assert len(bare.loop.facts.keys) == 6
    state = bare.loop.init(jax.random.key(0))
    _, metrics = bare.loop.step(state, X[:8], Y[:8], jax.random.key(3))
    assert np.isfinite(metrics["loss"])


@pytest.mark.parametrize("donate", [(), (0, 1)])
def test_a_watched_step_gives_the_numbers_that_the_script_saw(donate):
    seen = []

    def script():
        step = jax.jit(updated, donate_argnums=donate)
        params, opt_state = start()
        jax.eval_shape(step, params, opt_state, X[:16], Y[:16])  # traced here, and not again when it is called
        for i in range(4):
            params, opt_state, loss = step(params, opt_state, X[i::4], Y[i::4])
            seen.append(float(loss))

    (recording,) = recorded(script)
    bare = recorded_step(recording)
    state = bare.loop.init(jax.random.key(0))
    for i in range(4):
        state, metrics = bare.loop.step(state, X[i::4], Y[i::4], jax.random.key(i))
        assert float(metrics["loss"]) == seen[i]


def test_an_optimizer_state_that_the_script_drops_is_said():
    def script():
        step = jax.jit(updated)
        params, opt_state = start()
        for i in range(5):
            params, _, _ = step(params, opt_state, X[i::8], Y[i::8])

    (recording,) = recorded(script)
    assert names_of(recording, roles_of(recording).lost) == ["opt_state"]
    facts = recorded_step(recording).loop.facts
    assert facts is not None
    assert facts.unreturned == ("opt_state",)


def test_a_state_that_comes_back_in_another_order_is_put_where_it_belongs():
    def script():
        @jax.jit
        def step(average, params, x):
            grads = jax.grad(lambda p: ((x @ p - 1.0) ** 2).mean())(params)
            new = params - 0.1 * grads
            return new, 0.9 * average + 0.1 * new

        params = average = jnp.zeros(4)
        for i in range(4):
            params, average = step(average, params, X[i::4])

    (recording,) = recorded(script)
    assert roles_of(recording).places == ((1,), (0,))


def test_the_same_data_at_every_call_are_the_batch_and_end_the_watch_early():
    def script():
        step = jax.jit(updated)
        params, opt_state = start()
        for _ in range(20):
            params, opt_state, _ = step(params, opt_state, X, Y)

    (recording,) = recorded(script, batches=20)
    assert len(recording.calls) == 4
    bare = recorded_step(recording)
    np.testing.assert_array_equal(bare.batches.examples[0], X)


def test_a_step_that_makes_its_own_data():
    def script():
        @jax.jit
        def step(params, key):
            x = jax.random.normal(key, (8, 4))
            loss, grads = jax.value_and_grad(lambda p: ((x @ p - 1.0) ** 2).mean())(params)
            return params - 0.1 * grads, loss

        params = jnp.zeros(4)
        for i in range(4):
            params, _ = step(params, jax.random.fold_in(jax.random.PRNGKey(0), i))

    (recording,) = recorded(script)
    assert names_of(recording, roles_of(recording).keys) == ["key"]
    bare = recorded_step(recording)
    state = bare.loop.init(jax.random.key(0))
    assert np.isfinite(bare.loop.step(state, *bare.batches.examples, jax.random.key(0))[1]["loss"])


def test_gradients_and_evaluations_are_no_steps_and_the_outermost_function_is():
    def script():
        gradient = jax.jit(jax.grad(lambda p, x: (x @ p).sum()))
        evaluate = jax.jit(lambda p, x: (x @ p).mean())

        @jax.jit
        def inner(p, x):
            return p - 0.1 * jax.grad(lambda p: ((x @ p) ** 2).mean())(p)

        step = jax.jit(inner)
        params = jnp.ones(4)
        for i in range(6):
            gradient(params + i, X)
            evaluate(params, X)
            params = step(params, X[i::8])

    recordings = recorded(script)
    assert sorted(verdict_of(one).seen.name for one in recordings) == ["NO_STATE", "OUTSIDE", "STEP"]
    (found,) = steps_among(recordings)
    assert found.seen is Seen.STEP
    assert found.recording.step is not recordings[0].step
    assert found.recording.seen == 6


def test_copies_are_faithful():
    tree = {
        "bfloat16": jnp.ones(2, jnp.bfloat16),
        "weak": jnp.asarray(1.5),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "numpy": np.arange(3),
        "number": 2,
        "function": len,
        "none": None,
    }
    back = given_back(kept(tree))
    assert back["weak"].weak_type
    assert back["key"].dtype == tree["key"].dtype
    assert back["keys"].dtype == tree["keys"].dtype
    assert back["bfloat16"].dtype == jnp.bfloat16
    assert isinstance(back["numpy"], np.ndarray)
    assert (back["number"], back["function"], back["none"]) == (2, len, None)
    assert equal(kept(tree), kept(back))
    assert not equal(kept(tree), kept({**tree, "numpy": np.arange(1, 4)}))


def test_copies_of_nnx_objects_share_what_was_shared():
    linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    graph = kept_graph((1, linear, {"again": linear}))
    assert graph is not None
    made = graph_given_back(graph)
    assert made[1] is made[2]["again"]
    assert made[1] is not linear


def test_hooks_leave_nothing_behind():
    before = jax.jit, jax.pmap, jax.grad, jax.vjp, nnx.jit, list(sys.meta_path)
    kept_for_later = []
    watch = Watch(batches=2, most_bytes=1)

    def script():
        with hooked(watch):
            kept_for_later.append(jax.jit(lambda x: x + 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        script()
    assert (jax.jit, jax.pmap, jax.grad, jax.vjp, nnx.jit, list(sys.meta_path)) == before
    assert float(kept_for_later[0](jnp.ones(()))) == 2
    assert not watch.records


def test_settings_of_jax_that_a_script_makes_in_the_environment_are_followed(monkeypatch):
    monkeypatch.delenv("JAX_DEBUG_NANS", raising=False)
    try:
        with hooked(Watch(batches=2, most_bytes=1)):
            monkeypatch.setenv("JAX_DEBUG_NANS", "True")
            jax.jit(lambda x: x)
            assert jax.config.values["jax_debug_nans"] is True
    finally:
        jax.config.update("jax_debug_nans", False)
