"""Each simulated mistake against a loop that makes it."""

from collections.abc import Callable

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.exact_eval.mistakes import MISTAKES, exactly_held, near

Loop = Callable[[np.ndarray, int], float]


def batches(values: np.ndarray, size: int) -> list[np.ndarray]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def dropped(values: np.ndarray, size: int) -> float:
    full = [part for part in batches(values, size) if len(part) == size]
    return float(np.concatenate(full).mean())


def batch_means(values: np.ndarray, size: int) -> float:
    return float(np.mean([part.mean() for part in batches(values, size)]))


def padded_with_last(values: np.ndarray, size: int) -> float:
    padded = list(values)
    while len(padded) % size:
        padded.append(values[-1])
    return float(np.mean(padded))


def over_padded_count(values: np.ndarray, size: int) -> float:
    return float(values.sum() / (len(batches(values, size)) * size))


def last_batch(values: np.ndarray, size: int) -> float:
    return float(batches(values, size)[-1].mean())


def twice(values: np.ndarray, _: int) -> float:
    return float(np.concatenate([values, values]).sum() / len(values))


def summed(values: np.ndarray, _: int) -> float:
    return float(sum(values))


def in_float16(values: np.ndarray, size: int) -> float:
    total = np.float16(0)
    for part in batches(values, size):
        total = np.float16(total + np.float16(part.sum()))
    return float(total) / len(values)


LOOPS: dict[str, Loop] = {
    "evaluation/last-batch-dropped": dropped,
    "evaluation/mean-of-batch-means": batch_means,
    "evaluation/padding-counted": padded_with_last,
    "evaluation/wrong-divisor": over_padded_count,
    "evaluation/one-batch-only": last_batch,
    "evaluation/counted-twice": twice,
    "evaluation/sum-not-mean": summed,
    "evaluation/half-precision-sum": in_float16,
}


@pytest.mark.parametrize("code", LOOPS)
@pytest.mark.parametrize("size", [4, 7])
def test_a_mistake_gives_what_the_loop_gives(code: str, size: int) -> None:
    values = np.random.default_rng(0).exponential(size=30)
    wanted = LOOPS[code](values, size)
    assert wanted != pytest.approx(values.mean(), rel=1e-6)
    given = [mistake(values, size) for name, mistake in MISTAKES if name == code]
    assert any(one == pytest.approx(wanted, rel=1e-9) for one in given)


def test_every_mistake_has_a_loop() -> None:
    assert {code for code, _ in MISTAKES} == set(LOOPS)


def test_where_nothing_is_counted_there_is_no_number() -> None:
    (drop,) = [mistake for code, mistake in MISTAKES if code == "evaluation/last-batch-dropped"]
    assert np.isnan(drop(np.ones(3), 4))


def test_numbers_that_half_precision_holds() -> None:
    assert exactly_held(np.array([2048.0, 2049.0, 1e9]), np.float16).tolist() == [True, False, False]
    assert near(1.0, 1.1, 0.2)
    assert not near(float("nan"), 1.0, 0.2)
