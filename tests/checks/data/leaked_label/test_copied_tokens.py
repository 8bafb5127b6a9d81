"""Targets that are tokens of the inputs already seen: how many must be, and how many may be the next ones as well."""

import numpy as np
import pytest

from jaxrecipe.checks.data.leaked_label.copied_tokens import token_findings
from jaxrecipe.diagnosis.measure import Severity
from jaxrecipe.probes.samples import Sample
from jaxrecipe.setup import make_setup
from jaxrecipe.targets import Tokens
from tests.zoo.healthy import language_model_task

TOKENS = np.random.default_rng(0).integers(1, 50, size=(100, 20)).astype(np.int32)


def found(inputs: np.ndarray, targets: np.ndarray, *, causal: bool = True, pad: int | None = None) -> list[tuple]:
    task = language_model_task().replace(causal=causal, target=Tokens(50, pad=pad))
    drawn = Sample(np.arange(len(inputs)), {"inputs": inputs}, targets, {"inputs": "tokens"})
    return [(one.code, one.severity, one.measures[0].value) for one in token_findings(make_setup(task), drawn)]


def test_where_the_targets_are_taken_from() -> None:
    assert found(TOKENS, TOKENS) == [("loss/target-not-shifted", Severity.FAIL, 1.0)]
    assert found(TOKENS[:, 1:], TOKENS[:, :-1]) == [("loss/target-shifted-backwards", Severity.FAIL, 1.0)]
    assert found(TOKENS[:, :-1], TOKENS[:, 1:]) == []
    assert found(TOKENS, TOKENS, causal=False) == [("loss/target-not-shifted", Severity.WARN, 1.0)]


@pytest.mark.parametrize(("changed", "count"), [(20, 1), (21, 0)])
def test_both_sides_of_how_many_are_copied(changed: int, count: int) -> None:
    targets = TOKENS.copy()
    targets.reshape(-1)[:changed] = 0
    assert len(found(TOKENS, targets)) == count


def test_padding_does_not_count_and_one_token_everywhere_is_no_copy() -> None:
    padded = np.where(np.arange(20) < 10, TOKENS, 0)
    shifted = np.concatenate([padded[:, 1:], padded[:, :1] * 0], axis=1)
    assert found(padded, shifted, pad=0) == []
    assert found(np.ones_like(TOKENS), np.ones_like(TOKENS)) == []
    assert found(TOKENS[:, :3], TOKENS[:, :3]) == []
