"""Every mistake that can be seen before training, one row each; and what is right, which must raise no word."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.diagnosis.causes.table import CAUSES
from jaxrecipe.parts import Loop, Model, per_example
from jaxrecipe.targets import Binary, Classes, MultiLabel, Tokens, Unspecified, Values
from jaxrecipe.task import Task
from jaxrecipe.validate import InvalidTaskError, Problem, problems, validate

cross_entropy = optax.softmax_cross_entropy_with_integer_labels
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = (np.arange(40) % 3).astype(np.int32)


def linear(outputs: int = 3, features: int = 6) -> Model:
    def init(key, inputs):
        return {"kernel": jnp.zeros((features, outputs)), "bias": jnp.zeros(outputs)}, {}

    return Model(init, lambda p, s, x, *, train, key: (x @ p["kernel"] + p["bias"], s), "linear")


def counting(new_state: Callable[[Any], Any]) -> Model:
    """A linear model whose state is a count that each call changes."""
    base = linear()
    return Model(
        lambda key, x: (base.init(key, x)[0], {"count": jnp.zeros(())}),
        lambda p, s, x, *, train, key: (x @ p["kernel"], new_state(s) if train else s),
    )


BASE = Task(
    model=linear(),
    loss=cross_entropy,
    optimizer=optax.adam(1e-3),
    train=(X, Y),
    test=(X[:10], Y[:10]),
    target=Classes(3),
    batch_size=8,
    name="base",
)


def force(task: Task = BASE, **fields: Any) -> Task:
    """A copy with fields of any type: in the tests types are checked at run time, for a user they are not."""
    changed = copy.copy(task)
    for name, value in fields.items():
        object.__setattr__(changed, name, value)
    return changed


def with_first(array: np.ndarray, value: Any) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = value
    return changed


def broken_item(index: int) -> Any:
    if index == 39:
        raise OSError("disc on fire")
    return X[index], Y[index]


class Items:
    """A data set of `len` and `[]`."""

    def __init__(self, item: Callable[[int], Any], size: int = 40) -> None:
        self.item, self.size = item, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def no_key_at_evaluation(p, s, x, *, train, key):
    return x @ p["kernel"] + jax.random.normal(key, (3,)), s


def masked(labels: Any) -> optax.GradientTransformation:
    return optax.multi_transform({"a": optax.adam(1e-3)}, labels)


def own_loop(**changes: Any) -> Loop:
    """A plain loop of gradient descent."""
    model = linear()

    def step(state, inputs, targets, key):
        def loss(p):
            return cross_entropy(model.apply(p, {}, inputs, train=True, key=key)[0], targets).mean()

        value, grads = jax.value_and_grad(loss)(state["params"])
        return {"params": jax.tree.map(lambda p, g: p - 0.1 * g, state["params"], grads)}, {"loss": value}

    parts = {
        "init": lambda key: {"params": model.init(key, None)[0]},
        "step": step,
        "variables": lambda state: (state["params"], {}),
    }
    return Loop(**{**parts, **changes})


class Row(NamedTuple):
    """A broken task; where it is broken; words of what was got, what was wanted and what to do."""

    task: Callable[[], Task]
    where: str
    got: str
    wanted: str
    fix: str
    severity: str = "error"


ROWS: dict[str, Row] = {
    # Fields of the wrong kind
    "model is a class": Row(lambda: force(model=Model), "task.model", "the class Model", "a Model", "jr.linen"),
    "model of no functions": Row(
        lambda: force(model=force(linear(), apply=3)), "task.model", "apply: 3", "functions", "jr."
    ),
    "loss called": Row(lambda: force(loss=3.0), "task.loss", "3.0", "a function", "Pass the function itself"),
    "loss class": Row(lambda: force(loss=dict), "task.loss", "the class dict", "a function", "Pass the function"),
    "optimizer not called": Row(
        lambda: force(optimizer=optax.adam),
        "task.optimizer",
        "a function",
        "gradient transformation",
        "optax.adam(1e-3)",
    ),
    "negative batch": Row(lambda: force(batch_size=-4), "task.batch_size", "-4", "1 or more", "number of examples"),
    "float batch": Row(lambda: force(batch_size=8.0), "task.batch_size", "8.0", "an int", "number of examples"),
    "prepare string": Row(lambda: force(prepare="x"), "task.prepare", "'x'", "a function", "Pass the function"),
    "augment class": Row(lambda: force(augment=int), "task.augment", "the class int", "a function", "Pass the"),
    "metrics list": Row(lambda: force(metrics=[1]), "task.metrics", "a list of 1", "a mapping", "metrics={"),
    "target class": Row(lambda: force(target=Classes), "task.target", "the class Classes", "jr.Classes(10)", "Declare"),
    "target in a mapping": Row(lambda: force(target={"a": 3}), "task.target['a']", "3", "a target", "Declare"),
    "one class": Row(lambda: force(target=Classes(1)), "task.target", "n=1", "2 or more", "jr.Binary()"),
    "no tokens": Row(lambda: force(target=Tokens(0)), "task.target", "vocabulary=0", "2 or more", "number"),
    "policy": Row(lambda: force(policy="fp17"), "task.policy", "fp17", "a Policy", "bfloat16"),
    "loss scale": Row(
        lambda: force(loss_scale=128.0), "task.loss_scale", "128.0", "a LossScale", "jr.static_loss_scale"
    ),
    "loop dict": Row(lambda: force(loop={}), "task.loop", "a mapping", "a Loop", "jr.Loop("),
    "frozen string": Row(lambda: force(frozen="kernel"), "task.frozen", "'kernel'", "sequence", "with the comma"),
    "causal": Row(lambda: force(causal="yes"), "task.causal", "'yes'", "True or False", "bool"),
    "capacities": Row(lambda: force(capacities=(3,)), "task.capacities", "a tuple of 3", "Models", "jr.linen"),
    "human": Row(lambda: force(human=98.0), "task.human", "98.0", "between 0 and 1", "Divide"),
    # Data
    "no data": Row(lambda: force(train=None), "task.train", "None", "(inputs, targets)", "numbers"),
    "one array": Row(lambda: force(train=jnp.asarray(X)), "task.train", "Array", "(inputs, targets)", "arrays"),
    "strings": Row(
        lambda: force(train=(X, Y.astype(str))), "task.train", "targets is <U", "arrays of numbers", "Encode"
    ),
    "objects": Row(lambda: force(test=(X.astype(object), Y)), "task.test", "inputs is object", "numbers", "Encode"),
    "empty": Row(lambda: force(train=(X[:0], Y[:0])), "task.train", "no examples", "(inputs, targets)", "arrays"),
    "sizes differ": Row(
        lambda: force(train=(X, Y[:9])), "task.train", "targets has 9", "one leading size", "one number"
    ),
    "one example": Row(
        lambda: force(train=(X[:1], Y[:1]), batch_size=1), "task.train", "1 example", "at least 2", "axis"
    ),
    "batch too large": Row(lambda: force(batch_size=64), "task.batch_size", "64 for 40", "at most 40", "batch_size=40"),
    "item cannot be read": Row(
        lambda: force(train=Items(broken_item)), "task.train", "disc on fire", "can be read", "Decode"
    ),
    "ragged items": Row(
        lambda: force(train=Items(lambda i: (X[i][: 6 - (i > 20)], Y[i]))), "task.train", "differ", "all alike", "pad"
    ),
    "splits differ in dtype": Row(
        lambda: force(test=(X.astype(np.float16), Y)),
        "task.test",
        "inputs was float32[6] and is float16[6]",
        "same",
        "same code",
    ),
    "splits differ in shape": Row(lambda: force(test=(X[:, :5], Y)), "task.test", "is float32[5]", "same", "same code"),
    "splits differ in structure": Row(
        lambda: force(test=({"a": X}, Y)), "task.test", "inputs/a is new", "same", "same code"
    ),
    "NaN": Row(lambda: force(train=(with_first(X, np.nan), Y)), "task.train, inputs", "1 of 40", "finite", "Drop"),
    "infinity in test": Row(
        lambda: force(test=(with_first(X, np.inf), Y)), "task.test, inputs", "example 0", "finite", "Drop"
    ),
    "NaN in read items": Row(
        lambda: force(train=Items(lambda i: (X[i] * np.float32(np.nan), Y[i]))),
        "task.train, inputs",
        "16 sampled",
        "finite",
        "Drop",
    ),
    # prepare and augment
    "prepare raises": Row(lambda: force(prepare=lambda x, y: x / 0 + {}), "task.prepare", "Error", "pair", "It got"),
    "prepare on the host": Row(
        lambda: force(prepare=lambda x, y: (np.asarray(x), y)),
        "task.prepare",
        "TracerArrayConversionError",
        "pair",
        "jax.numpy",
    ),
    "prepare forgets targets": Row(
        lambda: force(prepare=lambda x, y: x), "task.prepare", "float32[8, 6]", "pair", "return inputs"
    ),
    "prepare drops examples": Row(
        lambda: force(prepare=lambda x, y: (x[:4], y)),
        "task.prepare",
        "inputs: float32[4, 6]",
        "8 as the leading",
        "one entry",
    ),
    "augment changes structure": Row(
        lambda: force(augment=lambda k, x, y: ({"a": x}, y)),
        "task.augment",
        "inputs/a is new",
        "same form",
        "task.prepare",
    ),
    "augment doubles": Row(
        lambda: force(augment=lambda k, x, y: (jnp.concatenate([x, x]), y)),
        "task.augment",
        "float32[16, 6]",
        "8 as the",
        "one entry",
    ),
    "augment changes dtype": Row(
        lambda: force(augment=lambda k, x, y: (x, y.astype(jnp.int16))),
        "task.augment",
        "int16[8]",
        "same form",
        "prepare",
        "warning",
    ),
    # Model
    "init raises": Row(
        lambda: force(model=Model(lambda k, x: {}["kernel"], linear().apply)),
        "task.model.init",
        "KeyError: 'kernel'",
        "pair",
        "It got inputs",
    ),
    "inputs of another structure": Row(
        lambda: force(train=({"a": X}, Y), test=None), "task.model.apply, train=False", "Error", "pair", "a: float32"
    ),
    "init gives params alone": Row(
        lambda: force(model=Model(lambda k, x: jnp.zeros(3), linear().apply)),
        "task.model.init",
        "float32[3]",
        "pair",
        "params, {}",
    ),
    "integer params": Row(
        lambda: force(
            model=Model(lambda k, x: ({"kernel": jnp.zeros((6, 3), int)}, {}), lambda p, s, x, **_: (x[:, :3], s))
        ),
        "task.model.init",
        "kernel: int32[6, 3]",
        "floating parameters",
        "in the state",
    ),
    "no params": Row(
        lambda: force(model=Model(lambda k, x: ({}, {}), lambda p, s, x, **_: (x[:, :3], s))),
        "task.model.init",
        "no parameters",
        "at least one",
        "in `params`",
    ),
    "apply gives outputs alone": Row(
        lambda: force(model=Model(linear().init, lambda p, s, x, *, train, key: x @ p["kernel"])),
        "task.model.apply, train=True",
        "float32[8, 3]",
        "pair (outputs, state)",
        "Return `outputs, state`",
    ),
    "wrong features": Row(
        lambda: force(model=linear(features=5)),
        "task.model.apply, train=True",
        "TypeError",
        "pair",
        "It got inputs float32[8, 6]",
    ),
    "key needed in evaluation": Row(
        lambda: force(model=Model(linear().init, no_key_at_evaluation)),
        "task.model.apply, train=False",
        "Error",
        "pair",
        "key=None",
    ),
    "state grows": Row(
        lambda: force(model=counting(lambda s: {**s, "more": s["count"]})),
        "task.model.apply, train=True",
        "more is new",
        "structure",
        "init",
    ),
    "state changes dtype": Row(
        lambda: force(model=counting(lambda s: {"count": s["count"].astype(jnp.int32)})),
        "task.model.apply, train=True",
        "count was float32[] and is int32[]",
        "dtypes",
        "init",
    ),
    "state changes shape": Row(
        lambda: force(model=counting(lambda s: {"count": s["count"][None]})),
        "task.model.apply, train=True",
        "is float32[1]",
        "shapes",
        "init",
    ),
    "bytes choke the model": Row(
        lambda: force(train=(X.astype(np.uint8), Y), test=None),
        "task.model.apply, train=True",
        "Error",
        "pair",
        "scale them first",
    ),
    "bytes reach the model": Row(
        lambda: force(
            train=(X.astype(np.uint8), Y),
            test=None,
            model=Model(linear().init, lambda p, s, x, **_: (x.astype(jnp.float32) @ p["kernel"], s)),
        ),
        "task.prepare",
        "uint8[8, 6]",
        "floating inputs",
        "/ 255",
        "warning",
    ),
    "model of one batch size": Row(
        lambda: force(model=Model(linear().init, lambda p, s, x, **_: (x.reshape(8, 6) @ p["kernel"], s))),
        "task.model.apply, train=True",
        "batch of 9",
        "any number",
        "Take the batch size",
        "warning",
    ),
    # Loss and metrics
    "scalar loss": Row(
        lambda: force(loss=lambda o, t: cross_entropy(o, t).mean()),
        "task.loss",
        "float32[]",
        "float32[8]",
        "jr.per_example(loss)",
    ),
    "loss a position": Row(
        lambda: force(loss=lambda o, t: o**2), "task.loss", "float32[8, 3]", "float32[8]", "Take the mean"
    ),
    "loss over the batch": Row(
        lambda: force(loss=lambda o, t: o.mean(axis=0)), "task.loss", "float32[3]", "float32[8]", "Reduce the axes"
    ),
    "loss over a batch of the same length": Row(
        lambda: force(loss=lambda o, t: o.mean(axis=0), batch_size=3),
        "task.loss",
        "float32[3] from a batch of 4",
        "any number",
        "reduce no",
    ),
    "column against row": Row(
        lambda: force(model=linear(1), loss=lambda o, t: (o - t.astype(jnp.float32)) ** 2, target=Unspecified()),
        "task.loss",
        "float32[8, 8]",
        "float32[8]",
        "meets every other",
    ),
    "loss of parts": Row(
        lambda: force(loss=lambda o, t: {"a": cross_entropy(o, t)}),
        "task.loss",
        "{a: float32[8]}",
        "float32[8]",
        "sum of the parts",
    ),
    "integer loss": Row(
        lambda: force(loss=lambda o, t: t), "task.loss", "int32[8]", "float32[8]", "astype(jnp.float32)"
    ),
    "loss raises": Row(
        lambda: force(loss=lambda o, t: o["x"]),
        "task.loss",
        "Error",
        "float32[8]",
        "outputs float32[8, 3] and targets int32[8]",
    ),
    "metric a scalar": Row(
        lambda: force(metrics={"m": lambda o, t: o.mean()}),
        "task.metrics['m']",
        "float32[]",
        "float32[8]",
        "Drop the mean",
    ),
    # Target
    "too few logits": Row(
        lambda: force(model=linear(2)), "task.target, outputs", "float32[8, 2]", "[8, 3]", "last layer"
    ),
    "float labels": Row(
        lambda: force(train=(X, Y.astype(np.float32)), test=None),
        "task.target, targets",
        "float32[8]",
        "integer",
        "astype(jnp.int32)",
    ),
    "one-hot labels": Row(
        lambda: force(train=(X, np.eye(3, dtype=np.float32)[Y]), test=None, loss=optax.softmax_cross_entropy),
        "task.target, targets",
        "float32[8, 3]",
        "integer",
        "one-hot inside",
    ),
    "labels as a column": Row(
        lambda: force(train=(X, Y[:, None]), test=None, loss=lambda o, t: cross_entropy(o, t[:, 0])),
        "task.target, outputs",
        "float32[8, 3]",
        "[8, 1, 3]",
        "same axes",
    ),
    "label too large": Row(
        lambda: force(train=(X, with_first(Y, 3))), "task.train, targets", "1 of 40 out of range", "[0, 3)", "correct"
    ),
    "label negative in test": Row(
        lambda: force(test=(X, with_first(Y, -1))), "task.test, targets", "from -1 to 2", "[0, 3)", "JAX"
    ),
    "labels from one": Row(
        lambda: force(train=(X, Y + 1)), "task.train, targets", "from 1 to 3", "[0, 3)", "subtract 1"
    ),
    "label spoilt by prepare": Row(
        lambda: force(prepare=lambda x, y: (x, y + 1)), "task.train, targets", "from 1 to 3", "[0, 3)", "subtract 1"
    ),
    "label too large in items": Row(
        lambda: force(train=Items(lambda i: (X[i], Y[i] + np.int32(7)))),
        "task.train, targets",
        "from 7 to 9",
        "[0, 3)",
        "JAX",
    ),
    "binary labels of two": Row(
        lambda: force(
            target=Binary(),
            model=linear(1),
            loss=lambda o, t: optax.sigmoid_binary_cross_entropy(o[:, 0], t.astype(jnp.float32)),
        ),
        "task.train, targets",
        "from 0 to 2",
        "0 or 1",
        "Map",
    ),
    "binary with two logits": Row(
        lambda: force(target=Binary(), model=linear(2), train=(X, Y % 2), test=None),
        "task.target, outputs",
        "float32[8, 2]",
        "one logit",
        "jr.Classes(2)",
    ),
    "multi-label of another number": Row(
        lambda: force(
            target=MultiLabel(4), train=(X, np.eye(3, dtype=np.float32)[Y]), test=None, loss=optax.softmax_cross_entropy
        ),
        "task.target, targets",
        "float32[8, 3]",
        "[8, 4]",
        "change n",
    ),
    "values of another shape": Row(
        lambda: force(target=Values(), train=(X, X[:, 0]), test=None, loss=lambda o, t: o[:, 0] - t),
        "task.target, outputs",
        "float32[8, 3]",
        "values like float32[8]",
        "last layer",
    ),
    "integer values": Row(
        lambda: force(
            target=Values(), model=linear(1), test=None, loss=lambda o, t: o[:, 0] - t.astype(jnp.float32), metrics={}
        ),
        "task.target, targets",
        "integers, int32[8]",
        "floating",
        "astype(jnp.float32)",
        "warning",
    ),
    "no such head": Row(
        lambda: force(target={"digit": Classes(3)}),
        "task.target['digit'], targets",
        "nothing there",
        "one array",
        "keys",
    ),
    "padding not declared": Row(
        lambda: force(sequences(), train=(TOKENS, with_first(TOKENS, -1)), test=None),
        "task.train, targets",
        "from -1 to 4",
        "[0, 5)",
        "jr.Tokens(5, pad=-1)",
    ),
    # What trains
    "optimizer of other params": Row(
        lambda: force(optimizer=masked({"weights": "a"})),
        "task.optimizer.init",
        "Error",
        "for these parameters",
        "multi_transform",
    ),
    "optimizer that wants more": Row(
        lambda: force(optimizer=optax.polyak_sgd()),
        "task.optimizer.update",
        "value",
        "(gradients, state, params)",
        "nothing else",
    ),
    "updates of another shape": Row(
        lambda: force(optimizer=optax.stateless(lambda g, p: jax.tree.map(lambda a: a.sum(), g))),
        "task.optimizer.update",
        "kernel was float32[6, 3] and is float32[]",
        "shapes of the parameters",
        "set_to_zero",
    ),
    "optimizer state grows": Row(
        lambda: force(optimizer=optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (g, (jnp.zeros(2),)))),
        "task.optimizer.update",
        "is new",
        "structure",
        "init",
    ),
    "frozen fits nothing": Row(
        lambda: force(frozen=("backbone/*",)), "task.frozen", "'backbone/*'", "at least one", "bias, kernel"
    ),
    "capacity of other outputs": Row(
        lambda: force(capacities=(linear(), linear(4))),
        "task.capacities[1]",
        "is float32[8, 4]",
        "float32[8, 3]",
        "width",
    ),
    "loop without state": Row(
        lambda: force(loop=own_loop(step=lambda s, x, y, k: s)),
        "task.loop.step",
        "a dict of 1",
        "pair (state, metrics)",
        "Return",
    ),
    "loop changes its state": Row(
        lambda: force(loop=own_loop(step=lambda s, x, y, k: ({**s, "n": x}, {}))),
        "task.loop.step",
        "n is new",
        "structure",
        "init",
    ),
    "loop with other params": Row(
        lambda: force(loop=own_loop(variables=lambda s: ({"w": s["params"]["kernel"]}, {}))),
        "task.loop.variables",
        "params/kernel is gone",
        "task.model.apply",
        "same network",
    ),
    "loop gives params alone": Row(
        lambda: force(loop=own_loop(variables=lambda s: s["params"]["bias"])),
        "task.loop.variables",
        "float32[3]",
        "a pair",
        "Return",
    ),
    "loop step of other arguments": Row(
        lambda: force(loop=own_loop(step=lambda s, batch: (s, {}))), "task.loop.step", "TypeError", "pair", "It got"
    ),
    "loop metrics not scalars": Row(
        lambda: force(loop=own_loop(step=lambda s, x, y, k: (s, {"loss": x}))),
        "task.loop.step",
        "loss: float32[8, 6]",
        "scalars",
        "Reduce",
    ),
    "loop gives no batch": Row(
        lambda: force(loop=own_loop(batches=lambda epoch: iter(()))),
        "task.loop.batches(0)",
        "None as the first",
        "pairs",
        "a new iterable",
    ),
    "loop gives inputs alone": Row(
        lambda: force(loop=own_loop(batches=lambda epoch: [X])),
        "task.loop.batches(0)",
        "an array float32[40, 6]",
        "pairs",
        "my_loader",
    ),
    "loop gives parts of different size": Row(
        lambda: force(loop=own_loop(batches=lambda epoch: [(X, Y[:9])])),
        "task.loop.batches(0)",
        "[40, 6]",
        "one leading size",
        "my_loader",
    ),
    "loop batches of no arguments": Row(
        lambda: force(loop=own_loop(batches=lambda: [(X, Y)])),
        "task.loop.batches(0)",
        "TypeError",
        "iterable",
        "lambda epoch",
    ),
    "loop predicts something else": Row(
        lambda: force(loop=own_loop(predict=lambda s, x: x)),
        "task.loop.predict",
        "float32[8, 6]",
        "float32[8, 3]",
        "same network",
    ),
}

TOKENS = RNG.integers(0, 5, size=(40, 7)).astype(np.int32)


def sequences() -> Task:
    """Tokens `[batch, time]`."""

    def apply(p, s, x, *, train, key):
        return p["embed"][x] @ p["embed"].T, s

    return BASE.replace(
        model=Model(lambda key, x: ({"embed": jnp.zeros((5, 4))}, {}), apply),
        loss=lambda o, t: cross_entropy(o, t).mean(axis=1),
        train=(TOKENS, TOKENS),
        test=(TOKENS[:9], TOKENS[:9]),
        target=Tokens(5),
        causal=True,
    )


def heads() -> Task:
    """A dict of inputs, a mapping of targets, one of them nested."""

    def apply(p, s, x, *, train, key):
        z = x["a"] @ p["kernel"] + x["b"][:, None]
        return {"kind": z, "more": {"size": z[:, 0], "marks": z}}, s

    def data(n: int) -> Any:
        targets = {"kind": Y[:n], "more": {"size": X[:n, 0], "marks": np.eye(3, dtype=np.float32)[Y[:n]]}}
        return {"a": X[:n], "b": X[:n, 0]}, targets

    return BASE.replace(
        model=Model(lambda key, x: ({"kernel": jnp.zeros((6, 3))}, {}), apply),
        loss=lambda o, t: cross_entropy(o["kind"], t["kind"]) + (o["more"]["size"] - t["more"]["size"]) ** 2,
        train=data(40),
        test=data(12),
        target={"kind": Classes(3), "more": {"size": Values(), "marks": MultiLabel(3)}},
    )


HEALTHY: dict[str, Callable[[], Task]] = {
    "classes": lambda: BASE,
    "sequences": sequences,
    "heads": heads,
    "regression": lambda: BASE.replace(
        model=linear(1), loss=lambda o, t: (o[:, 0] - t) ** 2, train=(X, X[:, 0]), test=None, target=Values()
    ),
    "binary": lambda: BASE.replace(
        model=linear(1),
        loss=lambda o, t: optax.sigmoid_binary_cross_entropy(o[:, 0], t.astype(jnp.float32)),
        train=(X, (Y % 2).astype(np.float32)),
        test=None,
        target=Binary(),
    ),
    "scalar loss, adapted": lambda: BASE.replace(loss=per_example(lambda o, t: cross_entropy(o, t).mean())),
    "items": lambda: BASE.replace(train=Items(lambda i: (X[i], Y[i])), test=Items(lambda i: (X[i], Y[i]), 9)),
    "jax arrays, 64 bits": lambda: BASE.replace(train=(jnp.asarray(X), Y.astype(np.int64)), test=(X, Y)),
    "bytes, scaled": lambda: BASE.replace(
        train=(np.abs(X).astype(np.uint8), Y), test=None, prepare=lambda x, y: (x.astype(jnp.float32) / 255, y)
    ),
    "labels repaired by prepare": lambda: BASE.replace(train=(X, Y + 1), test=None, prepare=lambda x, y: (x, y - 1)),
    "NaN replaced by prepare": lambda: BASE.replace(
        train=(with_first(X, np.nan), Y), prepare=lambda x, y: (jnp.nan_to_num(x), y)
    ),
    "missing targets masked by the loss": lambda: BASE.replace(
        model=linear(1),
        train=(X, with_first(X[:, 0], np.nan)),
        test=None,
        target=Values(),
        loss=lambda o, t: jnp.where(jnp.isnan(t), 0.0, o[:, 0] - jnp.where(jnp.isnan(t), 0.0, t)) ** 2,
    ),
    "padding declared": lambda: sequences().replace(
        train=(TOKENS, with_first(TOKENS, -1)), test=None, target=Tokens(5, pad=-1)
    ),
    "frozen": lambda: BASE.replace(frozen=("bias",), capacities=(linear(), linear())),
    "own loop": lambda: BASE.replace(loop=own_loop()),
    "own loop and batches": lambda: BASE.replace(loop=own_loop(batches=lambda epoch: [(X, Y)])),
    "own loop on the host": lambda: BASE.replace(
        loop=own_loop(step=lambda s, x, y, k: (s, {"loss": float(np.asarray(x).mean())}))
    ),
    "no targets": lambda: BASE.replace(
        train=(X, None), test=None, target=Unspecified(), loss=lambda o, t: (o**2).mean(axis=1)
    ),
    "schedule and clipping": lambda: BASE.replace(
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-3, 100)))
    ),
    "bfloat16": lambda: BASE.replace(policy="bfloat16"),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_mistake_is_told_in_four_parts(row: Row) -> None:
    task = row.task()
    found = problems(task)
    told = [one for one in found if one.where == row.where and row.got in one.got]
    assert told, "\n".join(map(str, found)) or "nothing found"
    one = told[0]
    assert one.severity == row.severity
    assert row.wanted in one.wanted
    assert row.fix in one.fix
    for part in (one.where, one.got, one.wanted, one.fix):
        assert part.strip()
        assert part in str(one)
    assert one.fix.rstrip().endswith((".", ")"))
    if row.severity == "error":
        with pytest.raises(InvalidTaskError) as caught:
            validate(task)
        assert str(one) in str(caught.value)
    elif all(other.severity == "warning" for other in found):
        validate(task)


def nothing(*_args: Any, **_named: Any) -> None:
    """A function whose last line lacks `return`."""


FORGOTTEN: dict[str, Callable[[], Task]] = {
    "task.loss": lambda: BASE.replace(loss=nothing),
    "task.model.init": lambda: BASE.replace(model=Model(nothing, linear().apply)),
    "task.model.apply": lambda: BASE.replace(model=Model(linear().init, nothing)),
    "task.prepare": lambda: BASE.replace(prepare=nothing),
    "task.augment": lambda: BASE.replace(augment=nothing),
    "task.metrics['accuracy']": lambda: BASE.replace(metrics={"accuracy": nothing}),
    "task.optimizer.init": lambda: BASE.replace(
        optimizer=optax.GradientTransformation(nothing, optax.adam(1.0).update)
    ),
    "task.optimizer.update": lambda: BASE.replace(
        optimizer=optax.GradientTransformation(optax.adam(1.0).init, nothing)
    ),
    **{
        f"task.loop.{name}": lambda name=name: BASE.replace(loop=own_loop(**{name: nothing}))
        for name in ("init", "step", "variables", "evaluate", "predict", "batches")
    },
    "task.loop.restore": lambda: BASE.replace(loop=own_loop(save=nothing, restore=nothing)),
}


@pytest.mark.parametrize("where", FORGOTTEN)
def test_a_forgotten_return_is_named_before_anything_runs(where: str) -> None:
    told = [one for one in problems(FORGOTTEN[where]()) if one.where.startswith(where) and one.severity == "error"]
    assert told
    assert "None" in told[0].got
    assert told[0].wanted


def test_what_returns_nothing_on_purpose_is_fine() -> None:
    plain = optax.GradientTransformation(lambda _params: None, lambda grads, state, _params=None: (grads, state))
    assert not problems(BASE.replace(optimizer=plain))
    assert not problems(BASE.replace(loop=own_loop(save=nothing, restore=lambda _folder, template: template)))


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY.keys())
def test_what_is_right_raises_no_word(make: Callable[[], Task]) -> None:
    assert [str(problem) for problem in problems(make())] == []


def test_everything_is_told_at_once() -> None:
    task = force(
        loss=lambda o, t: cross_entropy(o, t).mean(),
        batch_size=64,
        human=98.0,
        train=(with_first(X, np.nan), with_first(Y, 7)),
        frozen=("nothing",),
        optimizer=masked({"weights": "a"}),
    )
    with pytest.raises(InvalidTaskError) as caught:
        validate(task)
    where = {problem.where for problem in caught.value.problems}
    assert where == {
        "task.loss",
        "task.batch_size",
        "task.human",
        "task.train, inputs",
        "task.train, targets",
        "task.frozen",
        "task.optimizer.init",
    }
    assert "task 'base' cannot work: 7 problems" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_warnings_alone_do_not_raise_and_come_last() -> None:
    task = ROWS["integer values"].task()
    validate(task)
    both = force(task, human=98.0)
    assert [problem.severity for problem in problems(both)] == ["error", "warning"]
    with pytest.raises(InvalidTaskError, match=r"1 problem\n.*human.*\n.*\(warning\)"):
        validate(both)


def test_nothing_is_executed() -> None:
    """Neither the model, the loss, the optimizer nor the loop sees a value."""
    seen: list[Any] = []

    def spy(*arrays: Any) -> None:
        seen.extend(type(leaf) for leaf in jax.tree.leaves(arrays) if not isinstance(leaf, jax.core.Tracer))

    base, loop, adam = linear(), own_loop(), optax.adam(1e-3)
    task = BASE.replace(
        model=Model(base.init, lambda p, s, x, **kwargs: (spy(p, s, x), base.apply(p, s, x, **kwargs))[1]),
        loss=lambda o, t: (spy(o, t), cross_entropy(o, t))[1],
        optimizer=optax.GradientTransformation(adam.init, lambda g, s, p=None: (spy(g, s, p), adam.update(g, s, p))[1]),
        loop=own_loop(step=lambda *a: (spy(*a), loop.step(*a))[1]),
    )
    validate(task)
    assert seen == []


def test_data_are_left_as_they_are() -> None:
    x, y = X.copy(), Y.copy()
    x.setflags(write=False)
    validate(BASE.replace(train=(x, y), test=None))
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)


@settings(deadline=None, max_examples=25)
@given(labels=st.lists(st.integers(-2, 5), min_size=8, max_size=30))
def test_labels_out_of_range_are_counted_exactly(labels: list[int]) -> None:
    task = BASE.replace(train=(X[: len(labels)], np.array(labels, np.int32)), test=None)
    wrong = [i for i, label in enumerate(labels) if not 0 <= label < 3]
    found = problems(task)
    if not wrong:
        assert found == []
    else:
        (one,) = found
        assert f"{len(wrong)} of {len(labels)} out of range, first in example {wrong[0]}" in one.got


def test_invalid_task_survives_pickling() -> None:
    import pickle

    error = InvalidTaskError("t", [Problem(where="a", got="b", wanted="c", fix="D.")])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # own bytes


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"loss": lambda out, y: jnp.square(out).mean(axis=0)}, "loss/wrong-axis"),
        ({"loss": lambda out, y: jnp.square(out[:, :1] - y[None, :].astype(jnp.float32))}, "loss/broadcast"),
        ({"loss": lambda out, y: jnp.square(out).mean()}, ""),
        ({"train": (np.where(np.arange(len(X))[:, None] == 3, np.nan, X).astype(np.float32), Y)}, "data/not-finite"),
        ({"train": (X, Y + 1)}, "data/labels-from-one"),
        ({"train": (X, Y + 2)}, "data/labels-out-of-range"),
        ({"train": (X, (Y / 255).astype(np.float32)), "loss": lambda out, y: out[:, 0] * y}, "data/labels-scaled"),
    ],
)
def test_a_problem_that_is_a_cause_of_the_table_has_its_code(change: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidTaskError) as caught:
        validate(BASE.replace(**change))
    assert {problem.code for problem in caught.value.problems} >= {code}
    assert not code or code in CAUSES
