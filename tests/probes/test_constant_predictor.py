"""The constant predictor, against log n, entropies, variances and scipy in float64."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize_scalar

from jaxrecipe.probes.constant_predictor import (
    best_constant,
    constant_at_init,
    losses_at_constant,
    mean_output,
    uninformed_loss,
)
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Target, Tokens, Values, entropy
from tests.zoo.healthy import digits_task

Make = Callable[..., Setup]
RNG = np.random.default_rng(0)
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def squared(outputs: Any, values: Any) -> Any:
    return jnp.square(outputs - values).reshape(outputs.shape[0], -1).mean(axis=1)


def yes_or_no(logits: Any, labels: Any) -> Any:
    return optax.sigmoid_binary_cross_entropy(logits, labels).reshape(logits.shape[0], -1).mean(axis=1)


LABELS = jnp.asarray(RNG.choice(5, size=200, p=[0.5, 0.2, 0.15, 0.1, 0.05]), jnp.int32)
SEVERAL = jnp.asarray(RNG.random((200, 3)) < [0.1, 0.5, 0.8], jnp.float32)
TOKEN_ROWS = jnp.asarray(RNG.integers(0, 4, size=(40, 6)), jnp.int32)


def masked(logits: Any, tokens: Any) -> Any:
    counted = (tokens != 0).astype(jnp.float32)
    return (cross_entropy(logits, tokens) * counted).sum(axis=1) / jnp.maximum(counted.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("target", "loss", "shape", "targets"),
    [
        (Classes(5), cross_entropy, (200, 5), LABELS),
        (Binary(), yes_or_no, (200,), SEVERAL[:, 0]),
        (MultiLabel(3), yes_or_no, (200, 3), SEVERAL),
        (Tokens(4), lambda o, t: cross_entropy(o, t).mean(axis=1), (40, 6, 4), TOKEN_ROWS),
    ],
)
def test_a_cross_entropy_scores_the_entropy_of_the_labels(
    setup_with: Make, target: Target, loss: Any, shape: tuple[int, ...], targets: Any
) -> None:
    fit = best_constant(setup_with(loss, target), jnp.zeros(shape), targets)
    assert fit.exists
    assert fit.loss == pytest.approx(entropy(target, targets), rel=1e-4)


def test_balanced_classes_score_log_n(setup_with: Make) -> None:
    labels = jnp.tile(jnp.arange(8, dtype=jnp.int32), 16)
    fit = best_constant(setup_with(cross_entropy, Classes(8)), jnp.ones((128, 8)), labels)
    assert fit.loss == pytest.approx(math.log(8), rel=1e-5)


def test_a_squared_error_scores_the_variance_at_the_mean(setup_with: Make) -> None:
    values = jnp.asarray(7.0 + 3.0 * RNG.normal(size=(300, 2)), jnp.float32)
    fit = best_constant(setup_with(squared, Values()), jnp.zeros((300, 2)), values)
    np.testing.assert_allclose(fit.output[0], np.asarray(values).mean(axis=0), rtol=1e-3)
    assert fit.loss == pytest.approx(np.asarray(values, np.float64).var(axis=0).mean(), rel=1e-4)


def huber(error: Any, xp: Any) -> Any:
    return xp.where(xp.abs(error) < 1, error**2 / 2, xp.abs(error) - 0.5)


@pytest.mark.parametrize("loss", [lambda e, xp: xp.abs(e), huber, lambda e, xp: xp.log(xp.cosh(e))])
def test_other_losses_score_what_scipy_finds_in_float64(setup_with: Make, loss: Any) -> None:
    values = RNG.exponential(2.0, size=400)
    wanted: Any = minimize_scalar(lambda c: loss(c - values, np).mean(), bounds=(0, 10), method="bounded")
    setup = setup_with(lambda outputs, values: loss(outputs - values, jnp), Values())
    fit = best_constant(setup, jnp.zeros(400), jnp.asarray(values, jnp.float32))
    assert fit.loss == pytest.approx(float(wanted.fun), rel=1e-3)


def test_a_constant_for_each_position_is_better_where_positions_differ(setup_with: Make) -> None:
    values = jnp.asarray(np.arange(4.0)[None, :, None] + 0.1 * RNG.normal(size=(50, 4, 1)), jnp.float32)
    setup, outputs = setup_with(squared, Values()), jnp.zeros((50, 4, 1))
    shared, each = (best_constant(setup, outputs, values, shared=shared) for shared in (True, False))
    assert shared.output.shape == (1, 1, 1)
    assert each.output.shape == (1, 4, 1)
    assert shared.loss == pytest.approx(np.var(np.asarray(values)), rel=1e-3)
    assert each.loss == pytest.approx(np.asarray(values).var(axis=0).mean(), rel=1e-2)


def test_padding_that_the_loss_leaves_out_is_left_out(setup_with: Make) -> None:
    fit = best_constant(setup_with(masked, Tokens(4, pad=0)), jnp.zeros((40, 6, 4)), TOKEN_ROWS)
    found = minimum_of_masked(np.asarray(TOKEN_ROWS))
    assert fit.loss == pytest.approx(found, rel=1e-3)


def minimum_of_masked(rows: np.ndarray) -> float:
    """Each row's mean over its own tokens, so that tokens of short rows weigh more."""
    weights = np.zeros(4)
    for row in rows:
        kept = row[row != 0]
        for token in kept:
            weights[token] += 1 / len(kept)
    shares = weights[1:] / weights.sum()
    return float(-(weights[1:] * np.log(shares)).sum() / len(rows))


def test_heads_are_fitted_together(setup_with: Make) -> None:
    values = jnp.asarray(5.0 + RNG.normal(size=200), jnp.float32)
    setup = setup_with(
        lambda out, wanted: cross_entropy(out["a"], wanted["a"]) + jnp.square(out["b"] - wanted["b"]),
        {"a": Classes(5), "b": Values()},
    )
    outputs = {"a": jnp.zeros((200, 5)), "b": jnp.zeros(200)}
    fit = best_constant(setup, outputs, {"a": LABELS, "b": values})
    alone = entropy(Classes(5), LABELS)
    assert alone is not None
    assert fit.loss == pytest.approx(alone + float(np.var(np.asarray(values))), rel=1e-3)
    equal = uninformed_loss(setup, fit, outputs, {"a": LABELS, "b": values})
    assert equal == pytest.approx(math.log(5) + float(np.var(np.asarray(values))), rel=1e-3)


def test_probabilities_are_fitted_on_the_simplex(setup_with: Make) -> None:
    def loss(probabilities: Any, labels: Any) -> Any:
        return -jnp.log(jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0])

    outputs = jax.nn.softmax(jnp.asarray(RNG.normal(size=(200, 5)), jnp.float32))
    setup = setup_with(loss, Classes(5))
    fit = best_constant(setup, outputs, LABELS)
    assert fit.loss == pytest.approx(entropy(Classes(5), LABELS), rel=1e-3)
    assert float(fit.output.sum()) == pytest.approx(1.0, abs=1e-5)
    assert uninformed_loss(setup, fit, outputs, LABELS) == pytest.approx(math.log(5), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "target", "targets"),
    [
        (lambda o, y: -cross_entropy(o, y), Classes(5), LABELS),
        (lambda o, y: -squared(o, jax.nn.one_hot(y, 5)), Classes(5), LABELS),
    ],
)
def test_a_loss_without_a_floor_is_seen(setup_with: Make, loss: Any, target: Target, targets: Any) -> None:
    fit = best_constant(setup_with(loss, target), jnp.zeros((200, 5)), targets)
    assert fit.unbounded
    assert not fit.exists


def test_a_loss_that_is_never_finite_has_no_constant(setup_with: Make) -> None:
    fit = best_constant(setup_with(lambda o, y: jnp.nan * o[:, 0], Classes(5)), jnp.zeros((200, 5)), LABELS)
    assert not fit.exists
    assert not fit.unbounded


def test_the_constant_at_init_is_computed_once() -> None:
    setup = make_setup(digits_task())
    fit = constant_at_init(setup)
    assert constant_at_init(setup) is fit
    assert constant_at_init(setup, shared=False) is not fit
    start = setup.at_init
    np.testing.assert_allclose(losses_at_constant(setup, fit.output, start.outputs, start.targets), fit.losses)


def test_the_mean_output_keeps_the_last_axis() -> None:
    outputs = {"a": jnp.asarray(RNG.normal(size=(6, 3, 2)), jnp.float32), "b": jnp.arange(6.0)}
    mean = mean_output(outputs)
    np.testing.assert_allclose(mean["a"][0, 0], np.asarray(outputs["a"]).reshape(-1, 2).mean(axis=0), rtol=1e-5)
    assert mean["b"].tolist() == [2.5]
