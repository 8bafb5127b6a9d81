"""What every check promises on every healthy set-up: no false alarm, the same result again, nothing of the user's
changed."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.recipe import check
from jaxrecipe.report.result import Result, Status
from tests.promises import broken_promises
from tests.zoo.healthy import HEALTHY

SEEDS = (0, 1, 2)
AGAIN = ("dropout", "heads")
"""Tasks on which everything is run twice with the first seed."""
BAD = (Status.FAIL, Status.CRASHED, Status.TIMEOUT)


def bytes_of(data: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(data)]


def essence(result: Result) -> tuple[Any, ...]:
    return result.name, result.status, result.headline, result.codes, result.hint, dict(result.measured)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_no_check_fails_or_crashes_on_a_healthy_set_up_and_the_same_seed_finds_the_same(name: str) -> None:
    """The seeds of one task run in turn, since all but the first find their programs compiled."""
    bad = []
    for seed in SEEDS:
        task = HEALTHY[name](seed)
        before = bytes_of((task.train, task.test))
        report = check(task, seed=seed)
        bad += [f"seed {seed}, {r.name} {r.status}: {r.headline}" for r in report.results if r.status in BAD]
        assert len(report.results) == len(RECIPE)
        assert all(r.headline for r in report.results)
        bad += [f"seed {seed}, {promise}" for r in report.results for promise in broken_promises(r)]
        if name in AGAIN and seed == SEEDS[0]:
            assert [essence(r) for r in check(HEALTHY[name](seed)).results] == [essence(r) for r in report.results]
        assert bytes_of((task.train, task.test)) == before
    assert not bad


@pytest.mark.parametrize("one", RECIPE, ids=lambda one: one.name)
def test_a_check_names_itself_and_explains_itself(one: Check) -> None:
    page = one.run.__doc__ or ""
    assert all(heading in page for heading in ("What it does:", "Why it matters:", "What to do:", "Args:"))
    assert all(f"{name}:" in page for name in one.thresholds), "each threshold is described under its name"
    assert one.stage in ("data", "skeleton", "step", "overfit", "regularize", "tune", "squeeze", "precision")
