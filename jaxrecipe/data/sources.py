"""Where examples come from: one small structure over arrays in any pytree and over anything with `len` and `[]`."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

PyTree = Any
Pair = tuple[PyTree, PyTree]
"""`(inputs, targets)`."""


@dataclass(frozen=True, eq=False)
class Source:
    """Examples that can be read by index.

    Attributes:
        size: how many examples there are; at least 1.
        gather: `gather(indices) -> (inputs, targets)` for integer indices `[k]`: the examples stacked along a new
            leading axis `[k, ...]`, in that order, in arrays that nobody writes to afterwards. May be called from
            another thread.
        arrays: `(inputs, targets)` with leading axis `[size, ...]` when the whole data is at hand as arrays, else None.
    """

    size: int
    gather: Callable[[Int[np.ndarray, "k"]], Pair]
    arrays: Pair | None = None


def as_source(data: Any) -> Source:
    """Make a Source of what people have.

    Args:
        data: a tuple `(inputs, targets)` of pytrees of arrays with one leading size (`targets` may be None); or
            anything with `len` and `[]` whose items are `(inputs, targets)` of one example (a list, a torch-style or
            grain data set, ...), read in bulk through `__getitems__` where there is one; or a Source, which is returned
            as it is.

    Raises:
        TypeError: the data are of no such kind, an item is not a pair, or an array is not numeric.
        ValueError: no examples, or leaves whose leading sizes differ (all of them are named).
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, tuple):
        return _from_arrays(data)
    if (
        data is None
        or isinstance(data, str | bytes | Mapping)
        or hasattr(data, "dtype")
        or not hasattr(data, "__getitem__")
    ):
        raise TypeError(
            f"the data are {_kind(data)}; wanted a tuple (inputs, targets) of arrays, or anything with len and [] "
            "whose items are (inputs, targets) of one example"
        )
    return _from_items(data)


def examples(
    dataset: Any, *, inputs: str | Sequence[str] = "image", targets: str | Sequence[str] | None = "label"
) -> "Examples":
    """Adapt a data set whose items are mappings (tensorflow-datasets' `data_source`) to items `(inputs, targets)`.

    Args:
        dataset: anything with `len` and `[]` (and `__getitems__`, if it can read in bulk).
        inputs: the key of the inputs, or several: then the inputs are a dict of those.
        targets: likewise for the targets; None for none.
    """
    return Examples(dataset, inputs, targets)


@dataclass(frozen=True, eq=False)
class Examples:
    """Items `(inputs, targets)` picked by key from a data set of mappings; made by `examples`."""

    dataset: Any
    inputs: str | Sequence[str]
    targets: str | Sequence[str] | None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair:
        return self._pair(self.dataset[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Pair]:
        return [self._pair(item) for item in _read(self.dataset, indices)]

    def _pair(self, item: Any) -> Pair:
        if not isinstance(item, Mapping):
            raise TypeError(f"an item of the data set is {_kind(item)}; examples(...) wants items that are mappings")
        return _pick(item, self.inputs), None if self.targets is None else _pick(item, self.targets)


def in_memory(source: Source, *, chunk: int = 4096) -> Pair:
    """The whole data as arrays `[size, ...]`: those of the source, or read once, `chunk` examples at a time."""
    if source.arrays is not None:
        return source.arrays
    starts = range(0, source.size, chunk)
    chunks = (source.gather(np.arange(start, min(start + chunk, source.size))) for start in starts)
    first = next(chunks)
    whole = jax.tree.map(lambda leaf: np.empty((source.size, *leaf.shape[1:]), leaf.dtype), first)
    for start, part in zip(starts, itertools.chain([first], chunks), strict=True):
        jax.tree.map(partial(_fill, start=start), whole, part)
    return whole


def _fill(whole: np.ndarray, part: Any, *, start: int) -> None:
    whole[start : start + len(part)] = part


def named_leaves_of(pair: Pair) -> dict[str, Any]:
    """The leaves of `(inputs, targets)` by name: "inputs", or "inputs/image" and the like for a pytree."""
    named: dict[str, Any] = {}
    for side, tree in zip(("inputs", "targets"), pair, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            named[f"{side}/{jax.tree_util.keystr(path, simple=True, separator='/')}".rstrip("/")] = leaf
    return named


def is_numeric(dtype: Any) -> bool:
    """Whether JAX can hold this dtype: bool, integers, floats (bfloat16 too) and complex; not objects, strings or
    dates.
    """
    return jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)


def _from_arrays(data: tuple[Any, ...]) -> Source:
    if len(data) != 2:
        raise TypeError(f"the data are a tuple of {len(data)}; wanted (inputs, targets). Put several inputs in a dict.")
    _check_leaves(data)
    arrays: Pair = jax.tree.map(_as_array, data)
    named = named_leaves_of(arrays)
    wrong = [f"{name} is {leaf.dtype}" for name, leaf in named.items() if not is_numeric(leaf.dtype)]
    if wrong:
        raise TypeError(f"arrays must hold numbers: {', '.join(wrong)}. Encode them as numbers first.")
    size = _common_size(named)
    return Source(size, lambda indices: jax.tree.map(lambda leaf: leaf[indices], arrays), arrays)


def _check_leaves(pair: Pair) -> None:
    """Refuse leaves that are not arrays: a list of numbers is a pytree to JAX, and each number a leaf."""
    if not jax.tree.leaves(pair[0]):
        raise ValueError(f"there are no inputs: got {_kind(pair[0])} without a single array")
    wrong = [
        f"{name} is {_kind(leaf)}" for name, leaf in named_leaves_of(pair).items() if not hasattr(leaf, "__array__")
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise TypeError(
            f"every leaf of (inputs, targets) must be an array: {', '.join(wrong[:3])}{more}. "
            "Turn lists into arrays with np.asarray; for a sequence of single examples pass a list of (inputs, "
            "targets)."
        )


def _common_size(named: Mapping[str, Any]) -> int:
    scalars = [name for name, leaf in named.items() if leaf.ndim == 0]
    if scalars:
        raise ValueError(f"every array needs a leading axis of examples: {', '.join(scalars)} has no axis at all")
    sizes = {name: leaf.shape[0] for name, leaf in named.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"all arrays must have the same number of examples along the first axis: {listed}")
    size = next(iter(sizes.values()))
    if size == 0:
        raise ValueError("there are no examples: the first axis of every array has size 0")
    return size


def _from_items(data: Any) -> Source:
    try:
        size = len(data)
    except TypeError as error:
        raise TypeError(f"the data are {_kind(data)} without a length; wanted len and [], or arrays") from error
    if size == 0:
        raise ValueError(f"there are no examples: {_kind(data)} has length 0")

    def gather(indices: Int[np.ndarray, "k"]) -> Pair:
        where = [int(index) for index in indices]
        items = [_checked_item(item, index) for item, index in zip(_read(data, where), where, strict=True)]
        return _stack(items, where)

    gather(np.zeros(1, np.int64))
    return Source(size, gather)


def _read(data: Any, indices: Sequence[int]) -> Sequence[Any]:
    """Several items, in bulk where the data can."""
    if hasattr(data, "__getitems__"):
        return data.__getitems__(list(indices))
    return [data[index] for index in indices]


def _checked_item(item: Any, index: int) -> Pair:
    if isinstance(item, Mapping):
        keys = ", ".join(map(repr, item))
        raise TypeError(
            f"item {index} is a mapping with keys {keys}; wanted (inputs, targets). "
            "Adapt the data set with examples(dataset, inputs=..., targets=...)."
        )
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(
            f"item {index} is {_kind(item)}; wanted (inputs, targets) of one example. "
            "For whole arrays pass a tuple (inputs, targets), not a list."
        )
    pair: Pair = jax.tree.map(_as_array, tuple(item))
    wrong = [f"{name} is {leaf.dtype}" for name, leaf in named_leaves_of(pair).items() if not is_numeric(leaf.dtype)]
    if wrong:
        raise TypeError(f"item {index} must hold numbers: {', '.join(wrong)}. Decode or encode them first.")
    return pair


def _stack(items: Sequence[Pair], indices: Sequence[int]) -> Pair:
    """Stack examples along a new leading axis; they must agree in structure, shapes and dtypes."""
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in named_leaves_of(items[0]).items()}
    for item, index in zip(items, indices, strict=True):
        found = {name: (leaf.shape, leaf.dtype) for name, leaf in named_leaves_of(item).items()}
        if found != expected:
            wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            told = "; ".join(f"{name}: {_described(expected, name)} and {_described(found, name)}" for name in wrong)
            raise ValueError(
                f"examples {indices[0]} and {index} differ and cannot be stacked: {told}. "
                "Crop, pad or convert them so that all examples are alike."
            )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *items)


def _described(leaves: Mapping[str, tuple[tuple[int, ...], Any]], name: str) -> str:
    return f"{leaves[name][1]}{list(leaves[name][0])}" if name in leaves else "nothing"


def _pick(item: Mapping[str, Any], keys: str | Sequence[str]) -> Any:
    wanted = [keys] if isinstance(keys, str) else list(keys)
    missing = [key for key in wanted if key not in item]
    if missing:
        raise KeyError(f"an item has no {', '.join(map(repr, missing))}; its keys are {', '.join(map(repr, item))}")
    return item[keys] if isinstance(keys, str) else {key: item[key] for key in wanted}


def _as_array(leaf: Any) -> Any:
    """A numpy array of anything that is no JAX array (which stays on its device)."""
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _kind(value: Any) -> str:
    """The type of a value in words, with its length or shape."""
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if value is None:
        return "None"
    if hasattr(value, "shape"):
        return f"one {name} of shape {tuple(value.shape)}"
    return f"a {name} of {len(value)}" if isinstance(value, tuple | list | dict | str) else f"a {name}"
