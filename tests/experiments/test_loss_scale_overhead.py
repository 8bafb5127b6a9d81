"""The experiment on the cost of loss scaling, at its smallest; no time is asserted."""

import numpy as np
import pytest

from experiments import loss_scale_overhead as experiment
from experiments.loop_overhead import make_tiny_task


def test_ratios_are_taken_within_rounds() -> None:
    base = [(1.0, 2.0), (10.0, 20.0), (100.0, 200.0), (3.0, 6.0)]
    found = {
        "without": base,
        "without again": base,
        "with": [(1.1 * wall, 1.5 * processor) for wall, processor in base],
    }
    row = experiment.summarise(found)
    np.testing.assert_allclose(row["with, wall"]["ratio"], 1.1, rtol=1e-9)
    np.testing.assert_allclose(row["with, processor"]["interval"], [1.5, 1.5], rtol=1e-9)
    assert row["without again, wall"]["quartiles"] == [1.0, 1.0]
    assert row["milliseconds"] == 6500.0
    text = experiment.table([{"model": "MLP", "policy": "float16", **row}])
    assert "| MLP | float16 | 6500.0 | 1.1000 (1.1000 – 1.1000) |" in text


@pytest.mark.slow
def test_all_loops_take_every_round() -> None:
    found = experiment.measure(make_tiny_task(), steps=2, rounds=3)
    assert {name: len(times) for name, times in found.items()} == {"without": 3, "without again": 3, "with": 3}
    assert all(wall > 0 and processor >= 0 for times in found.values() for wall, processor in times)
