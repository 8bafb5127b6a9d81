"""When errors of a simple predictor are noise: every condition, on made-up errors."""

from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.data.label_noise.judged import Limits
from jaxrecipe.checks.data.label_noise.noisy_labels import Errors, noise_findings, noise_measures, within_chance
from jaxrecipe.diagnosis.measure import Severity
from jaxrecipe.probes.questions import Question
from jaxrecipe.targets import Classes

LIMITS = Limits(wrong=0.05, skilled=0.5, evenly=0.6, standard_errors=3.0, tails=15.0, outlying=0.01)
HEAD = Question("digit", Classes(10), np.zeros(1), True, {}, {}, np.zeros(1, int))


def so_many(share: float, total: int) -> np.ndarray:
    return np.arange(total) < round(share * total)


def found(held_out: float, surest: float, test: float | None, skill: float = 0.7) -> list[tuple[Any, ...]]:
    errors = Errors(
        so_many(held_out, 3000), so_many(surest, 1000), None if test is None else so_many(test, 1000), skill
    )
    measures = noise_measures(HEAD, errors, 0.1, LIMITS)
    return [
        (one.severity, [cause.code for cause in one.causes]) for one in noise_findings(HEAD, errors, measures, LIMITS)
    ]


NOISE, SHIFT = "data/label-noise", "data/split-shift"


@pytest.mark.parametrize(
    ("held_out", "surest", "test", "expected"),
    [
        (0.30, 0.25, 0.05, [(Severity.FAIL, [NOISE])]),
        (0.30, 0.17, 0.05, [(Severity.WARN, [NOISE, SHIFT])]),
        (0.12, 0.10, 0.05, [(Severity.WARN, [NOISE])]),
        (0.09, 0.05, 0.05, []),
        (0.30, 0.25, 0.30, [(Severity.WARN, [NOISE])]),
        (0.30, 0.10, 0.30, []),
        (0.30, 0.25, None, [(Severity.WARN, [NOISE])]),
        (0.06, 0.06, None, []),
    ],
)
def test_two_signs_of_noise(held_out: float, surest: float, test: float | None, expected: list[Any]) -> None:
    assert found(held_out, surest, test) == expected


def test_without_skill_nothing_is_said() -> None:
    assert found(0.9, 0.9, 0.5, skill=0.05) == []
    assert found(0.5, 0.5, None, skill=0.45) == []


@pytest.mark.parametrize(("hits", "expected"), [(120, True), (150, False)])
def test_chance_is_naming_the_commonest_label(hits: int, expected: bool) -> None:
    """Ten labels alike: 100 of 1000 hits with a standard deviation of 9.5."""
    assert within_chance(np.arange(1000) >= hits, np.arange(1000) % 10, 3.0) is expected
