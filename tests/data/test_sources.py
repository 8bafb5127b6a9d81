"""Sources: what is accepted, what is read, and what each mistake is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.data.sources import Source, as_source, examples


class Listed:
    """A minimal data set with `len` and `[]`."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Bulk(Listed):
    """One that can only be read in bulk."""

    def __getitem__(self, index):
        raise AssertionError("read one by one")

    def __getitems__(self, indices):
        return [self.items[index] for index in indices]


def pairs(n=7):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(2, 3)).astype(np.float32), int(rng.integers(5))) for _ in range(n)]


def test_arrays_are_gathered_like_a_loop():
    x = {"image": np.arange(24, dtype=np.uint8).reshape(6, 2, 2), "age": (np.arange(6.0),)}
    y = np.arange(6, dtype=np.int32)
    source = as_source((x, y))
    assert source.size == 6
    assert source.arrays is not None
    inputs, targets = source.gather(np.array([5, 0, 5]))
    for k, index in enumerate([5, 0, 5]):
        np.testing.assert_array_equal(inputs["image"][k], x["image"][index])
        assert inputs["age"][0][k] == x["age"][0][index]
        assert targets[k] == y[index]
    assert inputs["image"].dtype == np.uint8
    assert targets.dtype == np.int32


def test_gathered_arrays_are_copies():
    x = np.zeros((3, 2))
    inputs, _ = as_source((x, x)).gather(np.arange(3))
    inputs[:] = 1
    assert not x.any()


def test_jax_arrays_and_bfloat16_are_accepted():
    source = as_source((jnp.ones((4, 2), jnp.bfloat16), np.ones(4, jnp.bfloat16)))
    inputs, targets = source.gather(np.array([1, 2]))
    assert isinstance(inputs, jax.Array)
    assert inputs.dtype == jnp.bfloat16
    assert targets.dtype == jnp.bfloat16


def test_whatever_converts_to_an_array_is_accepted():
    """As PyTorch tensors and PIL images do."""

    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.array([[1, 2], [3, 4]], np.uint8)

    assert as_source((Tensor(), np.ones(2))).gather(np.array([1]))[0].tolist() == [[3, 4]]
    assert as_source([(Tensor(), 0)]).gather(np.array([0]))[0].tolist() == [[[1, 2], [3, 4]]]


def test_targets_may_be_none():
    inputs, targets = as_source((np.ones((4, 2)), None)).gather(np.array([1]))
    assert inputs.shape == (1, 2)
    assert targets is None


@pytest.mark.parametrize("kind", [list, Listed, Bulk])
def test_items_are_stacked_like_a_loop(kind):
    items = pairs()
    source = as_source(kind(items))
    assert source.size == 7
    assert source.arrays is None
    inputs, targets = source.gather(np.array([6, 1, 1]))
    np.testing.assert_array_equal(inputs, np.stack([items[i][0] for i in (6, 1, 1)]))
    np.testing.assert_array_equal(targets, [items[i][1] for i in (6, 1, 1)])


def test_a_source_is_returned_as_it_is():
    source = Source(3, lambda indices: (indices, indices))
    assert as_source(source) is source


@pytest.mark.parametrize("kind", [Listed, Bulk])
def test_examples_picks_by_key(kind):
    items = [{"image": np.full((2,), i, np.uint8), "label": i, "id": b"x"} for i in range(4)]
    inputs, targets = as_source(examples(kind(items))).gather(np.array([2, 3]))
    np.testing.assert_array_equal(inputs, [[2, 2], [3, 3]])
    np.testing.assert_array_equal(targets, [2, 3])
    inputs, targets = as_source(examples(kind(items), inputs=("image", "label"), targets=None)).gather(np.array([1]))
    assert set(inputs) == {"image", "label"}
    assert targets is None


def test_examples_names_the_keys_there_are():
    with pytest.raises(KeyError, match=r"no 'picture'; its keys are 'image', 'label'"):
        as_source(examples([{"image": np.ones(2), "label": 1}], inputs="picture"))


def test_different_sizes_name_every_leaf():
    x = {"a": np.ones((4, 2)), "b": np.ones((5, 2))}
    with pytest.raises(ValueError, match=r"inputs/a has 4, inputs/b has 5, targets has 4"):
        as_source((x, np.ones(4)))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, TypeError, "the data are None"),
        (np.ones((4, 2)), TypeError, r"one numpy.ndarray of shape \(4, 2\); wanted a tuple"),
        ({"image": np.ones(3)}, TypeError, "a dict of 1"),
        (iter([1, 2]), TypeError, "list_iterator"),
        ("text", TypeError, "a str of 4"),
        ((np.ones(3),), TypeError, "a tuple of 1"),
        ((np.ones(3), np.ones(3), np.ones(3)), TypeError, "a tuple of 3"),
        ((np.array(["a", "b"]), np.ones(2)), TypeError, "inputs is <U1"),
        ((np.ones(2), np.array([None, 1], object)), TypeError, "targets is object"),
        ((np.ones(2), np.array(["2020-01-01"] * 2, "datetime64[D]")), TypeError, "targets is datetime64"),
        (([1, 2, 3], [1, 2, 3]), TypeError, "inputs/0 is a int.* and 3 more"),
        ((np.ones((0, 2)), np.ones(0)), ValueError, "no examples"),
        ((np.float32(1), np.ones(1)), ValueError, "inputs has no axis"),
        (({}, np.ones(1)), ValueError, "no inputs"),
        ([], ValueError, "a list of 0 has length 0"),
        ([np.ones(3), np.ones(3)], TypeError, r"item 0 is one numpy.ndarray.*pass a tuple"),
        ([(1, 2, 3)], TypeError, "item 0 is a tuple of 3"),
        ([{"image": 1, "label": 2}], TypeError, r"keys 'image', 'label'.*examples\("),
        ([("text", 1)], TypeError, "item 0 must hold numbers: inputs is <U4"),
    ],
)
def test_each_mistake_is_told(data, error, message):
    with pytest.raises(error, match=message):
        as_source(data)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((np.ones((3, 3), np.float32), 1), r"examples 0 and 2 differ.*inputs: float32\[2, 3\] and float32\[3, 3\]"),
        ((np.ones((2, 3), np.float64), 1), r"inputs: float32\[2, 3\] and float64\[2, 3\]"),
        ((np.ones((2, 3), np.float32), {"a": 1}), r"targets: int64\[\] and nothing; targets/a: nothing and int64\[\]"),
    ],
)
def test_examples_that_differ_are_not_stacked(item, message):
    items = pairs()
    items[2] = item
    with pytest.raises(ValueError, match=message):
        as_source(items).gather(np.array([0, 1, 2]))


def test_a_length_that_raises_is_told():
    class Endless:
        def __getitem__(self, index):
            return 1, 1

    with pytest.raises(TypeError, match="without a length"):
        as_source(Endless())
