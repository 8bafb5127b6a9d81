"""What enters the model is judged as it enters it: after preparation and augmentation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.visualize_just_before_the_net import visualize_just_before_the_net
from jaxrecipe.report.result import Images, Result, Status
from tests.zoo.healthy import HEALTHY, digits_task

Run = Callable[..., Result]


def scaled_by(factor: float) -> Callable:
    return lambda x, y: (x.astype(jnp.float32) * np.float32(factor), y)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_inputs_pass(run: Run, name: str) -> None:
    assert run(visualize_just_before_the_net, HEALTHY[name](0)).status is Status.PASS


@pytest.mark.parametrize(
    ("prepare", "status", "hint"),
    [
        (scaled_by(1 / 16 / 255), Status.FAIL, "scaled twice"),
        (scaled_by(1 / 256), Status.WARN, "scaled twice"),
        (scaled_by(16.0), Status.WARN, "not scaled"),
        (scaled_by(1000.0), Status.FAIL, "not scaled"),
        (scaled_by(0.0), Status.FAIL, "same numbers"),
        (scaled_by(np.inf), Status.FAIL, "NaN"),
    ],
)
def test_bad_scale_is_named_on_both_sides(run: Run, prepare: Callable, status: Status, hint: str) -> None:
    result = run(visualize_just_before_the_net, digits_task(prepare=prepare))
    assert result.status is status, result.headline
    assert hint in result.hint


def test_scaled_twice_before_the_mean_is_taken_off(run: Run) -> None:
    def prepare(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (x.astype(jnp.float32) / 16.0 / 255.0 - 0.3) / 0.38, y

    result = run(visualize_just_before_the_net, digits_task(prepare=prepare))
    assert result.status is Status.FAIL
    assert "scaled twice" in result.hint


def test_the_augmented_batch_is_what_is_looked_at(run: Run) -> None:
    task = digits_task(augment=lambda key, x, y: (jnp.zeros_like(x), y))
    assert run(visualize_just_before_the_net, task).status is Status.FAIL


def test_the_pictures_are_the_inputs_themselves(run: Run) -> None:
    images = [e for e in run(visualize_just_before_the_net, digits_task()).evidence if isinstance(e, Images)]
    assert images[0].images.shape == (16, 8, 8, 1)
    assert images[0].images.max() == pytest.approx((16 - 4.9) / 6, rel=1e-6)


def test_integer_inputs_have_no_scale(run: Run) -> None:
    result = run(visualize_just_before_the_net, HEALTHY["language_model"](0))
    assert not result.measured
    assert jax.tree.leaves(result.measured) == []
