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
BAD = (Status.FAIL, Status.CRASHED, Status.TIMEOUT)


def bytes_of(data: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(data)]


def essence(result: Result) -> tuple[Any, ...]:
    return result.name, result.status, result.headline, result.codes, result.hint, dict(result.measured)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_no_check_fails_or_crashes_on_a_healthy_set_up_in_any_seed(name: str) -> None:
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
        assert bytes_of((task.train, task.test)) == before
    assert not bad


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "heads"])
def test_the_same_seed_gives_the_same_report(name: str) -> None:
    first, second = (check(HEALTHY[name](0)) for _ in range(2))
    assert [essence(r) for r in first.results] == [essence(r) for r in second.results]


@pytest.mark.parametrize("one", RECIPE, ids=lambda one: one.name)
def test_a_check_names_itself_and_explains_itself(one: Check) -> None:
    page = one.run.__doc__ or ""
    assert all(heading in page for heading in ("What it does:", "Why it matters:", "What to do:", "Args:"))
    assert all(f"{name}:" in page for name in one.thresholds), "each threshold is described under its name"
    assert one.stage in ("data", "skeleton", "overfit", "regularize", "tune", "squeeze", "precision")
