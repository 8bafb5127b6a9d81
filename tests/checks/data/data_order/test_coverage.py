"""Which stored examples an epoch holds, counted against collections.Counter."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.data.data_order.coverage import coverage_findings, pairing_findings, stored_hashes
from jaxrecipe.checks.data.data_order.loader import Epoch
from jaxrecipe.data.sources import as_source
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Severity
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import digits_task

X = np.arange(40.0, dtype=np.float32).reshape(20, 2)
Y = np.arange(20, dtype=np.int32) % 3
SETUP = make_setup(digits_task(test=None))
STORED = np.arange(100, 200).astype(np.uint64)


def findings(first: Any, second: Any, batch: int = 10) -> list[Finding]:
    epochs = np.asarray(first, np.uint64), np.asarray(second, np.uint64)
    return [*coverage_findings(SETUP, epochs, STORED, [batch] * 10, ((), ()))]


def test_equal_examples_have_equal_hashes_in_whatever_dtype() -> None:
    x = np.concatenate([X, X[:2]])
    inputs, targets = stored_hashes(as_source((x, np.concatenate([Y, Y[:2]]))), (X[:1], Y[:1]))
    assert [int((inputs == one).sum()) for one in inputs[:3]] == [2, 2, 1]
    assert len(np.unique(targets)) == 3
    wide, _ = stored_hashes(as_source((x.astype(np.float64), np.concatenate([Y, Y[:2]]))), (X[:1], Y[:1]))
    assert np.array_equal(wide, inputs)


def test_counts_are_those_of_a_counter() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.choice(STORED, 100), rng.choice(STORED, 100)
    (found,) = findings(first, second)
    counts = Counter(first.tolist())
    measured = {measure.name: measure.value for measure in found.measures}
    assert found.code == "data/sampled-with-replacement"
    assert measured["examples missing from an epoch"] == 100 - len(counts)
    assert measured["examples repeated in an epoch"] == sum(n - 1 for n in counts.values())


@pytest.mark.parametrize(
    ("first", "second", "severity"),
    [
        (STORED, STORED, None),
        (STORED[:91], STORED[9:], None),
        (STORED[:91], STORED[:91], Severity.WARN),
        (STORED[:90], STORED[:90], Severity.FAIL),
    ],
    ids=["all", "other ones dropped", "less than a batch", "a batch"],
)
def test_examples_that_are_never_seen(first: np.ndarray, second: np.ndarray, severity: Severity | None) -> None:
    found = findings(first, second)
    assert [one.severity for one in found] == ([] if severity is None else [severity])
    assert all(one.code == "data/examples-skipped" for one in found)


@pytest.mark.parametrize(("missing", "codes"), [(9, []), (10, ["data/sampled-with-replacement"])])
def test_a_batch_that_another_epoch_has_is_where_sampling_begins(missing: int, codes: list[str]) -> None:
    found = findings(STORED[: 100 - missing], STORED[missing:])
    assert [one.code for one in found] == codes


@pytest.mark.parametrize(("foreign", "codes"), [(0, []), (1, ["data/foreign-examples"]), (101, [])])
def test_a_few_foreign_examples_are_a_finding_and_mostly_foreign_ones_are_augmented(
    foreign: int, codes: list[str]
) -> None:
    epoch = np.concatenate([STORED, np.arange(1000, 1000 + foreign, dtype=np.uint64)])
    assert [one.code for one in findings(epoch, epoch)] == codes


@pytest.mark.parametrize("wrong", [0, 1])
def test_one_exchanged_target_is_found(wrong: int) -> None:
    inputs, targets = STORED, STORED % np.uint64(7)
    given = targets.copy()
    given[:wrong] = (given[:wrong] + np.uint64(1)) % np.uint64(7)
    found = [*pairing_findings(Epoch(inputs, given, [10] * 10, {}, {}), inputs, targets)]
    assert [one.code for one in found] == ["data/misaligned-targets"] * wrong
    assert all(one.measures[0].value == 1 for one in found)


def test_targets_that_are_changed_on_purpose_are_not_paired() -> None:
    smoothed = STORED + np.uint64(1000)
    assert not [*pairing_findings(Epoch(STORED, smoothed, [10] * 10, {}, {}), STORED, STORED)]
    assert not [*pairing_findings(Epoch(STORED, None, [10] * 10, {}, {}), STORED, STORED)]
