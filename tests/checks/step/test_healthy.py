"""No false alarm on any healthy step alone: the whole recipe, in two seeds."""

import pytest

from jaxrecipe.recipe import check
from jaxrecipe.report.result import Status
from tests.zoo import bare

BAD = (Status.FAIL, Status.CRASHED, Status.TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize("name", bare.HEALTHY)
def test_nothing_fails_on_a_healthy_step_in_two_seeds(name):
    bad = []
    for seed in (0, 1):
        report = check(bare.task_of(bare.HEALTHY[name](seed)), seed=seed)
        bad += [f"seed {seed}, {r.name} {r.status}: {r.headline}" for r in report.results if r.status in BAD]
    assert not bad


def test_examples_that_come_again_in_a_later_epoch_are_no_copies():
    step, state, batches = bare.in_pieces()
    report = check(bare.task_of((step, state, batches + batches[::-1][:8])), only=["duplicates", "data_order"])
    assert [result.status for result in report.results] == [Status.PASS, Status.PASS]
