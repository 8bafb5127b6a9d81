"""What is measured of the two modes, against numpy."""

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.mode_consistency.modes import Modes, changed_leaves, look_at_modes
from jaxrecipe.probes.randomness import Origin, Randomness
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import batch_norm_task, dropout_task

QUIET = Randomness(Origin.NONE, 0.0, "")


def seen(evaluated: np.ndarray, *trained: np.ndarray) -> Modes:
    one, two = trained if len(trained) == 2 else (trained[0], trained[0])
    return Modes((evaluated, evaluated), (one, two), (), (), (), ("mean",), None, QUIET)


def test_only_floating_leaves_that_differ_have_changed() -> None:
    before = {"mean": np.zeros(2, np.float32), "var": np.ones(2, np.float32), "count": np.zeros((), np.int32)}
    after = {**before, "mean": np.ones(2, np.float32), "count": np.ones((), np.int32)}
    assert changed_leaves(before, after) == ("mean",)
    assert changed_leaves(before, {}) == ()


def test_dropped_outputs_are_zero_at_places_that_change() -> None:
    ones, rng = np.ones((20, 10)), np.random.default_rng(0)
    one, two = (ones * (rng.random(ones.shape) < 0.7) for _ in range(2))
    assert seen(ones, one, two).dropped == pytest.approx((one == 0).mean())
    assert seen(ones, one, one).dropped == 0, "a pattern that stays is no dropout"
    assert seen(one, one, two).dropped == 0, "zeros at evaluation too"
    few = ones.copy()
    few[0, 0] = 0
    assert seen(ones, few, ones).dropped == 0, "one in two hundred may be chance"


def test_statistics_are_lost_where_the_step_does_not_keep_what_training_moves() -> None:
    ones = np.ones((2, 2))
    moved = Modes((ones, ones), (ones, ones), (), ("mean", "var"), ("var",), ("mean", "var"), None, QUIET)
    assert moved.lost(1e-4) == ("mean",)
    nowhere = Modes((ones, ones), (2 * ones, 2 * ones), (), (), (), ("mean",), None, QUIET)
    assert nowhere.lost(1e-4) == ("mean",), "depends on the mode, is not random, and is collected nowhere"
    assert nowhere.lost(10.0) == ()


def test_healthy_models_in_both_modes() -> None:
    dropout, statistics = (make_setup(task) for task in (dropout_task(), batch_norm_task()))
    random, kept = look_at_modes(dropout, dropout.key), look_at_modes(statistics, statistics.key)
    assert random.randomness_at_evaluation == 0 < random.randomness_in_training
    assert kept.moved_by_training == kept.kept == ("mean", "var")
    assert kept.moved_by_evaluation == ()
