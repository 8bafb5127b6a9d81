"""The order in which a loader hands out the examples, against what training needs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.data.data_order import data_order
from jaxrecipe.checks.data.data_order.loader import Watched, dependence
from jaxrecipe.report.result import Matrix, Result, Status
from jaxrecipe.targets import Classes, Unspecified
from jaxrecipe.task import Loop, Task
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


def augmented(epoch: int) -> Iterator[Any]:
    rng = np.random.default_rng(epoch)
    for x, y in batched(X, Y, mixed(epoch, N), 32):
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


test_rows.__test__ = False  # type: ignore[attr-defined]  (a loader, not a test)

BROKEN: dict[str, tuple[Task, Status, str]] = {
    "sorted by label": (in_order(lambda e, n: by_label(DIGITS)), Status.FAIL, "mostly one kind of label"),
    "sorted, batches shuffled": (
        in_order(lambda e, n: by_label(DIGITS)[: n - n % 32].reshape(-1, 32)[mixed(e, n // 32)].ravel()),
        Status.FAIL,
        "mostly one kind of label",
    ),
    "sorted, batches of one": (in_order(lambda e, n: by_label(DIGITS), batch_size=1), Status.FAIL, "mostly one kind"),
    "sorted by value": (
        in_order(lambda e, n: by_label(regression_task()), regression_task()),
        Status.FAIL,
        "mostly one kind of label",
    ),
    "a small buffer": (in_order(lambda e, n: buffered(e, n, buffer=40)), Status.FAIL, "as large as the data"),
    "a larger buffer": (in_order(lambda e, n: buffered(e, n, buffer=300)), Status.WARN, "as large as the data"),
    "sorted, of hundreds of classes": (
        in_order(lambda e, n: np.arange(n), sorted_task(DIGITS.replace(train=(X, np.arange(N, dtype=np.int32) // 7)))),
        Status.FAIL,
        "mostly one kind of label",
    ),
    "sorted, undeclared": (
        in_order(lambda e, n: by_label(DIGITS), target=Unspecified()),
        Status.FAIL,
        "mostly one kind of label",
    ),
    "sorted, declared to compare": (
        in_order(lambda e, n: by_label(DIGITS), mixes_examples=True),
        Status.WARN,
        "mostly one kind of label",
    ),
    "the same order": (in_order(lambda e, n: mixed(0, n)), Status.WARN, "a new permutation every epoch"),
    "as it is stored": (in_order(lambda e, n: np.arange(n)), Status.WARN, "a new permutation every epoch"),
    "shuffled apart": (loaded(DIGITS, unpaired), Status.FAIL, "one permutation of the indices for both"),
    "shifted by one": (
        loaded(DIGITS, lambda e: batched(X, np.roll(Y, 1), mixed(e, N), 32)),
        Status.FAIL,
        "one permutation of the indices for both",
    ),
    "half of them": (in_order(lambda e, n: mixed(e, n // 2)), Status.FAIL, "stops early"),
    "always the same dropped": (
        in_order(lambda e, n: mixed(e, n - 20)),
        Status.WARN,
        "before shuffling",
    ),
    "with replacement": (in_order(weighted), Status.WARN, "with replacement"),
    "some twice": (in_order(lambda e, n: np.r_[mixed(e, n), mixed(e + 9, n)[:300]]), Status.WARN, "with replacement"),
    "another half every epoch": (in_order(lambda e, n: mixed(e, n)[: n // 2]), Status.WARN, "only a number of steps"),
    "the test data": (loaded(DIGITS, test_rows), Status.FAIL, "wrong split"),
    "zeros at the end": (loaded(DIGITS, padded), Status.WARN, "padding of the last batch"),
    "drift": (drifting(regression_task()), Status.WARN, "follow the drift"),
    "no end": (in_order(lambda e, n: np.resize(mixed(e, n), 4 * n)), Status.WARN, "end after one epoch"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_loaders_are_named(run: Run, name: str) -> None:
    task, status, hint = BROKEN[name]
    result = run(data_order, task)
    assert result.status is status, (result.headline, result.hint)
    assert hint in result.hint


def test_data_stored_sorted_are_a_note_where_the_library_shuffles(run: Run) -> None:
    result = run(data_order, sorted_task(DIGITS))
    assert result.status is Status.PASS
    assert "stored sorted by labels; the library's loop draws another order" in result.headline


def test_data_stored_sorted_are_a_warning_where_the_loop_is_not_shown(run: Run) -> None:
    own = hand_loop(sorted_task(DIGITS))
    result = run(data_order, own)
    assert result.status is Status.WARN
    assert "Loop(batches=...)" in result.hint
    result = run(data_order, hand_loop(DIGITS))
    assert result.status is Status.PASS
    assert "Loop(batches=...)" in result.headline


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
    assert "does not follow its index" in result.hint
    swapped = Items(
        lambda i: (X[i], Y[i]), lambda rows: [(X[i], Y[j]) for i, j in zip(rows, sorted(rows), strict=True)]
    )
    result = run(data_order, DIGITS.replace(train=swapped))
    assert result.status is Status.FAIL
    assert "in bulk in another order" in result.hint
    noisy = Items(lambda i: (X[i] + rng.normal(size=X[i].shape).astype(np.float32), Y[i]))
    result = run(data_order, DIGITS.replace(train=noisy))
    assert result.status is Status.WARN
    assert "Task.augment" in result.hint


def test_the_evidence_shows_the_classes_along_the_order(run: Run) -> None:
    result = run(data_order, BROKEN["sorted by label"][0])
    matrix = next(e for e in result.evidence if isinstance(e, Matrix))
    assert matrix.values[0].argmax() == 0
    assert matrix.values[-1].argmax() == 9
    assert matrix.values.sum(axis=1) == pytest.approx(1.0)
    assert result.measured["order of the labels"] > 0.9


def test_the_dependence_is_that_of_an_analysis_of_variance() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    groups = [rng.normal(0.15 * (i % 3), 1, size=40) for i in range(25)]
    found = dependence(Watched(np.concatenate(groups)[:, None], False), [40] * 25, seed=0)
    assert found is not None
    expected = stats.f_oneway(*groups).pvalue
    assert np.log(found.chance) == pytest.approx(np.log(expected), rel=0.35)


@pytest.mark.parametrize("seed", range(5))
def test_random_orders_look_random(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(30, size=3000, p=np.arange(1, 31) / 465).astype(np.float64)
    found = dependence(Watched(labels[:, None], True), [64] * 46 + [56], seed)
    assert found is not None
    assert found.chance > 1e-4
    assert found.share < 0.02


def test_thresholds_can_be_moved(run: Run) -> None:
    task, _, _ = BROKEN["a larger buffer"]
    assert run(data_order, task, sorted_fail=0.05).status is Status.FAIL
    assert run(data_order, task, sorted_warn=0.9).status is Status.PASS


def test_little_data_say_nothing(run: Run) -> None:
    few = DIGITS.replace(train=(X[:40], np.sort(Y[:40])), test=None, target=Classes(10))
    assert run(data_order, in_order(lambda e, n: np.roll(np.arange(n), e), few)).status is Status.PASS
