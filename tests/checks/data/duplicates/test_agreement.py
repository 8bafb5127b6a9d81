"""How far copies agree, against loops over pairs."""

from itertools import combinations

import numpy as np
import pytest

from jaxrecipe.checks.data.duplicates.agreement import FEWEST_GROUPS, Agreement, agreement_of_copies
from jaxrecipe.probes.fingerprints import fingerprints, groups_of
from tests.probes.tasks import setup_of


def measured(x: np.ndarray, y: np.ndarray) -> Agreement:
    setup = setup_of(x, y)
    rows = fingerprints(setup, "train")
    return agreement_of_copies(setup.train, rows, groups_of(rows.inputs))


def test_rates_are_those_of_loops_over_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 40, size=(120, 1)).astype(np.float32), rng.integers(0, 3, size=120)
    labels = [y[x[:, 0] == value] for value in np.unique(x) if (x[:, 0] == value).sum() > 1]
    found = measured(x, y)
    assert found.groups == len(labels)
    assert found.examples == sum(len(group) for group in labels if len(set(group)) > 1)
    rates = [np.mean([a != b for a, b in combinations(group, 2)]) for group in labels]
    assert found.rate == pytest.approx(np.mean(rates))
    shares = np.mean([[np.mean(group == label) for label in range(3)] for group in labels], axis=0)
    assert found.chance == pytest.approx(1 - np.square(shares).sum())


def test_without_copies_nothing_disagrees() -> None:
    assert measured(np.arange(20.0)[:, None], np.arange(20)) == Agreement(0, 0.0, 0.0, 0)


def test_real_targets_that_hardly_differ_agree() -> None:
    x, y = np.repeat(np.arange(20.0), 2)[:, None], np.repeat(np.arange(20.0), 2)
    y[1::2] += 1e-4
    assert measured(x, y).examples == 0
    y[1::2] += 1.0
    assert measured(x, y).examples == 40


def test_few_groups_are_no_evidence() -> None:
    always = {"examples": 2, "rate": 1.0, "chance": 0.5}
    assert Agreement(**always, groups=FEWEST_GROUPS - 1).errors_beyond_chance == 0.0
    assert Agreement(**always, groups=FEWEST_GROUPS).errors_beyond_chance == pytest.approx(np.sqrt(FEWEST_GROUPS))
