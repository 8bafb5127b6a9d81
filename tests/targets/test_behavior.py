"""Each row of the table of targets, against plain Python loops."""

import math
from collections import Counter
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.targets import (
    BEHAVIORS,
    Binary,
    Classes,
    MultiLabel,
    Target,
    Tokens,
    Unspecified,
    Values,
    behavior,
    counted,
    entropy,
)

RNG = np.random.default_rng(0)
CLASS_LABELS = np.array([0, 2, 2, 1, -1, 7], np.int32)
TOKEN_ROWS = np.array([[1, 2, 0], [3, 0, 0]], np.int32)


def test_every_kind_of_target_has_a_row() -> None:
    assert set(BEHAVIORS) == set(get_args(Target))


@pytest.mark.parametrize(
    ("target", "form", "classes"),
    [
        (Classes(3), "exclusive", 3),
        (Tokens(9), "exclusive", 9),
        (Binary(), "independent", 2),
        (MultiLabel(4), "independent", 2),
        (Values(), "real", None),
        (Unspecified(), "undeclared", None),
    ],
)
def test_the_form_and_the_number_of_answers(target: Target, form: str, classes: int | None) -> None:
    row = behavior(target)
    assert row.form == form
    assert row.classes(target) == classes
    assert row.labeled == (classes is not None)


@pytest.mark.parametrize(
    ("target", "targets", "labels"),
    [
        (Classes(3), CLASS_LABELS, [0, 2, 2, 1, -1, -1]),
        (Classes(3), CLASS_LABELS.astype(np.float32), None),
        (Classes(256), np.array([255, 0], np.uint8), [255, 0]),
        (Tokens(3, pad=0), TOKEN_ROWS, [[1, 2, -1], [-1, -1, -1]]),
        (Tokens(4), TOKEN_ROWS, [[1, 2, 0], [3, 0, 0]]),
        (Binary(), np.array([0.0, 1.0]), [0, 1]),
        (Binary(), np.array([True, False]), [1, 0]),
        (MultiLabel(2), np.array([[0, 1], [1, 1]]), [[0, 1], [1, 1]]),
        (Values(), np.array([0.5]), None),
        (Unspecified(), np.array([1]), None),
    ],
)
def test_labels_and_which_of_them_count(target: Target, targets: np.ndarray, labels: Any) -> None:
    found = behavior(target).labels(target, targets)
    assert (found is None) == (labels is None)
    if found is None:
        assert counted(target, targets).all()
    else:
        assert found.tolist() == labels
        assert counted(target, targets).tolist() == (np.asarray(labels) >= 0).tolist()


def plain_entropy(labels: list[int]) -> float:
    return -sum(n / len(labels) * math.log(n / len(labels)) for n in Counter(labels).values())


@pytest.mark.parametrize(
    ("target", "targets", "wanted"),
    [
        (Classes(3), CLASS_LABELS, plain_entropy([0, 2, 2, 1])),
        (Classes(3), np.array([[0, 1], [2, 2]], np.int32), plain_entropy([0, 1, 2, 2])),
        (Tokens(5, pad=0), TOKEN_ROWS, plain_entropy([1, 2, 3])),
        (Binary(), np.array([1, 0, 0, 0]), plain_entropy([1, 0, 0, 0])),
        (
            MultiLabel(2),
            np.array([[0, 1], [1, 1], [0, 0], [0, 1]]),
            (plain_entropy([0, 1, 0, 0]) + plain_entropy([1, 1, 0, 1])) / 2,
        ),
        (Values(), np.array([1.0]), None),
        (Classes(3), np.array([-1, -1], np.int32), None),
    ],
)
def test_entropy(target: Target, targets: np.ndarray, wanted: float | None) -> None:
    assert entropy(target, targets) == (wanted if wanted is None else pytest.approx(wanted))


def cross_entropy(target: Target, outputs: Any, targets: Any, *, probabilities: bool) -> np.ndarray:
    """Loss in nats of each label, written out."""
    if behavior(target).form == "exclusive":
        log = jnp.log(outputs) if probabilities else jax.nn.log_softmax(outputs)
        return -np.take_along_axis(np.asarray(log), np.asarray(targets)[..., None], axis=-1)
    share = outputs if probabilities else jax.nn.sigmoid(outputs)
    return -np.log(np.where(np.asarray(targets).reshape(share.shape) > 0.5, share, 1.0 - share))


LABELED = [
    (Classes(4), (3, 4), np.array([0, 3, 1], np.int32)),
    (Classes(4), (2, 3, 4), np.array([[0, 3, 1], [2, 2, 2]], np.int32)),
    (Tokens(4), (2, 3, 4), TOKEN_ROWS),
    (Binary(), (4, 1), np.array([0, 1, 1, 0])),
    (MultiLabel(2), (2, 2), np.array([[0.0, 1.0], [1.0, 1.0]])),
]


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize(("target", "shape", "targets"), LABELED)
def test_certain_outputs_cost_nothing_and_uninformed_ones_log_n(
    target: Target, shape: tuple[int, ...], targets: np.ndarray, probabilities: bool
) -> None:
    row, outputs = behavior(target), jnp.zeros(shape)
    certain = row.certain(target, outputs, targets, probabilities)
    assert certain is not None
    assert cross_entropy(target, certain, targets, probabilities=probabilities).max() < 1e-6
    equal = row.uninformed(target, outputs, probabilities)
    classes = row.classes(target)
    assert classes is not None
    np.testing.assert_allclose(
        cross_entropy(target, equal, targets, probabilities=probabilities), math.log(classes), rtol=1e-6
    )


def test_the_certain_values_are_the_values() -> None:
    target, values = Values(), RNG.normal(size=(3, 2)).astype(np.float32)
    certain = behavior(target).certain(target, jnp.zeros((3, 2, 1)), values, False)
    assert certain is not None
    np.testing.assert_array_equal(certain, values[..., None])
    assert not np.asarray(behavior(target).uninformed(target, jnp.ones((3, 2)), False)).any()


@pytest.mark.parametrize(
    ("target", "shape", "targets"),
    [
        (Classes(4), (3, 4), np.zeros(2, np.int32)),
        (Classes(4), (3, 4), np.zeros(3, np.float32)),
        (Binary(), (4, 2), np.zeros(4)),
        (Values(), (4, 2), np.zeros(4)),
        (Unspecified(), (4,), np.zeros(4)),
    ],
)
def test_nothing_is_certain_where_outputs_and_targets_do_not_fit(
    target: Target, shape: tuple[int, ...], targets: np.ndarray
) -> None:
    assert behavior(target).certain(target, jnp.zeros(shape), targets, False) is None


def test_constants_of_classes_are_log_frequencies() -> None:
    labels = RNG.integers(0, 3, size=300).astype(np.int32)
    (constant,) = behavior(Classes(3)).constants(Classes(3), jnp.zeros((1, 3)), labels)
    shares = [list(labels).count(one) / 300 for one in range(3)]
    np.testing.assert_allclose(jax.nn.softmax(constant[0]), shares, atol=2e-3)
    assert behavior(Classes(3)).constants(Classes(3), jnp.zeros((1, 5)), labels) == []


def test_constants_of_several_labels_are_shares_and_log_odds() -> None:
    labels = (RNG.random((400, 2)) < [0.2, 0.7]).astype(np.float32)
    shares, log_odds = behavior(MultiLabel(2)).constants(MultiLabel(2), jnp.zeros((1, 2)), labels)
    np.testing.assert_allclose(shares[0], labels.mean(axis=0), atol=2e-3)
    loss = optax.sigmoid_binary_cross_entropy(jnp.broadcast_to(log_odds, labels.shape), jnp.asarray(labels)).mean()
    assert float(loss) == pytest.approx(entropy(MultiLabel(2), labels), abs=1e-4)


def test_constants_of_values_are_mean_and_median_by_place_or_by_channel() -> None:
    values = RNG.exponential(size=(5, 3, 2)).astype(np.float32)
    mean, median = behavior(Values()).constants(Values(), jnp.zeros((1, 3, 2)), values)
    np.testing.assert_allclose(mean[0], values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(median[0], np.median(values, axis=0), rtol=1e-5)
    mean, _ = behavior(Values()).constants(Values(), jnp.zeros((1, 1, 2)), values)
    np.testing.assert_allclose(mean[0, 0], values.reshape(-1, 2).mean(axis=0), rtol=1e-5)
