"""A few examples that spoil the gradient, and examples that teach nothing, are called by their numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.example_gradients import example_gradients
from jaxrecipe.checks.skeleton.example_gradients.scan import scan
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Status
from jaxrecipe.setup import make_setup
from jaxrecipe.targets import Unspecified
from jaxrecipe.task import Task
from tests.zoo.healthy import dense, linear, stateless

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 5)).astype(np.float32)
Y = (np.arange(70) % 4).astype(np.int32)
BLANK = (9, 41)
KEY = jax.random.key(0)


def network(guarded: bool) -> Model:
    """Divides by the norm of its inputs, whose gradient is NaN at 0 unless the argument of the root is guarded."""

    def forward(params: Any, x: Any) -> Any:
        squared = jnp.square(linear(params, x)).sum(axis=1, keepdims=True)
        safe = jnp.maximum(squared, 1e-12) if guarded else squared
        return linear(params, x) + jnp.sqrt(safe)

    return stateless(lambda key: {**dense(key, 5, 4), "bias": jnp.zeros(4)}, forward)


def task(**fields: Any) -> Task:
    base = Task(
        model=network(True),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.sgd(0.1),
        train=(X, Y),
        target=Unspecified(),
        batch_size=16,
    )
    return base.replace(**fields)


def with_blanks() -> tuple[np.ndarray, np.ndarray]:
    return np.where(np.isin(np.arange(70), BLANK)[:, None], 0, X).astype(np.float32), Y


def one_hot_loss(outputs: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy(outputs, jax.nn.one_hot(labels, 4, dtype=jnp.float32))


def test_examples_that_make_the_gradient_nan_are_named(run) -> None:
    result = run(example_gradients, task(model=network(False), train=with_blanks()))
    assert result.status is Status.FAIL
    assert result.codes == ("model/gradient-not-finite",)
    assert "2 of 70 examples spoil it, 9, 41" in result.headline
    assert run(example_gradients, task(train=with_blanks())).status is Status.PASS
    assert run(example_gradients, task(model=network(False))).status is Status.PASS


def test_an_optimizer_that_copes_makes_it_a_warning(run) -> None:
    optimizer = optax.apply_if_finite(optax.sgd(0.1), 5)
    result = run(example_gradients, task(model=network(False), train=with_blanks(), optimizer=optimizer))
    assert result.status is Status.WARN


@pytest.mark.parametrize(("first", "code"), [(1, "data/labels-from-one"), (-1, "data/labels-out-of-range")])
def test_labels_off_by_one_for_one_hot(run, first: int, code: str) -> None:
    result = run(example_gradients, task(train=(X, Y + first), loss=one_hot_loss))
    assert result.status is Status.FAIL
    assert result.findings[0].causes[0].code == code
    assert run(example_gradients, task(loss=one_hot_loss)).status is Status.PASS


def test_labels_from_one_whose_loss_is_nan(run) -> None:
    result = run(example_gradients, task(train=(X, Y + 1)))
    assert result.status is Status.FAIL
    assert result.findings[0].causes[0].code == "data/labels-from-one"


def test_examples_left_out_on_purpose_are_worth_a_look_only(run) -> None:
    unlabeled = np.where(np.arange(70) < 20, -1, Y).astype(np.int32)
    result = run(example_gradients, task(train=(X, unlabeled), loss=one_hot_loss))
    assert result.status is Status.WARN
    assert result.codes == ("loss/teaches-nothing",)


def test_a_margin_that_is_kept_still_teaches() -> None:
    def hinge(outputs: Any, labels: Any) -> Any:
        right = jnp.take_along_axis(outputs, labels[:, None], axis=1)
        return jnp.maximum(0, outputs - right - 0.5).sum(axis=1)

    found = scan(make_setup(task(loss=hinge)), KEY, 70)
    assert not len(found.silent)
    assert len(found.rows) == 70
