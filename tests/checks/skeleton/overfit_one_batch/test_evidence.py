"""What is measured about a failing run, against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import memorize
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.broken import after_model
from tests.zoo.healthy import digits_task, regression_task


def seen(task: Task, steps: int = 3) -> Evidence:
    setup, key = make_setup(task), jax.random.key(0)
    return Evidence(setup, memorize(setup, key, examples=8, closed=0.95, steps=steps, patience=200), key)


@pytest.fixture(scope="module")
def sgd() -> Evidence:
    return seen(digits_task().replace(optimizer=optax.sgd(0.01)))


def test_the_first_change_goes_down_the_gradient(sgd: Evidence) -> None:
    assert sgd.first_change_along_gradient == pytest.approx(-1.0, abs=1e-3)
    update = sgd.declared_update
    assert update.cosine == pytest.approx(1.0, abs=1e-3)
    assert update.tenfold == pytest.approx(10.0, rel=1e-3)
    assert update.size == pytest.approx(0.01 * sgd.gradient_norm_at_start, rel=1e-3)
    leaves = jax.tree.leaves(sgd.gradient_at_start)
    norm = np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in leaves))
    assert sgd.gradient_norm_at_start == pytest.approx(norm)


def test_steps_that_are_clipped_are_as_large_for_ten_times_the_gradient() -> None:
    task = digits_task().replace(optimizer=optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(0.1)))
    update = seen(task).declared_update
    assert update.tenfold == pytest.approx(1.0, abs=1e-3)
    assert update.cosine == pytest.approx(1.0, abs=1e-3)
    adam = seen(digits_task()).declared_update
    assert adam.cosine < 0.99


def test_uphill_has_a_positive_cosine() -> None:
    assert seen(digits_task().replace(optimizer=optax.sgd(-0.01))).first_change_along_gradient > 0.9


def test_what_is_healthy_shows_nothing(sgd: Evidence) -> None:
    assert not sgd.same_outputs
    assert not sgd.loss_is_flat
    assert sgd.between_layers == []
    assert sgd.bounds is None
    assert sgd.noise == pytest.approx(0.0, abs=1e-6)
    assert sgd.size_kept == pytest.approx(1.0, abs=0.05)
    assert sgd.trials.adam_learns
    assert sgd.trials.plain_adam[1] < 300


def test_bounds_of_the_outputs() -> None:
    both = seen(after_model(digits_task(), jnp.tanh)).bounds
    assert both is not None
    assert tuple(both) == pytest.approx((-1.0, 1.0), abs=1e-3)
    below = seen(after_model(regression_task(), jax.nn.softplus)).bounds
    assert below is not None
    assert below.low == pytest.approx(0.0, abs=1e-3)
    assert below.high == np.inf


def test_spread_between_examples_against_a_loop() -> None:
    found = seen(digits_task())
    images = np.asarray(found.run.inputs, np.float64)
    deviations = [np.std(pixel) for pixel in images.reshape(len(images), -1).T]
    assert found.input_spread == pytest.approx(np.mean(deviations) / np.sqrt(np.mean(images**2)))


def test_blank_inputs_give_one_output() -> None:
    blank = digits_task()
    blind = seen(blank.replace(prepare=lambda x, y: (jnp.zeros(x.shape, jnp.float32), y)))
    assert blind.same_outputs
    assert blind.same_outputs_at_start
