"""More capacity, less training loss; and what stands between the layers."""

from collections.abc import Callable
from typing import Any

import jax
import optax
import pytest

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss import verify_decreasing_training_loss
from jaxrecipe.probes.layers import joints
from jaxrecipe.report.result import Curve, Result, Status
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Model, Task
from tests.zoo import sequences as s
from tests.zoo.broken import after_model
from tests.zoo.healthy import (
    HEALTHY,
    autoencoder_task,
    binary_task,
    dense,
    digits_task,
    flat,
    linear,
    mlp_model,
    regression_task,
    stateless,
    three_parameters_task,
)

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def stack(activation: Callable[[Any], Any], sizes: tuple[int, ...] = (64, 64, 10)) -> Model:
    """Dense layers with an activation between them."""

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, len(sizes))
        pairs = zip(keys[1:], sizes[:-1], sizes[1:], strict=True)
        return {f"layer_{i}": dense(key, a, b) for i, (key, a, b) in enumerate(pairs)}

    def forward(params: Any, x: Any) -> Any:
        x = flat(x)
        for i in range(len(sizes) - 2):
            x = activation(linear(params[f"layer_{i}"], x))
        return linear(params[f"layer_{len(sizes) - 2}"], x)

    return stateless(init, forward, f"layers of {sizes[1]}")


def same(x: Any) -> Any:
    return x


def digits_of(activation: Callable[[Any], Any], sizes: tuple[int, ...] = (64, 64, 10)) -> Task:
    return digits_task(model=stack(activation, sizes))


def ladder(*models: Model) -> Task:
    return digits_task(capacities=models)


def attention(activation: Callable[[Any], Any]) -> Task:
    return s.transformer_task(model=s.transformer(activation=activation))


CASES = {
    "digits": (digits_task, P, ""),
    "linear by design": (three_parameters_task, P, ""),
    "linear by design, imbalanced": (binary_task, P, ""),
    "two linear heads side by side": (HEALTHY["contrastive"], P, ""),
    "autoencoder": (autoencoder_task, P, ""),
    "transformer": (s.transformer_task, P, ""),
    "sigmoid that learns": (lambda: digits_of(jax.nn.sigmoid).replace(optimizer=optax.adam(3e-2)), W, "sigmoid stands"),
    "growing": (lambda: ladder(stack(jax.nn.relu, (64, 2, 10)), stack(jax.nn.relu, (64, 32, 10))), P, ""),
    "no activation": (lambda: digits_of(same), F, "no non-linearity"),
    "no activation, five layers": (lambda: digits_of(same, (64, 48, 48, 48, 10)), F, "4 matrices in a row"),
    "a narrow linear layer": (lambda: digits_of(same, (64, 4, 10)), W, "bottleneck is meant"),
    "no activation in a transformer": (lambda: attention(same), F, "activation between these layers is missing"),
    "softmax in mid-network": (lambda: digits_of(jax.nn.softmax, (64, 64, 64, 10)), F, "softmax stands in mid-network"),
    "sigmoids in mid-network": (
        lambda: digits_of(jax.nn.sigmoid, (64, 32, 32, 32, 32, 32, 32, 32, 10)),
        F,
        "sigmoid stands in mid-network",
    ),
    "outputs that are too small": (lambda: after_model(digits_task(), lambda x: 1e-4 * x), W, "initialisation"),
    "a ladder that goes up": (
        lambda: ladder(mlp_model(), stack(jax.nn.softmax, (64, 64, 64, 64, 10))),
        F,
        "More capacity should fit",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, hint = CASES[case]
    result = run(verify_decreasing_training_loss, make(), seconds=60.0)
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint


def test_the_depth_is_the_number_of_matrices(run: Callable[..., Result]) -> None:
    result = run(verify_decreasing_training_loss, digits_of(same, (64, 48, 48, 10)))
    assert result.measured["layers in a row without non-linearity"] == pytest.approx(3.0, abs=1e-3)


def test_what_stands_between_the_layers() -> None:
    """Gates, attention and ordinary activations are nothing to report."""
    quiet = [digits_task(), regression_task(), s.transformer_task(), s.transformer_task(model=s.recurrent())]
    assert [joints(make_setup(task)) for task in quiet] == [[], [], [], []]
    found = joints(make_setup(digits_of(jax.nn.sigmoid, (64, 32, 16, 10))))
    assert [(one.between, *one.second) for one in found] == [("sigmoid", 32, 16), ("sigmoid", 16, 10)]
    assert [one.between for one in joints(make_setup(digits_of(jax.nn.softmax)))] == ["softmax"]
    (joint,) = joints(make_setup(digits_of(same, (64, 128, 10))))
    assert (joint.first, joint.between, joint.pointless) == ((64, 128), "linear", True)
    (joint,) = joints(make_setup(digits_of(same, (64, 8, 10))))
    assert not joint.pointless


def test_out_of_time_is_no_verdict(run: Callable[..., Result]) -> None:
    assert run(verify_decreasing_training_loss, digits_of(jax.nn.softmax, (64, 64, 64, 10)), seconds=0.0).status is W


def test_the_curve_ends_where_the_finding_says(run: Callable[..., Result]) -> None:
    result = run(verify_decreasing_training_loss, regression_task(), steps=30)
    curve = next(one for one in result.evidence if isinstance(one, Curve))
    assert curve.series["model"][-1] == pytest.approx(result.measured["training loss"])
    assert curve.series["model"][0] > curve.series["model"][-1]
