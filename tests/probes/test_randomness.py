"""What a model draws at evaluation and why, on models whose reason is known."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.catalogue import evaluation
from jaxrecipe.probes.randomness import Origin, draws_by_design, evaluation_randomness, relative_distance
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Model, Task
from tests.zoo.healthy import digits_task, dropout_task

Change = Callable[[Any, Any, bool], Any]
"""What is made of the outputs with a key, in a mode."""


def drawing(change: Change) -> Task:
    """The digits with something done to the logits in both modes."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        outputs, state = model.apply(params, state, inputs, train=train, key=None)
        return change(outputs, jax.random.key(0) if key is None else key, train), state

    return task.replace(model=Model(model.init, apply))


def dropped(x: Any, key: Any, _: bool) -> Any:
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0.0)


def masked(x: Any, key: Any, _: bool) -> Any:
    return x * jax.random.bernoulli(key, 0.5, (len(x), 1)).astype(x.dtype)


def branch_dropped(x: Any, key: Any, _: bool) -> Any:
    return jax.lax.cond(jax.random.bernoulli(key, 0.5), lambda: x, lambda: jnp.zeros_like(x))


def dropped_in_a_loop(x: Any, key: Any, train: bool) -> Any:
    return jax.lax.scan(lambda x, key: (dropped(x, key, train), None), x, jax.random.split(key, 3))[0]


def averaged(x: Any, key: Any, train: bool) -> Any:
    """Monte Carlo dropout: four draws at evaluation, one in training."""
    keys = jax.random.split(key, 1 if train else 4)
    return jax.lax.map(lambda one: dropped(x, one, train), keys).mean(axis=0)


def reparametrized(x: Any, key: Any, _: bool) -> Any:
    return x + jnp.exp(0.5 * x) * jax.random.normal(key, x.shape)


def generated(x: Any, key: Any, _: bool) -> Any:
    return x + jax.random.normal(key, (len(x), x.shape[1])) @ (x.T @ x)


def sampled(x: Any, key: Any, _: bool) -> Any:
    return jax.nn.one_hot(jax.random.categorical(key, x), x.shape[1], dtype=x.dtype)


def told(x: Any, key: Any, _: bool) -> Any:
    noise = jax.random.normal(key, x.shape)
    return {"outputs": x + 0.1 * noise, "noise": noise}


def noisy(x: Any, key: Any, _: bool) -> Any:
    return x + 0.1 * jax.random.normal(key, x.shape)


def unused(x: Any, key: Any, _: bool) -> Any:
    jax.random.normal(key, x.shape)
    return x


CASES: tuple[tuple[Change, Origin], ...] = (
    (dropped, Origin.LEFT_ON),
    (masked, Origin.LEFT_ON),
    (branch_dropped, Origin.LEFT_ON),
    (dropped_in_a_loop, Origin.LEFT_ON),
    (averaged, Origin.DESIGN),
    (reparametrized, Origin.DESIGN),
    (generated, Origin.DESIGN),
    (sampled, Origin.DESIGN),
    (told, Origin.DESIGN),
    (noisy, Origin.UNKNOWN),
    (lambda x, key, train: dropped(reparametrized(x, key, train), key, train), Origin.LEFT_ON),
    (unused, Origin.NONE),
)


@pytest.mark.parametrize(("change", "origin"), CASES, ids=range(len(CASES)))
def test_where_randomness_comes_from(change: Change, origin: Origin) -> None:
    drawn = evaluation_randomness(make_setup(drawing(change)))
    assert drawn.origin is origin
    assert (drawn.by_key > 0) is (origin is not Origin.NONE)
    assert drawn.accepted is (origin in (Origin.DESIGN, Origin.UNKNOWN))


def test_dropout_is_told_from_dropout_that_was_left_on() -> None:
    right, wrong = dropout_task(), evaluation.dropout_at_eval(dropout_task())
    assert [evaluation_randomness(make_setup(task)).origin for task in (right, wrong)] == [Origin.NONE, Origin.LEFT_ON]
    assert not draws_by_design(make_setup(right), train=True)


def test_a_distance_is_a_share_of_the_first_norm() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    expected = np.sqrt(sum((x - y) ** 2 for x, y in zip(a.flat, b.flat, strict=True)) / sum(x**2 for x in a.flat))
    assert relative_distance({"x": a[:2], "y": a[2:]}, {"x": b[:2], "y": b[2:]}) == pytest.approx(expected)
    holes = np.where(a > 0, np.nan, a)
    assert relative_distance(holes, holes) == 0
