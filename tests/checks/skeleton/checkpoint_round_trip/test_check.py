"""What is restored goes on as if nothing had happened; what is lost is named."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxrecipe.checks.skeleton.checkpoint_round_trip import checkpoint_round_trip
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.task import Task
from tests.zoo.healthy import batch_norm_task, digits_task, dropout_task
from tests.zoo.loops import loop_with, saving, train_state_in_init

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP

LOST, OTHER_TYPE = "evaluation/checkpoint-incomplete", "evaluation/restore-changes-type"

CASES: list[tuple[Callable[[], Task], Status, str, str]] = [
    (batch_norm_task, P, "", ""),
    (lambda: saving(dropout_task()), P, "", ""),
    (lambda: train_state_in_init(digits_task()), P, "", ""),
    (lambda: train_state_in_init(digits_task(), keep_moments=False), F, LOST, "optimizer state"),
    (lambda: loop_with(digits_task()), S, "", ""),
    (lambda: saving(digits_task(), "restore missing"), S, "", ""),
    (lambda: saving(digits_task(), "restless"), P, "", ""),
    (lambda: saving(digits_task(), "python counter"), W, OTHER_TYPE, "step counter"),
    (lambda: saving(digits_task(), "parameters"), F, LOST, "parameters"),
    (lambda: saving(batch_norm_task(), "statistics"), F, LOST, "model state (batch statistics)"),
    (lambda: saving(digits_task(), "optimizer"), F, LOST, "optimizer state"),
    (lambda: saving(digits_task(), "step"), F, LOST, "step counter"),
    (lambda: saving(digits_task(), "half"), F, OTHER_TYPE, "parameters"),
    (lambda: saving(digits_task(), "structure"), F, OTHER_TYPE, ""),
    (lambda: saving(digits_task(), "raises"), F, "evaluation/checkpoint-fails", ""),
]


@pytest.mark.parametrize(("make", "status", "code", "part"), CASES, ids=range(len(CASES)))
def test_the_code_and_what_is_lost(
    run: Callable[..., Result],
    make: Callable[[], Task],
    status: Status,
    code: str,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = run(checkpoint_round_trip, make())
    assert result.status is status, f"{result.headline} {result.evidence}"
    assert list(result.codes) == [code] * bool(code)
    differing = {
        row[1] for table in result.evidence if isinstance(table, Table) for row in table.rows if row[2] != "none"
    }
    assert not part or part in differing
    assert not list(tmp_path.iterdir()), "the directory is removed"


def test_the_numbers(run: Callable[..., Result]) -> None:
    """Without its step counter, one leaf differs."""
    result = run(checkpoint_round_trip, saving(digits_task(), "step"))
    assert result.measured["leaves that differ"] == 1
    assert run(checkpoint_round_trip, saving(digits_task())).measured["leaves that differ"] == 0
