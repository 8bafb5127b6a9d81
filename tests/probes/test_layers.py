"""What stands between layers, read off the traced program."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxrecipe.probes.layers import Joint, Size, joints, opens_with_raised_biases
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo import sequences as s
from tests.zoo.broken import before_model, with_init
from tests.zoo.healthy import HEALTHY, dense, digits_task, flat, linear, stateless


def layers(activation: Callable[[Any], Any], *sizes: int) -> Task:
    """Dense layers with an activation between them."""

    def init(key: jax.Array) -> Any:
        pairs = itertools.pairwise(sizes)
        return {f"layer_{i}": dense(jax.random.fold_in(key, i), a, b) for i, (a, b) in enumerate(pairs)}

    def forward(params: Any, x: Any) -> Any:
        x = flat(x)
        for i in range(len(sizes) - 1):
            x = linear(params[f"layer_{i}"], activation(x) if i else x)
        return x

    return digits_task(model=stateless(init, forward))


def found(task: Task) -> list[Joint]:
    return joints(make_setup(task))


@pytest.mark.parametrize("make", [digits_task, s.transformer_task, lambda: s.transformer_task(model=s.recurrent())])
def test_gates_attention_and_ordinary_activations_are_nothing_to_report(make: Callable[[], Task]) -> None:
    assert found(make()) == []


@pytest.mark.parametrize("name", HEALTHY)
def test_every_healthy_model_can_be_read(name: str) -> None:
    assert all(joint.between in ("linear", "sigmoid", "softmax") for joint in found(HEALTHY[name](0)))


def test_sigmoids_and_softmaxes_with_the_sizes_around_them() -> None:
    assert found(layers(jax.nn.sigmoid, 64, 32, 16, 10)) == [
        Joint(Size(64, 32), "sigmoid", Size(32, 16)),
        Joint(Size(32, 16), "sigmoid", Size(16, 10)),
    ]
    assert [joint.between for joint in found(layers(jax.nn.softmax, 64, 64, 10))] == ["softmax"]


@pytest.mark.parametrize(("width", "pointless"), [(128, True), (65, True), (64, False), (8, False)])
def test_two_matrices_in_a_row_are_pointless_when_the_middle_is_wider_than_both_ends(
    width: int, pointless: bool
) -> None:
    (joint,) = found(layers(lambda x: 2.0 * x, 64, width, 10))
    assert joint.between == "linear"
    assert joint.pointless is pointless


def closed(params: dict[str, Any]) -> dict[str, Any]:
    """Biases of the hidden layer so low that none of its units opens."""
    hidden = {**params["hidden"], "bias": jnp.full_like(params["hidden"]["bias"], -100.0)}
    return {**params, "hidden": hidden}


def test_dead_units_open_with_raised_biases_and_an_ignored_input_still_moves_nothing() -> None:
    assert opens_with_raised_biases(make_setup(with_init(digits_task(), closed)))
    assert not opens_with_raised_biases(make_setup(before_model(digits_task(), jnp.zeros_like)))
