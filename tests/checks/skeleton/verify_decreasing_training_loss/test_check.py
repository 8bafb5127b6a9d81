"""More capacity, less training loss."""

from collections.abc import Callable
from typing import Any

import jax
import optax
import pytest

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss import verify_decreasing_training_loss
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Curve, Result, Status
from jaxrecipe.task import Task
from tests.zoo import sequences as s
from tests.zoo.broken import after_model
from tests.zoo.healthy import (
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

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP
LAG = "behind a linear model, as a share of what was gained"
Run = Callable[..., Result]


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


def masked_optimizer() -> Task:
    """An optimizer that is told its parameters' labels by path, and so fits no other model."""
    labels = {name: {"kernel": "all", "bias": "all"} for name in ("hidden", "logits")}
    return digits_task().replace(optimizer=optax.multi_transform({"all": optax.adam(2e-3)}, labels))


CASES: dict[str, tuple[Callable[[], Task], Status, str]] = {
    "digits": (digits_task, P, ""),
    "linear by design": (three_parameters_task, P, ""),
    "linear by design, imbalanced": (binary_task, P, ""),
    "transformer": (s.transformer_task, P, ""),
    "autoencoder": (autoencoder_task, S, ""),
    "an optimizer for these parameters alone": (masked_optimizer, S, ""),
    "sigmoid that learns": (
        lambda: digits_of(jax.nn.sigmoid).replace(optimizer=optax.adam(3e-2)),
        W,
        "model/saturating-activation",
    ),
    "growing": (lambda: ladder(stack(jax.nn.relu, (64, 2, 10)), stack(jax.nn.relu, (64, 32, 10))), P, ""),
    "no activation": (lambda: digits_of(same), F, "model/no-activation"),
    "no activation, five layers": (lambda: digits_of(same, (64, 48, 48, 48, 10)), F, "model/no-activation"),
    "a narrow linear layer": (lambda: digits_of(same, (64, 4, 10)), W, "model/no-activation"),
    "no activation in a transformer": (lambda: attention(same), F, "model/no-activation"),
    "softmax in mid-network": (
        lambda: digits_of(jax.nn.softmax, (64, 64, 64, 10)),
        F,
        "model/saturating-activation",
    ),
    "sigmoids in mid-network": (
        lambda: digits_of(jax.nn.sigmoid, (64, 32, 32, 32, 32, 32, 32, 32, 10)),
        F,
        "model/saturating-activation",
    ),
    "outputs that are too small": (
        lambda: after_model(digits_task(), lambda x: 1e-4 * x),
        W,
        "model/no-better-than-linear",
    ),
    "a ladder that goes up": (
        lambda: ladder(mlp_model(), stack(jax.nn.softmax, (64, 64, 64, 64, 10))),
        F,
        "model/capacity-does-not-help",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_code(run: Run, case: str) -> None:
    make, status, code = CASES[case]
    result = run(verify_decreasing_training_loss, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert (result.codes[0] if result.codes else "") == code


def test_what_cannot_be_compared_says_what_to_declare(run: Run) -> None:
    """No rival is no pass; a contrastive loss compares the examples of a batch, whatever the model."""
    for task in (autoencoder_task(), masked_optimizer(), digits_task(mixes_examples=True)):
        result = run(verify_decreasing_training_loss, task)
        assert result.status is Status.SKIP
        assert "capacities=" in result.summary


def test_what_stands_between_layers_is_said_even_without_a_rival(run: Run) -> None:
    squashed = digits_of(jax.nn.sigmoid, (64, 32, 16, 10)).replace(mixes_examples=True)
    result = run(verify_decreasing_training_loss, squashed)
    assert result.status is Status.WARN
    assert result.codes == ("model/saturating-activation",)


def test_the_depth_is_the_number_of_matrices(run: Run) -> None:
    result = run(verify_decreasing_training_loss, digits_of(same, (64, 48, 48, 10)))
    assert result.measured["matrices in a row without an activation"] == pytest.approx(3.0, abs=1e-3)


def test_a_lag_is_a_warning_on_one_side_of_the_threshold_only(run: Run) -> None:
    small = after_model(digits_task(), lambda x: 1e-4 * x)
    lag = run(verify_decreasing_training_loss, small).measured[LAG]
    assert lag > 0.25
    assert run(verify_decreasing_training_loss, small, behind=1.5).status is Status.PASS


def test_the_curve_ends_where_the_measures_say(run: Run) -> None:
    result = run(verify_decreasing_training_loss, regression_task(), steps=30)
    curve = next(one for one in result.evidence if isinstance(one, Curve))
    assert curve.series["model"][-1] == pytest.approx(result.measured["training loss"])
    assert curve.series["model"][0] > curve.series["model"][-1]
    assert curve.x[-1] == result.measured["steps"]
