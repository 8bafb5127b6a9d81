"""The bounded reader: which examples, in which chunks, and that nothing outlives a set-up."""

import gc
import weakref
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.probes import reading
from jaxrecipe.probes.heads import all_heads, head_chunks
from jaxrecipe.probes.reading import by_path, chunks, finite, random_rows, readable_rows, real
from jaxrecipe.probes.samples import sample
from jaxrecipe.targets import Classes, Values
from tests.probes.tasks import setup_of

X, Y = np.arange(5000.0).reshape(1000, 5), np.arange(1000) % 7


def test_all_examples_are_read_where_they_are_few_and_a_sample_by_the_seed_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = setup_of(X, Y)
    assert np.array_equal(readable_rows(setup, "train"), np.arange(1000))
    assert np.array_equal(random_rows(setup, "train", 1000), np.arange(1000))
    some = random_rows(setup, "train", 100)
    assert len(np.unique(some)) == 100
    assert (np.diff(some) > 0).all()
    assert np.array_equal(some, random_rows(setup, "train", 100))
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 50)
    assert len(readable_rows(setup, "train")) == 50
    assert len(readable_rows(setup, "train", targets_only=True)) == 400
    monkeypatch.setattr(reading, "MOST_BYTES", 30 * 6 * 8)
    assert len(readable_rows(setup, "train")) == 30
    monkeypatch.setattr(reading, "MOST_READ", 20)
    assert len(readable_rows(setup_of(items=[(X[i], Y[i]) for i in range(60)]), "train")) == 20


@pytest.mark.parametrize("rows", [np.arange(0, 1000), np.arange(3, 1000, 9)])
def test_chunks_hold_the_examples_that_were_asked_for(rows: np.ndarray) -> None:
    for items in (None, [(X[i], Y[i]) for i in range(1000)]):
        source = setup_of(X, Y).train if items is None else setup_of(items=items).train
        parts = list(chunks(source, rows, 64))
        assert np.array_equal(np.concatenate([part for part, _ in parts]), rows)
        assert np.array_equal(np.concatenate([x for _, (x, _) in parts]), X[rows])
        assert np.array_equal(np.concatenate([y for _, (_, y) in parts]), Y[rows])


def test_heads_hold_the_targets_after_preparation() -> None:
    def prepare(x: Any, y: Any) -> Any:
        return x, {"digit": y + 1, "value": y.astype(jnp.bfloat16)}

    target = {"digit": Classes(9), "value": Values()}
    setup = setup_of(X, Y, target=target, prepare=prepare)
    digit, value = all_heads(setup, "train")
    assert (digit.path, digit.target, value.path) == ("digit", Classes(9), "value")
    assert np.array_equal(digit.targets, Y + 1)
    assert value.targets.dtype == np.float32
    assert np.array_equal(value.targets, Y)
    sizes = [len(rows) for rows, _ in head_chunks(setup, "train", size=300)]
    assert sizes == [300, 300, 300, 100]


def test_a_sample_is_prepared_once() -> None:
    setup = setup_of(X, Y, prepare=lambda x, y: (x * 2, y))
    drawn = sample(setup, "train", 700)
    assert np.array_equal(drawn.inputs["inputs"], 2 * X[drawn.indices].astype(np.float32))
    assert np.array_equal(drawn.targets, Y[drawn.indices])
    assert drawn.kinds == {"inputs": "table"}
    assert sample(setup, "train", 700) is drawn
    with pytest.raises(ValueError, match="no test data"):
        sample(setup, "test", 10)


def test_nothing_is_kept_of_a_task_that_is_gone() -> None:
    class Prepare:
        def __call__(self, x: Any, y: Any) -> Any:
            return x, y

    prepare = Prepare()
    setup = setup_of(X, Y, target=Classes(7), prepare=prepare)
    all_heads(setup, "train")
    sample(setup, "train", 10)
    gone = weakref.ref(prepare)
    del prepare, setup
    gc.collect()
    assert gone() is None


def test_numbers_that_numpy_can_compare() -> None:
    found = by_path({"a": np.array([True, False]), "b": np.array([1 + 2j]), "c": jnp.ones(1, jnp.bfloat16)})
    assert found["a"].dtype == np.uint8
    assert found["b"].tolist() == [[1.0, 2.0]]
    assert found["c"].dtype == np.float32
    assert real(np.arange(3)).dtype == np.int64
    numbers = np.array([1.0, np.nan, np.inf])
    assert finite(numbers).tolist() == [1.0, 0.0, 0.0]
    whole = np.ones(3)
    assert finite(whole) is whole
