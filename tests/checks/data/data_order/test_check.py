"""The order in which a loader hands out the examples, against what training needs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.data.data_order import data_order
from jaxrecipe.parts import Loop
from jaxrecipe.report.evidence import Matrix
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Classes, Unspecified
from jaxrecipe.task import Task
from tests.zoo.healthy import HEALTHY, digits_task, language_model_task, regression_task
from tests.zoo.modes import hand_loop

Run = Callable[..., Result]
Order = Callable[[int, int], np.ndarray]
"""`order(epoch, size) -> indices`."""


def mixed(epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([5, epoch]).permutation(size)


def batched(x: Any, y: Any, order: np.ndarray, size: int, keep_last: bool = True) -> Iterator[Any]:
    for start in range(0, len(order) if keep_last else len(order) - len(order) % size, size):
        rows = order[start : start + size]
        yield x[rows], y[rows]


def loaded(task: Task, batches: Callable[[int], Any]) -> Task:
    """The task with a loop of its own that hands out these batches."""
    loop = hand_loop(task).loop
    assert loop is not None
    return task.replace(loop=Loop(init=loop.init, step=loop.step, variables=loop.variables, batches=batches))


def in_order(order: Order, task: Task | None = None, **changes: Any) -> Task:
    task = (task or digits_task()).replace(**changes)
    x, y = task.train
    return loaded(task, lambda epoch: batched(x, y, order(epoch, len(y)), task.batch_size))


def by_label(task: Task) -> np.ndarray:
    return np.argsort(np.ravel(task.train[1]), kind="stable")


def sorted_task(task: Task) -> Task:
    order = by_label(task)
    return task.replace(train=(task.train[0][order], task.train[1][order]))


DIGITS = digits_task()
X, Y = DIGITS.train
N = len(Y)


def buffered(epoch: int, size: int, *, buffer: int) -> np.ndarray:
    """Sorted by label and shuffled through a buffer, as streaming loaders do."""
    rng, order, held, out = np.random.default_rng(epoch), list(by_label(DIGITS)), [], []
    for index in order:
        held.append(index)
        if len(held) > buffer:
            out.append(held.pop(rng.integers(len(held))))
    return np.array([*out, *rng.permutation(held)])


def augmented(epoch: int, order: int | None = None) -> Iterator[Any]:
    rng = np.random.default_rng(epoch)
    for x, y in batched(X, Y, mixed(epoch if order is None else order, N), 32):
        yield x + rng.normal(size=x.shape).astype(np.float32), y


def balanced(epoch: int, size: int) -> np.ndarray:
    """First one of every class, then another one of every class, and so on."""
    order = mixed(epoch, size)
    rank = np.array([(Y[order[:place]] == Y[order[place]]).sum() for place in range(size)])
    return order[np.argsort(rank, kind="stable")]


HANDED_OUT: dict[str, Task] = {
    "mixed": in_order(mixed),
    "last batch dropped after shuffling": loaded(DIGITS, lambda e: batched(X, Y, mixed(e, N), 32, keep_last=False)),
    "in wider dtypes": loaded(DIGITS, lambda e: batched(X.astype(np.float32), Y.astype(np.int64), mixed(e, N), 32)),
    "augmented": loaded(DIGITS, augmented),
    "sorted but mixed by the loader": in_order(mixed, sorted_task(DIGITS)),
    "values": in_order(mixed, regression_task()),
    "batches of one": in_order(mixed, batch_size=1),
    "as many of each class in every batch": in_order(balanced),
    "text": in_order(mixed, language_model_task()),
    "repeated to fill the last batch": in_order(lambda e, n: np.resize(mixed(e, n), -(-n // 32) * 32)),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_set_ups_pass(run: Run, name: str, seed: int) -> None:
    result = run(data_order, HEALTHY[name](seed))
    assert result.status is Status.PASS, result.headline


@pytest.mark.parametrize("name", HANDED_OUT)
def test_what_good_loaders_hand_out_passes(run: Run, name: str) -> None:
    result = run(data_order, HANDED_OUT[name])
    assert result.status is Status.PASS, result.headline
    assert not result.hint


def weighted(epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng(epoch).integers(0, size, size)


def unpaired(epoch: int) -> Iterator[Any]:
    order = mixed(epoch, N)
    for start in range(0, N, 32):
        rows = order[start : start + 32]
        yield X[rows], Y[np.random.default_rng(start).permutation(rows)]


def padded(epoch: int) -> Iterator[Any]:
    for x, y in batched(X, Y, mixed(epoch, N), 32):
        missing = 32 - len(y)
        yield (
            np.concatenate([x, np.zeros_like(x[:1]).repeat(missing, axis=0)]),
            np.concatenate([y, Y[:1].repeat(missing)]),
        )


def drifting(task: Task) -> Task:
    x = task.train[0] + np.linspace(0, 4, len(task.train[0]), dtype=np.float32)[:, None]
    return in_order(lambda e, n: np.roll(np.arange(n), 50 * e), task.replace(train=(x, task.train[1])))


def test_rows(epoch: int) -> Iterator[Any]:
    assert DIGITS.test is not None
    return batched(*DIGITS.test, mixed(epoch, len(DIGITS.test[1])), 32)


def half_joined(epoch: int) -> Iterator[Any]:
    """Another half of the training examples in each epoch, then some test examples."""
    assert DIGITS.test is not None
    x, y = (
        np.concatenate([a[rows], b[:100]])
        for rows in [mixed(epoch, N)[: N // 2]]
        for a, b in zip(DIGITS.train, DIGITS.test, strict=True)
    )
    return batched(x, y, mixed(epoch, len(y)), 32)


test_rows.__test__ = False  # type: ignore[attr-defined]  (a loader, not a test)

SORTED, SAME, SKIPPED = "data/sorted", "data/same-order-every-epoch", "data/examples-skipped"
REPLACED, UNPAIRED = "data/sampled-with-replacement", "data/misaligned-targets"
BROKEN: dict[str, tuple[Task, Status, str]] = {
    "sorted by label": (in_order(lambda e, n: by_label(DIGITS)), Status.FAIL, SORTED),
    "sorted, batches shuffled": (
        in_order(lambda e, n: by_label(DIGITS)[: n - n % 32].reshape(-1, 32)[mixed(e, n // 32)].ravel()),
        Status.FAIL,
        SORTED,
    ),
    "sorted, batches of one": (in_order(lambda e, n: by_label(DIGITS), batch_size=1), Status.FAIL, SORTED),
    "sorted by value": (in_order(lambda e, n: by_label(regression_task()), regression_task()), Status.FAIL, SORTED),
    "a small buffer": (in_order(lambda e, n: buffered(e, n, buffer=40)), Status.FAIL, SORTED),
    "a larger buffer": (in_order(lambda e, n: buffered(e, n, buffer=300)), Status.WARN, SORTED),
    "sorted, of hundreds of classes": (
        in_order(lambda e, n: np.arange(n), sorted_task(DIGITS.replace(train=(X, np.arange(N, dtype=np.int32) // 7)))),
        Status.FAIL,
        SORTED,
    ),
    "sorted, undeclared": (in_order(lambda e, n: by_label(DIGITS), target=Unspecified()), Status.FAIL, SORTED),
    "sorted, declared to compare": (in_order(lambda e, n: by_label(DIGITS), mixes_examples=True), Status.WARN, SORTED),
    "the same order": (in_order(lambda e, n: mixed(0, n)), Status.WARN, SAME),
    "as it is stored": (in_order(lambda e, n: np.arange(n)), Status.WARN, SAME),
    "the same order, augmented": (loaded(DIGITS, lambda e: augmented(e, order=0)), Status.WARN, SAME),
    "shuffled apart": (loaded(DIGITS, unpaired), Status.FAIL, UNPAIRED),
    "shifted by one": (loaded(DIGITS, lambda e: batched(X, np.roll(Y, 1), mixed(e, N), 32)), Status.FAIL, UNPAIRED),
    "half of them": (in_order(lambda e, n: mixed(e, n // 2)), Status.FAIL, SKIPPED),
    "always the same dropped": (in_order(lambda e, n: mixed(e, n - 20)), Status.WARN, SKIPPED),
    "with replacement": (in_order(weighted), Status.WARN, REPLACED),
    "some twice": (in_order(lambda e, n: np.r_[mixed(e, n), mixed(e + 9, n)[:300]]), Status.WARN, REPLACED),
    "another half every epoch": (in_order(lambda e, n: mixed(e, n)[: n // 2]), Status.WARN, REPLACED),
    "the test data": (loaded(DIGITS, test_rows), Status.FAIL, "data/trained-on-test"),
    "zeros at the end": (loaded(DIGITS, padded), Status.WARN, "data/foreign-examples"),
    "drift": (drifting(regression_task()), Status.WARN, "data/drifting-order"),
    "no end": (in_order(lambda e, n: np.resize(mixed(e, n), 4 * n)), Status.WARN, "data/endless-epoch"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_loaders_are_named(run: Run, name: str) -> None:
    task, status, code = BROKEN[name]
    result = run(data_order, task)
    assert (result.status, result.codes[0]) == (status, code), result.findings
    assert result.findings[0].causes[0].code == code


def test_all_that_is_wrong_is_found(run: Run) -> None:
    """Sorted, the same every epoch and only half of the examples: three findings."""
    result = run(data_order, in_order(lambda e, n: by_label(DIGITS)[: n // 2]))
    assert set(result.codes) == {SORTED, SKIPPED, SAME}
    joined = run(data_order, loaded(DIGITS, half_joined))
    assert set(joined.codes) == {"data/trained-on-test", REPLACED}


def test_data_stored_sorted_are_no_finding_where_the_library_shuffles(run: Run) -> None:
    result = run(data_order, sorted_task(DIGITS))
    assert result.status is Status.PASS
    assert result.measured["sortedness of the stored labels"] > 0.9


def test_data_stored_sorted_are_a_warning_where_the_loop_has_no_batches(run: Run) -> None:
    result = run(data_order, hand_loop(sorted_task(DIGITS)))
    assert result.status is Status.WARN
    assert result.codes == ("data/stored-sorted",)
    assert run(data_order, hand_loop(DIGITS)).status is Status.PASS


class Items:
    """Data that are read item by item."""

    def __init__(self, item: Callable[[int], Any], bulk: Callable[[list[int]], Any] | None = None) -> None:
        self.item = item
        if bulk is not None:
            self.__getitems__ = bulk

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def test_items_that_do_not_follow_their_index_are_found(run: Run) -> None:
    rng = np.random.default_rng(0)
    good = Items(lambda i: (X[i], Y[i]))
    assert run(data_order, DIGITS.replace(train=good)).status is Status.PASS
    bad = Items(lambda i: (X[i], Y[rng.integers(N)]))
    result = run(data_order, DIGITS.replace(train=bad))
    assert result.status is Status.FAIL
    assert result.codes[0] == UNPAIRED
    swapped = Items(
        lambda i: (X[i], Y[i]), lambda rows: [(X[i], Y[j]) for i, j in zip(rows, sorted(rows), strict=True)]
    )
    result = run(data_order, DIGITS.replace(train=swapped))
    assert result.status is Status.FAIL
    assert result.codes[0] == UNPAIRED
    noisy = Items(lambda i: (X[i] + rng.normal(size=X[i].shape).astype(np.float32), Y[i]))
    result = run(data_order, DIGITS.replace(train=noisy))
    assert result.status is Status.WARN
    assert result.codes == ("data/random-reader",)


def test_the_evidence_shows_the_classes_along_the_order(run: Run) -> None:
    result = run(data_order, BROKEN["sorted by label"][0])
    matrix = next(e for e in result.evidence if isinstance(e, Matrix))
    assert matrix.values[0].argmax() == 0
    assert matrix.values[-1].argmax() == 9
    assert matrix.values.sum(axis=1) == pytest.approx(1.0)
    assert result.measured["sortedness of the labels"] > 0.9


def test_both_sides_of_each_threshold(run: Run) -> None:
    task, _, _ = BROKEN["a larger buffer"]
    share = run(data_order, task).measured["sortedness of the labels"]
    assert run(data_order, task, sorted_fail=0.99 * share).status is Status.FAIL
    assert run(data_order, task, sorted_fail=1.01 * share).status is Status.WARN
    assert run(data_order, task, sorted_warn=0.99 * share).codes == (SORTED,)
    assert run(data_order, task, sorted_warn=1.01 * share).status is Status.PASS
    task, _, _ = BROKEN["drift"]
    share = run(data_order, task).measured["share of the variance of inputs between batches"]
    assert run(data_order, task, drift_warn=0.99 * share).codes == ("data/drifting-order",)
    assert run(data_order, task, drift_warn=1.01 * share).status is Status.PASS


def test_a_dependence_within_chance_is_no_finding(run: Run) -> None:
    task, _, _ = BROKEN["a larger buffer"]
    assert run(data_order, task, chance=1e-300).status is Status.PASS


def test_little_data_say_nothing(run: Run) -> None:
    few = DIGITS.replace(train=(X[:40], np.sort(Y[:40])), test=None, target=Classes(10))
    assert run(data_order, in_order(lambda e, n: np.roll(np.arange(n), e), few)).status is Status.PASS
