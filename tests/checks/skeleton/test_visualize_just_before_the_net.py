"""What enters the model is judged as it enters it: after preparation and augmentation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrecipe as jr
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
    ("prepare", "status", "code"),
    [
        (scaled_by(1 / 16 / 255), Status.FAIL, "data/scaled-twice"),
        (scaled_by(1 / 256), Status.WARN, "data/scaled-twice"),
        (scaled_by(16.0), Status.WARN, "data/inputs-not-scaled"),
        (scaled_by(1000.0), Status.FAIL, "data/inputs-not-scaled"),
        (scaled_by(0.0), Status.FAIL, "data/constant-inputs"),
        (scaled_by(np.inf), Status.FAIL, "data/not-finite-after-prepare"),
    ],
)
def test_bad_scale_is_named_on_both_sides(run: Run, prepare: Callable, status: Status, code: str) -> None:
    result = run(visualize_just_before_the_net, digits_task(prepare=prepare))
    assert result.status is status, result.headline
    assert result.codes == (code,)


def test_scaled_twice_before_the_mean_is_taken_off(run: Run) -> None:
    def prepare(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (x.astype(jnp.float32) / 16.0 / 255.0 - 0.3) / 0.38, y

    result = run(visualize_just_before_the_net, digits_task(prepare=prepare))
    assert result.status is Status.FAIL
    assert result.codes == ("data/scaled-twice",)


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


def test_what_is_not_finite_before_is_told_from_what_prepare_makes(run: Run) -> None:
    task = HEALTHY["regression"](0)
    x, y = task.train
    holes = np.where(np.arange(x.size).reshape(x.shape) % 50 == 0, np.nan, x).astype(np.float32)
    assert run(visualize_just_before_the_net, task.replace(train=(holes, y))).codes == ("data/not-finite",)


@pytest.mark.parametrize(
    ("threshold", "below", "above"),
    [("small_warn", 0.5, 2.0), ("small_fail", 0.5, 2.0), ("large_warn", 2.0, 0.5), ("large_fail", 2.0, 0.5)],
)
def test_thresholds_move_the_verdict(run: Run, threshold: str, below: float, above: float) -> None:
    """Inputs of unit size, on both sides of each threshold."""
    wide = {"small_warn": 0.01, "small_fail": 0.0, "large_warn": 9.0, "large_fail": 99.0}
    task = HEALTHY["regression"](0)
    kept = run(visualize_just_before_the_net, task, **(wide | {threshold: below}))
    left = run(visualize_just_before_the_net, task, **(wide | {threshold: above}))
    assert kept.status is Status.PASS
    assert left.status is (Status.FAIL if threshold.endswith("fail") else Status.WARN)


def test_each_input_has_its_own_findings(run: Run) -> None:
    """One of two inputs is not scaled, the other scaled twice."""
    task = HEALTHY["heads"](0)

    def prepare(x: dict, y: dict) -> tuple[dict, dict]:
        top, bottom = (x[name].astype(jnp.float32) for name in ("top", "bottom"))
        return {"top": 1e4 * top, "bottom": 1e-4 * bottom}, y

    result = run(visualize_just_before_the_net, task.replace(prepare=prepare))
    assert set(result.codes) == {"data/inputs-not-scaled", "data/scaled-twice"}


def test_what_is_not_finite_and_masked_by_the_step_is_no_finding(run: Run) -> None:
    def step(w, batch):
        loss, grads = jax.value_and_grad(lambda w: jnp.nanmean((jnp.nan_to_num(batch["x"]) - w) ** 2))(w)
        return w - 0.1 * grads, {"loss": loss}

    x = np.where(np.arange(8) % 4 == 0, np.nan, np.arange(8.0)).astype(np.float32)
    task = jr.Task.from_step(jax.jit(step), jnp.zeros(()), [{"x": x}] * 2, targets=None)
    assert run(visualize_just_before_the_net, task).status is Status.PASS
