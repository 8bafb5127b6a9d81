"""Targets cut where they are far out, and what makes a target outlying."""

import numpy as np
import pytest

from jaxrecipe.checks.data.label_noise.judged import Limits
from jaxrecipe.checks.data.label_noise.noisy_values import CUT, cut, judge_values
from jaxrecipe.probes.questions import Question
from jaxrecipe.probes.samples import Sample
from jaxrecipe.targets import Values

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3)).astype(np.float32)
Y = (X.sum(axis=1, keepdims=True) + 0.1 * RNG.normal(size=(600, 1))).astype(np.float64)
LIMITS = Limits(wrong=0.05, skilled=0.5, evenly=0.6, standard_errors=3.0, tails=15.0, outlying=0.005)


def codes(values: np.ndarray) -> list[str]:
    head = Question("", Values(), values, False, {"inputs": X}, {"inputs": "table"}, np.arange(600))
    judged = judge_values(head, None, Sample(np.arange(600), {"inputs": X}, values, {"inputs": "table"}), LIMITS)
    return [one.code for one in judged.findings]


def test_values_are_cut_at_six_typical_deviations() -> None:
    from scipy.stats import median_abs_deviation

    values = np.concatenate([RNG.normal(size=(500, 1)), [[100.0], [-100.0]]])
    typical = median_abs_deviation(values, scale="normal")[0]
    bent = cut(values, values)
    assert bent.max() == pytest.approx(np.median(values) + CUT * typical, rel=1e-3)
    assert np.array_equal(bent[:500], values[:500])
    assert np.array_equal(cut(np.ones((5, 1)), np.ones((5, 1))), np.ones((5, 1)))


@pytest.mark.parametrize(("outliers", "expected"), [(0, []), (4, []), (5, ["data/target-outliers"])])
def test_a_handful_of_outlying_targets_is_a_finding(outliers: int, expected: list[str]) -> None:
    values = Y.copy()
    values[:outliers] += 50.0
    assert codes(values) == expected


def test_noise_that_grows_with_the_target_is_none() -> None:
    assert codes(np.exp(2.0 * Y) * np.exp(RNG.normal(size=Y.shape))) == []
