"""By how many places the targets of each split are moved."""

import numpy as np
import pytest

from jaxrecipe.checks.data.split_shift.shifted_tokens import best_move, shifted_token_findings
from jaxrecipe.probes.samples import Sample
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import language_model_task

ROWS = np.random.default_rng(0).integers(0, 50, size=(60, 24)).astype(np.int32)


def moved(places: int) -> Sample:
    return Sample(
        np.arange(60), {"inputs": ROWS[:, 2:-2]}, np.roll(ROWS, -places, axis=1)[:, 2:-2], {"inputs": "tokens"}
    )


@pytest.mark.parametrize("places", [-2, -1, 0, 1, 2])
def test_the_move_is_found_again(places: int) -> None:
    sample = moved(places)
    assert best_move(sample.inputs["inputs"], sample.targets) == (places, 1.0)


@pytest.mark.parametrize(("train", "test", "count"), [(1, 1, 0), (1, 0, 1), (1, 2, 1)])
def test_splits_that_are_moved_by_other_places_are_found(train: int, test: int, count: int) -> None:
    found = list(shifted_token_findings(make_setup(language_model_task()), moved(train), moved(test)))
    assert [one.code for one in found] == ["data/split-targets-differ"] * count
    assert all(one.measures[0].value == test and one.measures[0].high == train for one in found)


@pytest.mark.parametrize(("wrong", "count"), [(0.04, 1), (0.06, 0)])
def test_both_sides_of_how_many_agree(wrong: float, count: int) -> None:
    spoiled = moved(0)
    targets = spoiled.targets.copy()
    targets.reshape(-1)[: int(wrong * targets.size)] = 99
    test = Sample(spoiled.indices, spoiled.inputs, targets, spoiled.kinds)
    assert len(list(shifted_token_findings(make_setup(language_model_task()), moved(1), test))) == count
