"""When labels or values of the splits mean something else: every condition and both of its sides."""

from dataclasses import replace

import numpy as np
import pytest

from jaxrecipe.checks.data.split_shift.label_maps import Relation
from jaxrecipe.checks.data.split_shift.relation_findings import Context, relation_findings

CONTEXT = Context(standard_errors=5.0, scale_ratio=2.5, shifted=False, apart=0.5)
LABELS = Relation("", 0.9, 0.9, 0.9, {}, levels=np.arange(4))
VALUES = Relation("", 0.9, 0.9, 0.9, {}, errors=50.0)
MAPPED, TARGETS = "data/split-labels-mapped-differently", "data/split-targets-differ"


def found(one: Relation, context: Context = CONTEXT) -> list[tuple[str, str]]:
    return [(finding.severity.value, finding.code) for finding in relation_findings(one, context)]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (LABELS, []),
        (replace(LABELS, map={0: 1, 1: 0}, errors=5.1), [("FAIL", MAPPED)]),
        (replace(LABELS, map={0: 1, 1: 0}, errors=4.9), []),
        (replace(LABELS, test_skill=0.05), [("FAIL", "data/splits-disagree")]),
        (replace(LABELS, test_skill=0.15), [("WARN", "data/split-shift")]),
        (replace(LABELS, test_skill=0.19), []),
        (replace(LABELS, test_skill=0.05, own_skill=0.5), [("WARN", "data/split-shift")]),
        (replace(LABELS, skill=0.5, test_skill=0.0), []),
        (VALUES, []),
        (replace(VALUES, errors=-10.1), [("FAIL", TARGETS)]),
        (replace(VALUES, errors=-9.9), []),
        (replace(VALUES, slope=2.6), [("FAIL", TARGETS)]),
        (replace(VALUES, slope=2.4), []),
        (replace(VALUES, slope=0.39), [("FAIL", TARGETS)]),
        (replace(VALUES, offset=10.1), [("FAIL", TARGETS)]),
        (replace(VALUES, offset=9.9), []),
        (replace(VALUES, slope=3.0, skill=0.29), []),
    ],
)
def test_what_a_relation_amounts_to(one: Relation, expected: list[tuple[str, str]]) -> None:
    assert found(one) == expected


def test_where_the_inputs_differ_labels_are_at_most_a_warning() -> None:
    shifted = replace(CONTEXT, shifted=True)
    assert found(replace(LABELS, map={0: 1}, errors=9.0), shifted) == [("WARN", MAPPED)]
    assert found(replace(LABELS, test_skill=0.0), shifted) == []
    assert found(replace(VALUES, slope=9.0), shifted) == []


@pytest.mark.parametrize(("apart", "severity"), [(0.59, "FAIL"), (0.61, "WARN")])
def test_splits_disagree_only_where_their_inputs_are_alike(apart: float, severity: str) -> None:
    ((found_severity, _),) = found(replace(LABELS, test_skill=0.0), replace(CONTEXT, apart=apart))
    assert found_severity == severity
