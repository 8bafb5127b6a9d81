"""One contract for every way to make a Model, and what is particular to each library."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jaxtyping import Array, Float
from sklearn.datasets import load_digits

from jaxrecipe import adapters
from jaxrecipe.data.batches import Batch
from jaxrecipe.parts import Model
from jaxrecipe.targets import Classes
from jaxrecipe.task import Task
from jaxrecipe.training.state import init_state
from jaxrecipe.training.step import make_train_step
from jaxrecipe.validate import validate

KEY = jax.random.key(0)


class LinenNet(nn.Module):
    """BatchNorm, Dropout and a collection of its own that counts training calls."""

    @nn.compact
    def __call__(self, x, *, train: bool = True):
        calls = self.variable("counters", "calls", lambda: jnp.zeros((), jnp.float32))
        if train and not self.is_initializing():
            calls.value = calls.value + 1.0
        x = nn.Dense(24)(x.reshape(x.shape[0], -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        self.sow("intermediates", "hidden", x)
        return nn.Dense(10)(nn.Dropout(0.2, deterministic=not train)(x))


class NNXNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(64, 24, rngs=rngs), nnx.Linear(24, 10, rngs=rngs)])
        self.norm = nnx.BatchNorm(24, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.layers[0](x.reshape(x.shape[0], -1))))
        self.hidden = nnx.Intermediate(x)
        return self.layers[1](self.dropout(x))


class EquinoxNet(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear
    order: Array

    def __init__(self, key) -> None:
        one, two = jax.random.split(key)
        self.first = eqx.nn.Linear(64, 24, key=one)
        self.norm = eqx.nn.BatchNorm(24, "batch", momentum=0.9, mode="batch")
        self.dropout = eqx.nn.Dropout(0.2)
        self.last = eqx.nn.Linear(24, 10, key=two)
        self.order = jnp.arange(64)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.first(x.ravel()[self.order]), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


def plain() -> Model:
    def init(key, inputs):
        one, two = jax.random.split(key)
        make = jax.nn.initializers.lecun_normal()
        params = {"first": {"kernel": make(one, (64, 24))}, "last": {"kernel": make(two, (24, 10))}}
        return params, {"mean": jnp.zeros(24)}

    def apply(params, state, inputs, *, train, key):
        x = inputs.reshape(inputs.shape[0], -1) @ params["first"]["kernel"]
        mean = x.mean(axis=0) if train else state["mean"]
        new = {"mean": 0.9 * state["mean"] + 0.1 * mean} if train else state
        x = jax.nn.relu(x - mean)
        if train:
            x = jnp.where(jax.random.bernoulli(key, 0.8, x.shape), x / 0.8, 0.0)
        return x @ params["last"]["kernel"], new

    return Model(init, apply)


class Case(NamedTuple):
    """A model, and the user's object that it was made of (None where there is none)."""

    model: Model
    owned: Any
    uses_init_key: bool = True


def nnx_instance() -> Case:
    net = NNXNet(nnx.Rngs(3))
    return Case(adapters.nnx(net), net, uses_init_key=False)


def equinox_pair() -> Case:
    pair = eqx.nn.make_with_state(EquinoxNet)(jax.random.key(3))
    return Case(adapters.equinox(pair), pair, uses_init_key=False)


CASES: dict[str, Callable[[], Case]] = {
    "linen": lambda: Case(adapters.linen(LinenNet()), None),
    "nnx-factory": lambda: Case(adapters.nnx(lambda rngs: NNXNet(rngs=rngs)), None),
    "nnx-instance": nnx_instance,
    "equinox-factory": lambda: Case(adapters.equinox(eqx.nn.make_with_state(EquinoxNet)), None),
    "equinox-pair": equinox_pair,
    "plain": lambda: Case(plain(), None),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param()


@pytest.fixture(scope="module")
def digits() -> tuple[Float[np.ndarray, "examples 8 8"], np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images[:256] / 16).astype(np.float32).reshape(-1, 8, 8), labels[:256].astype(np.int32)


def arrays_of(owned: Any) -> list[np.ndarray]:
    """The user's object's arrays, with random keys as their data."""
    leaves = jax.tree.leaves(nnx.state(owned)) if isinstance(owned, nnx.Module) else jax.tree.leaves(owned)
    held = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    return [
        np.asarray(jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a).copy() for a in held
    ]


def same(left: Any, right: Any) -> bool:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def described(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_trains_on_digits_with_one_compile(case: Case, digits) -> None:
    traces = 0

    def loss(logits, labels):
        nonlocal traces
        traces += 1
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    images, labels = digits
    task = Task(model=case.model, loss=loss, optimizer=optax.adam(1e-2), train=digits, target=Classes(10))
    before = None if case.owned is None else arrays_of(case.owned)
    with jax.numpy_dtype_promotion("standard"):  # Equinox's BatchNorm mixes floats and counters itself
        validate(task)
    traces = 0
    state = init_state(task, KEY, images[:64])
    step = jax.jit(make_train_step(task), donate_argnums=0)
    for i in range(60):
        rows = slice(64 * (i % 4), 64 * (i % 4 + 1))
        state, metrics = step(state, Batch(images[rows], labels[rows], jnp.ones(64, bool)))
    assert traces == 1
    logits, _ = case.model.apply(state.params, state.model_state, images, train=False, key=None)
    trained = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    assert trained < 0.4
    assert np.isfinite(metrics["loss"])
    if before is not None:
        assert all(np.array_equal(a, b) for a, b in zip(before, arrays_of(case.owned), strict=True))


def test_state_is_updated_in_training_and_untouched_in_evaluation(case: Case, digits) -> None:
    images = digits[0][:16]
    params, state = case.model.init(KEY, images)
    _, trained = jax.jit(partial(case.model.apply, train=True))(params, state, images, key=KEY)
    _, evaluated = jax.jit(partial(case.model.apply, train=False))(params, state, images, key=KEY)
    assert described(trained) == described(state) == described(evaluated)
    assert jax.tree.leaves(state)
    assert not same(trained, state)
    assert same(evaluated, state)


def test_randomness_follows_the_key(case: Case, digits) -> None:
    images = digits[0][:16]
    params, state = case.model.init(KEY, images)

    def outputs(train: bool, key: Any) -> np.ndarray:
        return np.asarray(case.model.apply(params, state, images, train=train, key=key)[0])

    first = outputs(True, jax.random.key(1))
    assert np.array_equal(first, outputs(True, jax.random.key(1)))
    assert not np.array_equal(first, outputs(True, jax.random.key(2)))
    silent = outputs(False, None)
    assert np.array_equal(silent, outputs(False, jax.random.key(1)))
    assert np.array_equal(silent, outputs(False, jax.random.key(2)))
    assert not np.allclose(silent, first)


def test_initial_values_follow_the_key_or_the_users_object(case: Case, digits) -> None:
    images = digits[0][:4]
    params, _ = case.model.init(KEY, images)
    assert same(params, case.model.init(KEY, images)[0])
    assert same(params, case.model.init(jax.random.key(9), images)[0]) is not case.uses_init_key


def test_params_are_a_plain_tree_of_float32_with_readable_paths(case: Case, digits) -> None:
    params, state = case.model.init(KEY, digits[0][:4])
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert name.split("/")[-1] in ("kernel", "bias", "scale", "weight")
        assert all(isinstance(key, jax.tree_util.DictKey) and isinstance(key.key, str) for key in path)
    assert all(type(node) is dict for node in (params, state))
    shapes = jax.eval_shape(case.model.init, KEY, digits[0][:4])
    assert described(shapes) == described((params, state))


def test_init_under_jit_and_apply_under_grad(case: Case, digits) -> None:
    images = digits[0][:4]
    params, state = jax.jit(case.model.init)(KEY, images)
    grads = jax.jit(jax.grad(lambda p: case.model.apply(p, state, images, train=True, key=KEY)[0].sum()))(params)
    assert described(grads) == described(params)


# --- Linen ---


def test_linen_params_are_those_of_the_modules_own_init() -> None:
    net, x = LinenNet(), jnp.ones((2, 64))
    own = net.init(KEY, x, train=False)
    params, state = adapters.linen(net).init(KEY, x)
    assert same(params, own["params"])
    assert set(state) == {"batch_stats", "counters"}


@pytest.mark.parametrize(
    ("argument", "on_in_training"),
    [(n, True) for n in ("train", "training", "is_training")]
    + [("deterministic", False), ("use_running_average", False)],
)
def test_linen_finds_the_flag_in_the_call_or_among_the_fields(argument: str, on_in_training: bool) -> None:
    source = f"def __call__(self, x, {argument}): return x * (2.0 if {argument} else 3.0)"
    scope: dict[str, Any] = {}
    exec(source, scope)  # a class for each name, as a user would write it
    in_call = type("InCall", (nn.Module,), {"__call__": scope["__call__"]})()
    in_field = type(
        "InField",
        (nn.Module,),
        {
            "__annotations__": {argument: bool},
            "__call__": lambda self, x: x * (2.0 if getattr(self, argument) else 3.0),
        },
    )(**{argument: True})
    for net in (in_call, in_field):
        model = adapters.linen(net)
        for train in (True, False):
            out, _ = model.apply({}, {}, jnp.ones((1, 1)), train=train, key=None)
            assert float(out[0, 0]) == (2.0 if train is on_in_training else 3.0)


class Odd(nn.Module):
    @nn.compact
    def __call__(self, x, learn=True, resting=False):
        return x * (2.0 if learn else 3.0) * (5.0 if resting else 7.0)


@pytest.mark.parametrize(
    ("chosen", "training", "evaluation"), [("learn", 14.0, 21.0), ("not resting", 14.0, 10.0), (False, 14.0, 14.0)]
)
def test_linen_takes_the_flag_that_it_is_told(chosen: Any, training: float, evaluation: float) -> None:
    model = adapters.linen(Odd(), train_argument=chosen)
    outs = [model.apply({}, {}, jnp.ones((1, 1)), train=train, key=None)[0] for train in (True, False)]
    assert [float(out[0, 0]) for out in outs] == [training, evaluation]


def test_an_unknown_flag_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"train_argument is 'lern'; Odd has learn, resting, x"):
        adapters.linen(Odd(), train_argument="lern")
    with pytest.raises(ValueError, match=r"'lern'; NNXNet has x"):
        adapters.nnx(NNXNet(nnx.Rngs(0)), train_argument="lern").init(KEY, jnp.ones((1, 64)))


class TwoInputs(nn.Module):
    @nn.compact
    def __call__(self, left, right):
        return nn.Dense(3)(left) + right


class OneDict(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(3)(inputs["left"]) + inputs["right"]


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_inputs_are_one_argument_or_spread(as_dict: bool) -> None:
    left, right = jnp.ones((2, 5)), jnp.full((2, 3), 4.0)
    inputs = {"left": left, "right": right}
    together, apart = adapters.linen(OneDict()), adapters.linen(TwoInputs(), spread=True)
    params, state = together.init(KEY, inputs)
    wanted = left @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"] + right
    given = inputs if as_dict else (left, right)
    assert same(params, apart.init(KEY, given)[0])
    for model, x in ((together, inputs), (apart, given)):
        np.testing.assert_allclose(model.apply(params, state, x, train=False, key=None)[0], wanted, rtol=1e-6)


def test_spreading_a_single_array_is_refused() -> None:
    with pytest.raises(TypeError, match=r"spread=True got .*; wanted inputs that are a tuple, a list or a dict"):
        adapters.linen(TwoInputs(), spread=True).init(KEY, jnp.ones((2, 5)))


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + jax.random.normal(self.make_rng("noise"), x.shape)


@pytest.mark.parametrize("rngs", [("noise",), ("dropout",)])
def test_linen_named_random_streams(rngs: tuple[str, ...]) -> None:
    model = adapters.linen(Noisy(), rngs=rngs)
    x = jnp.zeros((2, 2))
    one, again, other = (model.apply({}, {}, x, train=True, key=jax.random.key(k))[0] for k in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)
    quiet = [model.apply({}, {}, x, train=False, key=None)[0] for _ in range(2)]
    assert same(*quiet)
    with pytest.raises(Exception, match="PRNG"):
        model.apply({}, {}, x, train=True, key=None)


class AcrossDevices(nnx.Module):
    def __init__(self, axis_name: str | None, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(3, axis_name=axis_name, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x)


def linen_norm(axis_name: str | None) -> Model:
    return adapters.linen(nn.BatchNorm(axis_name=axis_name))


def nnx_norm(axis_name: str | None) -> Model:
    return adapters.nnx(lambda rngs: AcrossDevices(axis_name, rngs))


@pytest.mark.parametrize("make", [linen_norm, nnx_norm])
def test_a_mean_over_devices_is_that_of_one_device_where_no_axis_has_the_name(make: Callable[..., Model]) -> None:
    x = jax.random.normal(KEY, (8, 3))
    alone, named = (make(axis_name) for axis_name in (None, "devices"))
    params, state = named.init(KEY, x)
    assert same(named.apply(params, state, x, train=True, key=KEY), alone.apply(params, state, x, train=True, key=KEY))
    both = jax.vmap(lambda half: named.apply(params, state, half, train=True, key=KEY)[0], axis_name="devices")
    whole = alone.apply(params, state, x, train=True, key=KEY)[0]
    assert np.allclose(both(x.reshape(2, 4, 3)).reshape(8, 3), whole, atol=1e-5)


def test_linen_starts_from_given_variables() -> None:
    net, x = LinenNet(), jnp.ones((2, 64))
    own = net.init(jax.random.key(5), x)
    params, state = adapters.linen(net, variables=own).init(KEY, x)
    assert same(params, own["params"])
    assert same(state["batch_stats"], own["batch_stats"])
    jax.block_until_ready(jax.jit(lambda tree: jax.tree.map(lambda a: a + 1, tree), donate_argnums=0)(params))
    assert not own["params"]["Dense_0"]["kernel"].is_deleted()


def test_linen_unboxes_partitioned_params() -> None:
    kernel = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    params, _ = adapters.linen(nn.Dense(2, kernel_init=kernel)).init(KEY, jnp.ones((1, 3)))
    assert isinstance(params["kernel"], jax.Array)


class MovesAtEvaluation(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(x)


def test_statistics_that_move_in_evaluation_show_in_the_state() -> None:
    model = adapters.linen(MovesAtEvaluation())
    x = jnp.arange(6.0).reshape(3, 2)
    params, state = model.init(KEY, x)
    assert not same(state, model.apply(params, state, x, train=False, key=None)[1])


@pytest.mark.parametrize(
    ("adapter", "given", "message"),
    [
        (adapters.linen, LinenNet, r"linen got the class LinenNet; wanted an instance of flax.linen.Module"),
        (adapters.nnx, 3, r"nnx got a int; wanted an instance of flax.nnx.Module, or a function rngs -> module"),
        (adapters.equinox, 3, r"equinox got a int; wanted an instance of equinox.Module, a pair"),
    ],
)
def test_something_else_is_refused(adapter: Callable[..., Model], given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        adapter(given)


# --- NNX ---


def test_nnx_params_are_those_of_the_factorys_own_module() -> None:
    own = NNXNet(nnx.Rngs(KEY))
    params, state = adapters.nnx(NNXNet).init(KEY, jnp.ones((1, 64)))
    assert np.array_equal(params["layers"]["0"]["kernel"], own.layers[0].kernel.get_value())
    assert set(state) == {"norm"}


def test_nnx_agrees_with_the_module_called_directly(digits) -> None:
    net = NNXNet(nnx.Rngs(0))
    model = adapters.nnx(net)
    params, state = model.init(KEY, digits[0])
    evaluated, _ = model.apply(params, state, digits[0], train=False, key=None)
    _, trained = model.apply(params, state, digits[0], train=True, key=KEY)
    net.train()
    net(digits[0])
    np.testing.assert_allclose(trained["norm"]["mean"], net.norm.mean.get_value(), rtol=1e-5, atol=1e-6)
    net.norm.mean.set_value(state["norm"]["mean"])
    net.norm.var.set_value(state["norm"]["var"])
    net.eval()
    np.testing.assert_allclose(evaluated, net(digits[0]), rtol=1e-5, atol=1e-6)


class CallTime(nnx.Module):
    """Everything is decided when it is called: the mode and the random numbers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(4, use_running_average=None, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=None)

    def __call__(self, x, *, train: bool, rngs: nnx.Rngs | None = None):
        x = self.norm(x, use_running_average=not train)
        return self.dropout(x, deterministic=not train, rngs=rngs)


def test_nnx_mode_and_rngs_may_be_arguments_of_the_call() -> None:
    model = adapters.nnx(CallTime)
    x = jax.random.normal(KEY, (8, 4))
    params, state = model.init(KEY, x)
    outs = [model.apply(params, state, x, train=True, key=jax.random.key(k))[0] for k in (1, 1, 2)]
    assert same(outs[0], outs[1])
    assert not same(outs[0], outs[2])
    assert same(model.apply(params, state, x, train=False, key=None)[1], state)


class Extras(nnx.Module):
    """A module in a list, a bare array, a flag of its own, a shared parameter, more than ten layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(12)])
        self.tied = self.layers[0]
        self.offset = jnp.arange(3.0)
        self.training = True

    def __call__(self, x):
        for layer in (*self.layers, self.tied):
            x = layer(x)
        return (x + self.offset) * (2.0 if self.training else 3.0)


def test_nnx_lists_bare_arrays_own_flags_and_shared_parameters() -> None:
    net = Extras(nnx.Rngs(0))
    model = adapters.nnx(net)
    x = jnp.ones((2, 3))
    params, state = model.init(KEY, x)
    assert len(jax.tree.leaves(params)) == 24
    assert same(state, {"offset": jnp.arange(3.0)})
    training, _ = jax.jit(partial(model.apply, train=True))(params, state, x, key=None)
    evaluation, _ = model.apply(params, state, x, train=False, key=None)
    np.testing.assert_allclose(training, net(x), rtol=1e-5)
    np.testing.assert_allclose(evaluation, net(x) * 1.5, rtol=1e-5)
    assert net.training


def test_nnx_random_streams_need_a_key_in_training(digits) -> None:
    model = adapters.nnx(NNXNet)
    params, state = model.init(KEY, digits[0])
    with pytest.raises(
        ValueError, match=r"random streams \(dropout/rngs/count, \.\.\.\): training needs a key, got None"
    ):
        model.apply(params, state, digits[0], train=True, key=None)


def test_nnx_factory_that_makes_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"nnx got a dict; wanted .*the function made this"):
        adapters.nnx(lambda rngs: {}).init(KEY, jnp.ones((1, 1)))


# --- Equinox ---


def test_equinox_agrees_with_the_module_called_directly(digits) -> None:
    net, memory = eqx.nn.make_with_state(EquinoxNet)(jax.random.key(3))
    model = adapters.equinox((net, memory))
    params, state = model.init(KEY, digits[0])
    out, _ = model.apply(params, state, digits[0], train=False, key=None)
    quiet = eqx.nn.inference_mode(net)
    for i in range(3):
        alone, _ = quiet(jnp.asarray(digits[0][i]), memory, key=None)
        np.testing.assert_allclose(out[i], alone, rtol=1e-4, atol=1e-5)


class Stateless(eqx.Module):
    linear: eqx.nn.Linear

    def __call__(self, left, right):
        return self.linear(left) + right


def test_equinox_without_state_or_key_and_with_spread_inputs() -> None:
    net = Stateless(eqx.nn.Linear(5, 3, key=KEY))
    model = adapters.equinox(net, spread=True)
    inputs = (jnp.ones((2, 5)), jnp.ones((2, 3)))
    params, state = model.init(KEY, inputs)
    out, after = model.apply(params, state, inputs, train=True, key=None)
    np.testing.assert_allclose(out[1], net(inputs[0][1], inputs[1][1]), rtol=1e-5)
    assert state == after == {}


def test_equinox_class_without_make_with_state_is_the_same_model(digits) -> None:
    models = adapters.equinox(EquinoxNet), adapters.equinox(eqx.nn.make_with_state(EquinoxNet))
    (left, left_state), (right, right_state) = (model.init(KEY, digits[0]) for model in models)
    assert same(left, right)
    assert described(left_state) == described(right_state)
    assert set(left_state) == {"buffers", "memory"}


class Keyed(eqx.Module):
    key: Array

    def __call__(self, x):
        return x + jax.random.normal(self.key, x.shape)


def test_equinox_random_keys_are_buffers() -> None:
    model = adapters.equinox(Keyed(jax.random.key(1)))
    params, state = model.init(KEY, jnp.ones((2, 3)))
    assert params == {}
    out, _ = model.apply(params, state, jnp.ones((2, 3)), train=False, key=None)
    assert same(out[0], Keyed(jax.random.key(1))(jnp.ones(3)))
