"""updates: what is broken is found and named, what is healthy is left alone."""

from collections.abc import Callable

import pytest

from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo import modes
from tests.zoo.broken import learning_rate_huge, learning_rate_tiny
from tests.zoo.healthy import digits_task

F, W, P = Status.FAIL, Status.WARN, Status.PASS

CASES = [
    (updates, digits_task, P, ""),
    (updates, modes.declared_and_frozen, P, ""),
    (updates, modes.frozen_layer, F, "freezes them"),
    (updates, modes.detached_layer, F, "stop_gradient"),
    (updates, modes.constant_init, F, "initialise at random"),
    (updates, modes.dead_units, W, "Dead units (hidden/kernel)"),
    (updates, modes.clipped_to_nothing, W, "clip is very tight"),
    (updates, learning_rate_huge, W, "too high"),
    (updates, modes.declared_but_moving, F, "declared frozen but move"),
    (updates, lambda: modes.hand_loop(digits_task(), apply_updates=False), F, "thrown away"),
    (updates, modes.blank_model, F, "no gradient"),
]


@pytest.mark.parametrize(("check", "make", "status", "hint"), CASES, ids=range(len(CASES)))
def test_the_status_and_the_named_cause(
    run: Callable[..., Result], check: Callable[..., Result], make: Callable[[], Task], status: Status, hint: str
) -> None:
    result = run(check, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint, result.hint


def test_thresholds_move_the_verdict(run: Callable[..., Result]) -> None:
    assert run(updates, learning_rate_tiny(), small=1e-9).status is P
    assert run(updates, learning_rate_tiny(), small=1e-2).status is W
