"""Task, Model and Loop as values, and losses turned into one number an example."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.parts import Loop, Model, per_example
from jaxrecipe.precision.policy import Policy
from jaxrecipe.targets import Classes, Unspecified, Values
from jaxrecipe.task import Task

X, Y = np.ones((4, 2), np.float32), np.array([0, 1, 0, 1], np.int32)
MODEL = Model(lambda key, x: ({}, {}), lambda p, s, x, *, train, key: (x, s))


def task(**fields) -> Task:
    given = {
        "model": MODEL,
        "loss": optax.softmax_cross_entropy_with_integer_labels,
        "optimizer": optax.sgd(0.1),
        "train": (X, Y),
    }
    return Task(**{**given, **fields})


def test_a_task_is_frozen_and_replace_makes_another() -> None:
    one = task()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.batch_size = 3  # pyright: ignore[reportAttributeAccessIssue]
    other = one.replace(batch_size=3)
    assert (one.batch_size, other.batch_size) == (32, 3)
    assert other.train is one.train


def test_making_a_task_runs_nothing_and_copies_nothing() -> None:
    def never(*_, **__):
        raise RuntimeError("was run")

    loop = Loop(init=never, step=never, variables=never)
    made = task(model=Model(never, never), loss=never, prepare=never, augment=never, loop=loop)
    assert made.train[0] is X


def test_fields_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        Task(MODEL, lambda o, t: o, optax.sgd(0.1), (X, Y))  # pyright: ignore[reportCallIssue]


def test_defaults_declare_nothing() -> None:
    made = task()
    assert made.target == Unspecified()
    assert made.test is made.prepare is made.augment is made.loop is made.human is None
    assert (made.mixes_examples, made.causal, tuple(made.frozen), tuple(made.capacities)) == (False, False, (), ())
    assert made.loss_scale.kind == "none"


def test_precision_parses_names_and_keeps_policies() -> None:
    assert task().precision == Policy()
    assert task(policy="bfloat16").precision.compute_dtype == jnp.bfloat16
    policy = Policy(compute_dtype=jnp.float16)
    assert task(policy=policy).precision is policy


def test_metrics_are_the_targets_unless_they_are_given() -> None:
    assert list(task(target=Classes(2)).all_metrics) == ["accuracy"]
    assert list(task(target={"a": Classes(2), "b": Values()}).all_metrics) == ["a/accuracy", "b/absolute_error"]
    mine = {"mine": lambda o, t: o[:, 0]}
    assert task(target=Classes(2), metrics=mine).all_metrics == mine
    assert task(target=Classes(2), metrics={}).all_metrics == {}


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 6), reduction=st.sampled_from([jnp.mean, jnp.sum]))
def test_per_example_is_the_loss_of_each_example_alone(seed: int, size: int, reduction) -> None:
    rng = np.random.default_rng(seed)
    outputs, targets = rng.normal(size=(size, 3)).astype(np.float32), rng.integers(0, 3, size=size).astype(np.int32)

    def scalar(logits, labels):
        return reduction(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    got = per_example(scalar)(jnp.asarray(outputs), jnp.asarray(targets))
    double = outputs.astype(np.float64)
    wanted = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(double, targets, strict=True)]
    assert got.shape == (size,)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_per_example_takes_trees_and_is_traceable() -> None:
    def scalar(outputs, targets):
        assert outputs["a"].shape == (1, 2) and targets["t"].shape == (1,)  # noqa: PT018
        return outputs["a"].sum() * targets["t"].mean()

    outputs, targets = {"a": jnp.arange(6.0).reshape(3, 2)}, {"t": jnp.array([1.0, 2.0, 3.0])}
    losses = per_example(scalar)
    assert losses(outputs, targets).tolist() == [1.0, 10.0, 27.0]
    grads = jax.jit(jax.grad(lambda o: losses(o, targets).sum()))(outputs)
    assert grads["a"].tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_an_nnx_optimizer_gives_its_transformation() -> None:
    from flax import nnx

    transformation = optax.sgd(0.1)
    task = Task(train=(), optimizer=nnx.Optimizer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), transformation, wrt=nnx.Param))
    assert task.optimizer is transformation
