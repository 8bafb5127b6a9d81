"""Scales of two splits against loops, and when a difference is a repairable one."""

import numpy as np
import pytest

from jaxrecipe.checks.data.split_shift.scale import (
    ScaleLimits,
    compare_scales,
    rescaled,
    scale_findings,
    scale_measures,
)
from jaxrecipe.diagnosis.measure import Severity
from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.samples import Sample

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.normal(size=(600, 6)), RNG.normal(size=(400, 6))
LIMITS = ScaleLimits(2.5, 1.0, 5.0)


def test_the_shift_is_that_of_a_loop() -> None:
    scale = compare_scales(TRAIN, TEST + 0.7)
    shifts, errors = [], []
    for j in range(6):
        ours, theirs = TRAIN[:, j], TEST[:, j] + 0.7
        pooled = np.sqrt((ours.var() + theirs.var()) / 2)
        shifts.append(abs(theirs.mean() - ours.mean()) / pooled)
        errors.append(np.sqrt(ours.var() / 600 + theirs.var() / 400) / pooled)
    assert scale.shift == pytest.approx(np.median(shifts))
    assert scale.shift_errors == pytest.approx(np.median(shifts) / np.median(errors))
    assert scale.ratio == pytest.approx(1.0, abs=0.1)


def test_the_ratio_counts_only_where_both_deviations_agree() -> None:
    assert compare_scales(TRAIN, 3 * TEST).ratio == pytest.approx(3, rel=0.1)
    outlying = TEST.copy()
    outlying[0] = 1e4  # the standard deviation grows 500 times, the mean absolute one 60 times
    assert compare_scales(TRAIN, outlying).ratio < 100
    assert compare_scales(TRAIN, np.ones_like(TEST)).numbers == 0


def test_rescaling_gives_every_number_its_mean_and_spread_in_the_training_split() -> None:
    test = {"a": 5 * TEST + 3, "tokens": np.arange(400, dtype=np.int32)[:, None] % 7}
    train = {"a": TRAIN, "tokens": np.arange(600, dtype=np.int32)[:, None] % 9}
    kinds: dict[str, InputKind] = {"a": "table", "tokens": "table"}
    repaired = rescaled(Sample(np.arange(600), train, None, kinds), Sample(np.arange(400), test, None, kinds)).inputs
    assert repaired["a"].mean(axis=0) == pytest.approx(TRAIN.mean(axis=0), abs=1e-5)
    assert repaired["a"].std(axis=0) == pytest.approx(TRAIN.std(axis=0), rel=1e-5)
    assert np.array_equal(repaired["tokens"], test["tokens"])


@pytest.mark.parametrize(
    ("factor", "columns", "gain", "severity", "code"),
    [
        (2.0, 6, 0.5, None, ""),
        (3.0, 6, 0.5, Severity.FAIL, "data/split-scaled-differently"),
        (3.0, 6, 0.05, Severity.WARN, "data/split-scaled-differently"),
        (3.0, 6, None, Severity.WARN, "data/split-scaled-differently"),
        (20.0, 6, None, Severity.FAIL, "data/split-scaled-differently"),
        (3.0, 2, 0.5, Severity.WARN, "data/drifting-feature"),
        (20.0, 2, 0.5, Severity.FAIL, "data/split-scaled-differently"),
    ],
)
def test_a_failure_needs_a_repair_or_a_factor_that_no_drift_explains(
    factor: float, columns: int, gain: float | None, severity: Severity | None, code: str
) -> None:
    scale = compare_scales(TRAIN[:, :columns], factor * TEST[:, :columns])
    found = scale_findings("x", scale, scale_measures("x", scale, LIMITS), lambda: gain)
    assert [(one.severity, one.code) for one in found] == ([] if severity is None else [(severity, code)])


def test_within_chance_nothing_is_found() -> None:
    scale = compare_scales(TRAIN[:20], 3 * TEST[:20])
    unsure = ScaleLimits(2.5, 1.0, 50.0)
    assert scale_findings("x", scale, scale_measures("x", scale, unsure), lambda: 1.0) == []
