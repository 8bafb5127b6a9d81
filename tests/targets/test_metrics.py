"""The metrics of the declared targets, against plain Python loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.targets import (
    Binary,
    Classes,
    MultiLabel,
    TargetTree,
    Tokens,
    Unspecified,
    Values,
    absolute_error,
    correct_class,
    correct_sign,
    correct_token,
    default_metrics,
)

SEEDS = st.integers(0, 2**31)


def draw(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, pixels=st.sampled_from([(), (3,), (2, 2)]))
def test_correct_class_counts_the_positions_of_each_example(seed: int, pixels: tuple[int, ...]) -> None:
    logits = draw(seed, (4, *pixels, 5))
    labels = np.random.default_rng(seed + 1).integers(0, 5, size=(4, *pixels))
    wanted = []
    for example, truth in zip(logits, labels, strict=True):
        hits = [int(np.argmax(row)) == int(one) for row, one in zip(example.reshape(-1, 5), truth.ravel(), strict=True)]
        wanted.append(sum(hits) / len(hits))
    got = correct_class(jnp.asarray(logits), jnp.asarray(labels, jnp.int32))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_correct_sign_takes_labels_of_any_dtype_and_either_shape(dtype: type, shape: tuple[int, ...]) -> None:
    logits, labels = jnp.array([2.0, -1.0, 0.5, -3.0]), np.array([1, 1, 0, 0], dtype)
    with jax.numpy_dtype_promotion("standard"):
        got = correct_sign(logits, jnp.asarray(labels).reshape(shape))
    assert got.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_correct_sign_of_several_labels_is_a_share() -> None:
    logits = jnp.array([[1.0, -1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    labels = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert correct_sign(logits, labels).tolist() == [0.5, 0.75]


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, pad=st.sampled_from([None, 0, -1]))
def test_correct_token_leaves_out_padding(seed: int, pad: int | None) -> None:
    rng = np.random.default_rng(seed)
    logits, tokens = draw(seed, (3, 6, 4)), rng.integers(0, 4, size=(3, 6)).astype(np.int32)
    if pad == -1:
        tokens[rng.random((3, 6)) < 0.4] = -1
    wanted = []
    for example, truth in zip(logits, tokens, strict=True):
        counted = [t for t in range(6) if pad is None or truth[t] != pad]
        hits = [int(np.argmax(example[t])) == truth[t] for t in counted]
        wanted.append(sum(hits) / max(len(hits), 1))
    np.testing.assert_allclose(correct_token(pad)(jnp.asarray(logits), jnp.asarray(tokens)), wanted, rtol=1e-6)


def test_correct_token_of_nothing_but_padding_is_zero_and_finite() -> None:
    got = correct_token(0)(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3), jnp.int32))
    assert got.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_absolute_error_is_a_mean_over_an_example(dtype: type) -> None:
    outputs, values = draw(0, (3, 2, 2)), (3 * draw(1, (3, 2, 2))).astype(dtype)
    pairs = [zip(a.ravel(), b.ravel(), strict=True) for a, b in zip(outputs, values, strict=True)]
    wanted = [np.mean([abs(float(o) - float(v)) for o, v in pair]) for pair in pairs]
    np.testing.assert_allclose(absolute_error(jnp.asarray(outputs), jnp.asarray(values)), wanted, rtol=1e-5)


def test_absolute_error_of_a_column_does_not_broadcast() -> None:
    got = absolute_error(jnp.array([[1.0], [2.0]]), jnp.array([1.0, 5.0]))
    assert got.tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Classes(3), ["accuracy"]),
        (Binary(), ["accuracy"]),
        (MultiLabel(2), ["accuracy"]),
        (Tokens(5), ["accuracy"]),
        (Values(), ["absolute_error"]),
        (Unspecified(), []),
        ({"a": Classes(3), "b": {"c": Values(), "d": Unspecified()}}, ["a/accuracy", "b/c/absolute_error"]),
    ],
)
def test_default_metrics_by_name(target: TargetTree, names: list[str]) -> None:
    assert list(default_metrics(target)) == names


def test_metrics_of_heads_read_their_own_head() -> None:
    outputs = {"a": jnp.eye(3)[jnp.array([0, 1])], "b": {"c": jnp.array([1.0, 2.0])}}
    targets = {"a": jnp.array([0, 2]), "b": {"c": jnp.array([1.5, 2.0])}}
    metrics = default_metrics({"a": Classes(3), "b": {"c": Values()}})
    values = {name: metric(outputs, targets).tolist() for name, metric in metrics.items()}
    assert values == {"a/accuracy": [1.0, 0.0], "b/c/absolute_error": [0.5, 0.0]}
