"""The minimum achievable loss, against entropies of smoothed labels and counting loops."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.probes.minimum_loss import label_frequencies, minimum_achievable, minimum_losses
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, Tokens, Unspecified, Values
from tests.probes.losses import cross_entropy, of_probabilities

Make = Callable[..., Setup]
RNG = np.random.default_rng(0)
LABELS = jnp.asarray(RNG.integers(0, 4, size=16), jnp.int32)


def test_a_cross_entropy_and_a_squared_error_reach_zero(setup_with: Make) -> None:
    found = minimum_losses(setup_with(cross_entropy, Classes(4)), jnp.zeros((16, 4)), LABELS)
    assert found.max() < 1e-5
    values = jnp.asarray(100 * RNG.normal(size=(16, 2)), jnp.float32)
    squared = setup_with(lambda o, y: jnp.square(o - y).mean(axis=1), Values())
    assert minimum_losses(squared, jnp.zeros((16, 2)), values).max() < 1e-5


def test_label_smoothing_reaches_the_entropy_of_the_smoothed_labels(setup_with: Make) -> None:
    def loss(logits: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, 4), 0.2))

    smoothed = np.array([0.85, 0.05, 0.05, 0.05])
    found = minimum_losses(setup_with(loss, Classes(4)), jnp.zeros((16, 4)), LABELS)
    np.testing.assert_allclose(found, -(smoothed * np.log(smoothed)).sum(), rtol=1e-2)


def test_a_softmax_applied_twice_stops_where_it_must(setup_with: Make) -> None:
    setup = setup_with(lambda o, y: cross_entropy(jax.nn.softmax(o), y), Classes(4))
    np.testing.assert_allclose(minimum_losses(setup, jnp.zeros((16, 4)), LABELS), np.log1p(3 / np.e), rtol=1e-3)


def test_a_loss_on_probabilities_is_asked_at_the_right_answers_only(setup_with: Make) -> None:
    outputs = jax.nn.softmax(jnp.asarray(RNG.normal(size=(16, 4)), jnp.float32))
    found = minimum_losses(setup_with(of_probabilities, Classes(4)), outputs, LABELS)
    assert np.abs(found).max() < 1e-5  # logits beyond the simplex would go below


INPUTS = jnp.asarray([[0], [0], [0], [1], [1], [2], [3], [3]], jnp.float32)
TARGETS = jnp.asarray([1, 1, 2, 0, 3, 2, 1, 1], jnp.int32)


def best_by_counting(keys: list[Any], labels: list[int]) -> tuple[float, float]:
    """Mean of -log(share) and of the majority, by a loop."""
    seen: dict[Any, Counter[int]] = defaultdict(Counter)
    for key, label in zip(keys, labels, strict=True):
        seen[key][label] += 1
    shares = [seen[k][label] / sum(seen[k].values()) for k, label in zip(keys, labels, strict=True)]
    right = [max(seen[k].values()) / sum(seen[k].values()) for k in keys]
    return float(-np.log(shares).mean()), float(np.mean(right))


def test_equal_inputs_with_different_labels_bound_loss_and_accuracy(setup_with: Make) -> None:
    loss, accuracy = best_by_counting([float(x[0]) for x in INPUTS], [int(y) for y in TARGETS])
    found = minimum_achievable(setup_with(cross_entropy, Classes(4)), jnp.zeros((8, 4)), INPUTS, TARGETS)
    assert found.loss == pytest.approx(loss, rel=1e-4)
    assert found.accuracy == {"": pytest.approx(accuracy)}


def test_a_mapping_of_one_head_is_bounded_alike(setup_with: Make) -> None:
    alone = minimum_achievable(setup_with(cross_entropy, Classes(4)), jnp.zeros((8, 4)), INPUTS, TARGETS)
    setup = setup_with(lambda o, y: cross_entropy(o["a"], y["a"]), {"a": Classes(4)})
    mapped = minimum_achievable(setup, {"a": jnp.zeros((8, 4))}, INPUTS, {"a": TARGETS})
    assert mapped.loss == pytest.approx(alone.loss)
    assert mapped.accuracy == {"a": alone.accuracy[""]}


def test_values_beside_classes_can_be_right(setup_with: Make) -> None:
    setup = setup_with(
        lambda o, y: cross_entropy(o["a"], y["a"]) + jnp.square(o["b"] - y["b"]), {"a": Classes(4), "b": Values()}
    )
    outputs, targets = {"a": jnp.zeros((8, 4)), "b": jnp.zeros(8)}, {"a": TARGETS, "b": jnp.arange(8.0)}
    loss, accuracy = best_by_counting([float(x[0]) for x in INPUTS], [int(y) for y in TARGETS])
    found = minimum_achievable(setup, outputs, INPUTS, targets)
    assert found.loss == pytest.approx(loss, rel=1e-4)
    assert found.accuracy == {"a": pytest.approx(accuracy)}


def test_tokens_are_known_by_their_prefix_and_padding_is_not_counted(setup_with: Make) -> None:
    rows = np.array([[1, 2, 3, 0], [1, 2, 1, 0], [1, 3, 0, 0], [2, 1, 1, 1]], np.int32)
    inputs, targets = rows[:, :-1], rows[:, 1:]
    keys, labels, right = [], [], []
    for row, wanted in zip(inputs, targets, strict=True):
        for place, label in enumerate(wanted):
            keys.append((place, *row[: place + 1]))
            labels.append(int(label))
    seen: dict[Any, Counter[int]] = defaultdict(Counter)
    for key, label in zip(keys, labels, strict=True):
        seen[key][label] += 1
    outputs = jnp.zeros((4, 3, 4))
    setup = setup_with(lambda o, y: cross_entropy(o, y).mean(axis=1), Tokens(4, pad=0))
    counts = label_frequencies(setup, outputs, jnp.asarray(inputs), jnp.asarray(targets))[""]
    for (row, place), key in zip(np.ndindex(4, 3), keys, strict=True):
        assert counts[row, place].tolist() == [seen[key][token] for token in range(4)]
    for start in range(0, 12, 3):
        hits = [
            seen[k].most_common(1)[0][0] == y
            for k, y in zip(keys[start : start + 3], labels[start:], strict=False)
            if y
        ]
        right.append(np.mean(hits))
    found = minimum_achievable(setup, outputs, jnp.asarray(inputs), jnp.asarray(targets))
    assert found.accuracy == {"": pytest.approx(np.mean(right), abs=0.13)}  # ties go either way
    assert found.loss == pytest.approx(best_by_counting(keys, labels)[0], rel=1e-4)


def test_yes_or_no_is_taken_to_be_predictable(setup_with: Make) -> None:
    setup = setup_with(optax.sigmoid_binary_cross_entropy, Binary())
    found = minimum_achievable(setup, jnp.zeros(4), jnp.zeros((4, 1)), jnp.array([0.0, 1.0, 1.0, 0.0]))
    assert found.loss < 1e-5
    assert found.accuracy == {"": 1.0}


def test_a_quantile_loss_has_a_minimum(setup_with: Make) -> None:
    def loss(outputs: Any, values: Any) -> Any:
        error = values[:, None] - outputs
        return jnp.maximum(0.9 * error, -0.1 * error).mean(axis=1)

    values = jnp.asarray(RNG.normal(size=16), jnp.float32)
    found = minimum_achievable(setup_with(loss, Unspecified()), jnp.zeros((16, 3)), values[:, None], values)
    assert found.loss == pytest.approx(0.0, abs=0.01)
