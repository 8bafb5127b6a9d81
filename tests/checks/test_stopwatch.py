"""A limit is kept in work, and several times over on the clock."""

import time

import pytest

from jaxrecipe.probes.stopwatch import PATIENCE, Stopwatch


@pytest.mark.parametrize(
    ("clock", "work", "over"),
    [(0.5, 0.5, False), (1.5, 1.5, True), (1.5, 0.2, False), (0.5, 8.0, False), (PATIENCE + 0.1, 0.0, True)],
)
def test_limit_of_one_second(monkeypatch: pytest.MonkeyPatch, clock: float, work: float, over: bool) -> None:
    now = {"clock": 100.0, "work": 7.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["clock"])
    monkeypatch.setattr(time, "process_time", lambda: now["work"])
    watch = Stopwatch()
    now["clock"] += clock
    now["work"] += work
    assert watch.over(1.0) is over
