"""checkpoint_round_trip: what is restored goes on as if nothing had happened; what is lost is named."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxrecipe.checks.skeleton.checkpoint_round_trip import checkpoint_round_trip
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo.healthy import batch_norm_task, digits_task, dropout_task
from tests.zoo.loops import loop_with, saving

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP

CASES: list[tuple[Callable[[], Task], Status, str]] = [
    (batch_norm_task, P, "bit for bit"),
    (lambda: saving(dropout_task()), P, "bit for bit"),
    (lambda: loop_with(digits_task()), S, "no save and restore"),
    (lambda: saving(digits_task(), "restore missing"), S, "no restore"),
    (lambda: saving(digits_task(), "restless"), P, "differ anyway"),
    (lambda: saving(digits_task(), "python counter"), W, "step counter (step: int32 came back as int)"),
    (
        lambda: saving(digits_task(), "parameters"),
        F,
        "the model itself is not restored. After restore they are those of the template",
    ),
    (lambda: saving(batch_norm_task(), "statistics"), F, "batch statistics"),
    (lambda: saving(digits_task(), "optimizer"), F, "optimizer state: momentum starts from zero"),
    (lambda: saving(digits_task(), "step"), F, "step counter"),
    (lambda: saving(digits_task(), "half"), F, "The type is lost"),
    (lambda: saving(digits_task(), "structure"), F, "another structure"),
    (lambda: saving(digits_task(), "raises"), F, "restore raised KeyError"),
]


@pytest.mark.parametrize(("make", "status", "told"), CASES, ids=range(len(CASES)))
def test_the_status_and_what_is_lost(
    run: Callable[..., Result],
    make: Callable[[], Task],
    status: Status,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = run(checkpoint_round_trip, make())
    assert result.status is status, f"{result.headline} {result.hint} {result.evidence}"
    assert told in f"{result.headline} {result.hint}"
    assert bool(result.hint) == (status is not P)
    assert not list(tmp_path.iterdir()), "the directory is removed"
