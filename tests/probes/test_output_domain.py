"""What a loss takes its outputs for, and squashings that are applied twice."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.probes.output_domain import (
    are_probabilities,
    is_flat,
    logits_as_probabilities,
    probability_heads,
    squashed_twice,
)
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.targets import Classes, MultiLabel, Target
from tests.probes.losses import cross_entropy, of_probabilities, yes_or_no_of_probabilities
from tests.zoo.broken import after_model, with_init
from tests.zoo.healthy import multi_label_task

Make = Callable[..., Setup]
RNG = np.random.default_rng(0)
LABELS = jnp.asarray(RNG.integers(0, 4, size=64), jnp.int32)
SEVERAL = jnp.asarray(RNG.random((64, 4)) < 0.3, jnp.float32)
LOGITS = jnp.asarray(RNG.normal(size=(64, 4)), jnp.float32)


def yes_or_no(logits: Any, labels: Any) -> Any:
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=1)


@pytest.mark.parametrize(
    ("target", "loss", "outputs", "targets", "probabilities", "wrong"),
    [
        (Classes(4), cross_entropy, LOGITS, LABELS, set(), ()),
        (Classes(4), of_probabilities, jax.nn.softmax(LOGITS), LABELS, {""}, ()),
        (Classes(4), of_probabilities, LOGITS, LABELS, set(), ("",)),
        (Classes(4), cross_entropy, jax.nn.softmax(LOGITS), LABELS, set(), ()),
        (MultiLabel(4), yes_or_no, LOGITS, SEVERAL, set(), ()),
        (MultiLabel(4), yes_or_no_of_probabilities, jax.nn.sigmoid(LOGITS), SEVERAL, {""}, ()),
        (MultiLabel(4), yes_or_no_of_probabilities, LOGITS, SEVERAL, set(), ("",)),
        (MultiLabel(4), lambda o, y: jnp.square(o - y).mean(axis=1), LOGITS, SEVERAL, set(), ()),
    ],
)
def test_logits_and_probabilities_are_told_apart(
    setup_with: Make,
    target: Target,
    loss: Any,
    outputs: Any,
    targets: Any,
    probabilities: set[str],
    wrong: tuple[str, ...],
) -> None:
    setup = setup_with(loss, target)
    assert probability_heads(setup, outputs, targets) == probabilities
    assert logits_as_probabilities(setup, outputs, targets) == wrong


def test_of_two_heads_the_wrong_one_is_named(setup_with: Make) -> None:
    setup = setup_with(
        lambda o, y: cross_entropy(o["good"], y["good"]) + of_probabilities(jnp.clip(o["bad"], 1e-7, 1.0), y["bad"]),
        {"good": Classes(4), "bad": Classes(4)},
    )
    outputs, targets = {"good": LOGITS, "bad": LOGITS}, {"good": LABELS, "bad": LABELS}
    assert logits_as_probabilities(setup, outputs, targets) == ("bad",)


@pytest.mark.parametrize(
    ("loss", "outputs", "where"),
    [
        (cross_entropy, LOGITS, {}),
        (cross_entropy, jax.nn.softmax(LOGITS), {"": "model"}),
        (lambda o, y: cross_entropy(jax.nn.softmax(o), y), LOGITS, {"": "loss"}),
        (of_probabilities, jax.nn.softmax(LOGITS), {}),
        (lambda o, y: 2.0 * cross_entropy(jax.nn.softmax(o), y), LOGITS, {}),
    ],
)
def test_a_softmax_applied_twice_is_seen_and_placed(
    setup_with: Make, loss: Any, outputs: Any, where: dict[str, str]
) -> None:
    assert squashed_twice(setup_with(loss, Classes(4)), outputs, LABELS) == where


def test_a_sigmoid_applied_twice_is_told_from_small_logits() -> None:
    twice = make_setup(after_model(multi_label_task(), jax.nn.sigmoid))
    start = twice.at_init
    assert squashed_twice(twice, start.outputs, start.targets) == {"": "model"}
    for change in (lambda p: 0.0 * p, lambda p: jnp.where(p == 0, 0.3, 0.01 * p).astype(p.dtype)):
        small = make_setup(with_init(multi_label_task(), lambda params, change=change: jax.tree.map(change, params)))
        start = small.at_init
        assert squashed_twice(small, start.outputs, start.targets) == {}


def test_probabilities_sum_to_one_over_two_entries_or_more() -> None:
    assert are_probabilities(jax.nn.softmax(LOGITS))
    assert not are_probabilities(LOGITS)
    assert not are_probabilities(jnp.ones((4, 1)))
    assert not are_probabilities(jnp.ones(4))


def test_a_flat_loss_has_no_gradient(setup_with: Make) -> None:
    assert is_flat(setup_with(lambda o, y: jnp.clip(cross_entropy(o, y), 0.0, 1e-3), Classes(4)), LOGITS, LABELS)
    assert not is_flat(setup_with(cross_entropy, Classes(4)), LOGITS, LABELS)
