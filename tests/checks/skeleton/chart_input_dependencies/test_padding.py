"""Where padding is marked, and how much of it a loss sees."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.chart_input_dependencies.padding import (
    is_mask,
    padded_inputs,
    padded_outputs,
    padded_targets,
    possible_padding,
)
from jaxrecipe.checks.skeleton.chart_input_dependencies.padding_token import padding_places
from jaxrecipe.setup import make_setup
from jaxrecipe.targets import Tokens
from tests.zoo import sequences as s
from tests.zoo.healthy import digits_task, regression_task

X = np.zeros((3, 4, 2))


def test_a_mask_in_runs_has_two_sides() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    ((one, other),) = possible_padding("mask", mask, {"x": X, "mask": mask})
    np.testing.assert_array_equal(one, mask == 0)
    np.testing.assert_array_equal(other, mask == 1)


def test_lengths_mark_what_lies_behind_them() -> None:
    lengths = np.array([1, 4, 2])
    ((padded,),) = possible_padding("length", lengths, {"x": X, "length": lengths})
    for row, length in enumerate(lengths):
        assert [bool(p) for p in padded[row]] == [position >= length for position in range(4)]


@pytest.mark.parametrize(
    ("path", "leaf"),
    [
        ("mask", np.array([[1, 0, 1, 0]] * 3)),
        ("mask", np.ones((3, 4), int)),
        ("mask", np.array([[1, 1, 0]] * 3)),
        ("other", np.array([[1, 1, 0, 0]] * 3)),
        ("length", np.array([4, 4, 4])),
        ("length", np.array([0, 1, 2])),
        ("length", np.array([1, 2, 9])),
    ],
)
def test_what_marks_no_padding(path: str, leaf: np.ndarray) -> None:
    assert list(possible_padding(path, leaf, {"x": X, path: leaf})) == []


@pytest.mark.parametrize(("use_mask", "seen"), [(True, 0.0), (False, 1.0)])
def test_how_much_of_the_padded_inputs_is_seen(use_mask: bool, seen: float) -> None:
    setup = make_setup(s.masked_sum_task(use_mask=use_mask))
    (found,) = padded_inputs(setup, setup.key)
    assert found.seen == pytest.approx(seen, abs=0.1)
    assert (found.code, found.path, found.declared) == ("model/padding-seen", "mask", True)


@pytest.mark.parametrize(
    ("task", "seen", "code"),
    [
        (s.padded_task, 0.0, "loss/padding-counted"),
        (lambda: s.padded_task(loss=s.token_loss), 1.0, "loss/padding-counted"),
        (lambda: s.padded_task(loss=s.token_loss, target=Tokens(s.TOKENS)), 1.0, "data/padding-undeclared"),
    ],
)
def test_how_much_of_the_padded_targets_is_seen(task: object, seen: float, code: str) -> None:
    assert callable(task)
    found, *_metrics = padded_targets(make_setup(task()))
    assert (found.seen, found.code) == (seen, code)


@pytest.mark.parametrize(("weigh", "seen"), [(True, 0.0), (False, 1.0)])
def test_how_much_of_the_masked_outputs_is_seen(weigh: bool, seen: float) -> None:
    task = regression_task()
    x, y = task.train
    known = np.random.default_rng(0).random(y.shape) < 0.7

    def loss(outputs: jnp.ndarray, targets: dict) -> jnp.ndarray:
        weight = targets["mask"].astype(jnp.float32) if weigh else 1.0
        return (jnp.square(outputs - targets["y"]) * weight).mean(axis=1)

    (found,) = padded_outputs(make_setup(task.replace(train=(x, {"y": y, "mask": known}), test=None, loss=loss)))
    assert found.seen == pytest.approx(seen, abs=0.1)


def test_pictures_have_no_padding() -> None:
    setup = make_setup(digits_task())
    assert padding_places(setup, setup.key) == []


def test_masks_are_truth_values_in_any_form() -> None:
    assert is_mask(np.array([True]))
    assert is_mask(np.array([0.0, 1.0]))
    assert not is_mask(np.array([0, 2]))
