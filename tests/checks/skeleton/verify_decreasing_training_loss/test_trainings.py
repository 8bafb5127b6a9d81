"""The same batches for both models, and the race between them."""

import jax
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.linear_baseline import DIRECTIONS, linear_rival
from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.trainings import (
    Race,
    batch_of,
    race_against_linear,
    training_loss,
)
from jaxrecipe.parts import Model
from jaxrecipe.setup import make_setup
from tests.zoo.broken import after_model
from tests.zoo.healthy import autoencoder_task, contrastive_task, digits_task, language_model_task


@pytest.mark.parametrize("size", [3, 10, 32])
def test_the_pool_is_given_in_turns(size: int) -> None:
    pool = np.arange(100, 110)
    given = np.concatenate([batch_of(size, pool, step) for step in range(20)])
    assert len(given) == 20 * size
    for turn in range(len(given) // 10):
        assert sorted(given[10 * turn : 10 * turn + 10]) == list(pool)


@pytest.mark.parametrize(
    ("ours", "rival", "lag"),
    [([2.0, 1.0], [2.0, 0.5], 1 / 3), ([2.0, 0.5], [2.0, 1.0], -1 / 3), ([2.0, 2.0], [2.0, 2.0], 0.0)],
)
def test_lag_as_a_share_of_what_was_gained(ours: list[float], rival: list[float], lag: float) -> None:
    assert Race([0, 50], ours, rival).lag == pytest.approx(lag)
    assert Race([0, 50], [2.0, float("nan")], rival).lag == np.inf


def test_the_loss_of_the_pool_against_a_loop() -> None:
    setup = make_setup(digits_task())
    pool = np.arange(3 * setup.batch_size + 5)
    losses = []
    for start in range(0, 3 * setup.batch_size, setup.batch_size):
        batch = setup.prepared("train", pool[start : start + setup.batch_size])
        losses.append(setup.mean_loss(setup.params, setup.model_state, *batch))
    found = training_loss(setup, jax.random.key(0), setup.fresh_state(), pool)
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_race_goes_on_while_the_model_is_behind() -> None:
    setup, pool = make_setup(after_model(digits_task(), lambda x: 1e-4 * x)), np.arange(64)
    behind = race_against_linear(setup, jax.random.key(0), pool, 30, behind=0.25)
    assert isinstance(behind, Race)
    assert behind.steps == [0, 10, 30, 60, 90]
    excused = race_against_linear(setup, jax.random.key(0), pool, 30, behind=1.5)
    assert isinstance(excused, Race)
    assert excused.steps == [0, 10, 30]
    assert excused.ours == behind.ours[:3]


def test_why_there_is_no_rival() -> None:
    for task in (contrastive_task(), autoencoder_task()):
        reason = race_against_linear(make_setup(task), jax.random.key(0), np.arange(64), 3, behind=0.25)
        assert isinstance(reason, str)
        assert reason


def test_the_rival_sees_a_few_directions_or_one_token_at_a_time() -> None:
    setup = make_setup(digits_task())
    rival = linear_rival(setup, setup.prepared("train", np.arange(256))[0])
    assert isinstance(rival, Model)
    params, state = rival.init(jax.random.key(0), setup.batch[0])
    assert params["head_0"].shape == (DIRECTIONS + 1, 10)
    outputs, _ = rival.apply(params, state, setup.batch[0], train=True, key=None)
    assert outputs.shape == (setup.batch_size, 10)
    language = make_setup(language_model_task())
    by_token = linear_rival(language, language.prepared("train", np.arange(64))[0])
    assert isinstance(by_token, Model)
    assert set(by_token.init(jax.random.key(0), None)[0]) == {"table"}
