"""The experiment on memory, at its smallest: one real process, and the search against a known answer."""

import os

import pytest

from experiments import memory


@pytest.mark.parametrize("start", [1, 8, 100, 5000])
@pytest.mark.parametrize(("largest", "step"), [(0, 8), (8, 8), (96, 8), (1000, 1)])
def test_the_largest_that_fits_is_found_from_anywhere(start: int, largest: int, step: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= largest + step // 2

    assert memory.largest_that_fits(fits, start, step) == largest
    assert min(asked) > 0
    assert len(asked) == len(set(asked)) < 40


def test_where_to_begin_to_look() -> None:
    cells = [{"batch": size, "measured": 100 + 10 * size} for size in (1, 2, 4)]
    assert memory.expected_largest(cells, 1100) == 100
    assert memory.expected_largest(cells, 50) == 0
    assert memory.expected_largest([{"batch": 4, "measured": None}, *cells[:1]], 1100) is None


def test_errors_are_relative_to_what_was_measured() -> None:
    assert memory.error(90, 100) == "-10.0 %"
    assert memory.error(110, 100) == "+10.0 %"
    assert memory.error(110, None) == "out of memory"


def test_what_a_process_touches_is_measured() -> None:
    """Against bytes known in advance; a quarter of leeway for the allocator and the interpreter."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of resident memory cannot be reset here")
    size = 64 * memory.MIB

    def touch(steps: int) -> None:
        for _ in range(steps):
            bytearray(size)  # zeros from the system take no memory before they are written
            block = b"x" * size
            del block

    assert 0.95 * size < memory.resident_peak(touch) < 1.25 * size


@pytest.mark.slow
def test_one_process_measures_about_what_is_predicted() -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of resident memory cannot be reset here")
    chosen = {"model": "mlp", "policy": "float32"}
    found = memory.in_process({**chosen, "size": 64}, memory.NO_CACHE)
    assert 0.8 < found["measured"] / found["predicted"] < 1.5
    cells = [{"batch": 64, "line": found["predicted"], "resident": None, **found}]
    row = {**chosen, "cells": cells, "limit": memory.LIMIT, "largest": 8, "found": 8, "grain": 8}
    text = memory.table([row])
    assert "| mlp | float32 | 64 |" in text
    assert "| 8 | 8 (8) | +0.0 % |" in text
    assert "largest batch" in memory.summary([row])
