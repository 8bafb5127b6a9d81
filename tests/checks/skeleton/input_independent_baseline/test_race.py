"""Two trainings side by side, against plain numpy."""

import jax
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.input_independent_baseline.race import Race, _held_out_batches, _lead, run_race
from jaxrecipe.setup import make_setup
from tests.zoo.broken import updates_thrown_away
from tests.zoo.healthy import digits_task


def test_lead_in_standard_errors_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    real, blank = rng.normal(size=50), rng.normal(1.0, 1.0, size=50)
    differences = [b - r for r, b in zip(real, blank, strict=True)]
    mean = sum(differences) / 50
    error = (sum((d - mean) ** 2 for d in differences) / 50) ** 0.5 / 50**0.5
    assert _lead(real, blank) == pytest.approx(mean / error)
    assert _lead(real, np.full(50, np.inf)) == np.inf
    assert _lead(np.full(50, np.nan), blank) == -np.inf


def test_the_better_of_blank_inputs_and_a_constant_is_to_be_beaten() -> None:
    race = Race(32, steps=[20], real=[1.0], blank=[3.0], constant=2.0)
    assert race.best_blind == 2.0
    assert race.relative_lead == 0.5
    race.constant = float("nan")
    assert race.best_blind == 3.0


def test_held_out_examples_come_in_full_batches_of_examples_that_are_not_trained_on() -> None:
    setup = make_setup(digits_task())
    batches = _held_out_batches(setup, 100)
    assert [len(targets) for _, targets in batches] == [setup.batch_size] * (100 // setup.batch_size)
    test = {
        np.asarray(x).tobytes() for x in np.asarray(setup.prepared("test", np.arange(len(digits_task().test[1])))[0])
    }
    assert all(np.asarray(x).tobytes() in test for inputs, _ in batches for x in np.asarray(inputs))


def test_a_race_that_is_not_won_goes_on_to_the_last_step_and_looks_at_the_model() -> None:
    race = run_race(
        make_setup(updates_thrown_away()), jax.random.key(0), steps=60, standard_errors=4.0, margin=0.1, held_out=64
    )
    assert race.steps[0] == 20
    assert race.steps[-1] == 60
    assert not race.won
    assert race.aftermath is not None
    assert race.aftermath.moved == 0.0
    assert race.aftermath.gradient > 0
    assert race.aftermath.inputs_differ
    assert race.aftermath.outputs_differ == (True, True)


def test_the_same_key_gives_the_same_race() -> None:
    first, second = (
        run_race(make_setup(digits_task()), jax.random.key(1), steps=20, standard_errors=1e9, margin=0.1, held_out=64)
        for _ in range(2)
    )
    assert (first.real, first.blank, first.lead) == (second.real, second.blank, second.lead)
    assert first.aftermath is not None
    assert first.aftermath.moved > 0
