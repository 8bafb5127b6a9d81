"""What is kept of the calls of a function: copies on the host, made before a call may donate what it is given."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe.adapters.step.state import arrays_of, is_graph

Place = tuple[Any, ...]
"""A path into what a function returned."""


@dataclass(frozen=True)
class Slot:
    """An argument of a call.

    Attributes:
        name: of the parameter.
        place: its position, or the keyword that it is given by.
    """

    name: str
    place: int | str


@dataclass(frozen=True)
class Kept:
    """An array of JAX on the host.

    Attributes:
        values: its numbers; of a typed key its data.
        impl: of a typed key, else None.
        weak: whether its dtype is weak, as that of a Python number.
        shape: of the array; of a typed key that of the keys.
        dtype: of the array; of a typed key that of the keys.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    dtype: Any
    impl: Any = None
    weak: bool = False


@dataclass(frozen=True)
class KeptGraph:
    """Flax NNX objects that were given in one call, which may share variables.

    Attributes:
        slots: the arguments that they were, by index.
        graph: their structure.
        state: their arrays, kept.
    """

    slots: tuple[int, ...]
    graph: Any
    state: Any


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        given: copies of the arguments by index, without Flax NNX objects; of later calls without the state too.
        carried: for each argument that is what the call before returned, where in its result it stood.
        numbers: the scalars that it returned, by path.
    """

    given: Mapping[int, Any]
    carried: Mapping[int, Place]
    numbers: Mapping[tuple[str, ...], Any]


@dataclass(frozen=True)
class Recording:
    """What was seen of a function.

    Attributes:
        step: the function itself, as its author compiled it.
        name: what it is called.
        where: where it is written, as "train.py, line 12".
        kind: what compiled it, as "jax.jit".
        slots: its arguments.
        graph: the Flax NNX objects of the first call; None where there are none.
        calls: those that were recorded, in order, each of which went on with the state of the one before.
        seen: how often it was called altogether.
        alike: arguments of the first call that have the form of a part of what it returned.
        moved: how many numbers of the state the first call changed.
        differentiates: whether it takes a gradient.
        objects: whether it was given Flax NNX objects.
        returned: how many arrays the first call returned, scalars not counted.
    """

    step: Callable[..., Any]
    name: str
    where: str
    kind: str
    slots: tuple[Slot, ...]
    graph: KeptGraph | None
    calls: tuple[Call, ...]
    seen: int
    alike: frozenset[int] = frozenset()
    moved: int = 0
    differentiates: bool = False
    objects: bool = False
    returned: int = 0


def slots_of(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The arguments of a call under the names of the parameters."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    rest = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), "argument")
    names = [*named[: len(args)], *(f"{rest}_{index}" for index in range(len(named), len(args)))]
    positional = [Slot(name, index) for index, name in enumerate(names)]
    return (*positional, *(Slot(name, name) for name in kwargs))


def kept(tree: Any) -> Any:
    """A tree with copies of its arrays on the host; what is no array stays as it is."""
    return jax.tree.map(_kept, tree)


def _kept(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = np.array(jax.random.key_data(leaf))
            return Kept(data, leaf.shape, leaf.dtype, impl=jax.random.key_impl(leaf))
        return Kept(np.array(leaf), leaf.shape, leaf.dtype, weak=bool(leaf.weak_type))
    if isinstance(leaf, np.ndarray):
        return leaf.copy()
    if hasattr(leaf, "__array__") and not isinstance(leaf, np.generic | Kept):
        return np.array(leaf)  # tensors of other libraries, that JAX takes as arrays
    return leaf


def kept_graph(values: Sequence[Any]) -> KeptGraph | None:
    """Copies of the Flax NNX objects among arguments."""
    slots = tuple(index for index, value in enumerate(values) if is_graph(value))
    if not slots:
        return None
    from flax import nnx

    graph, state = nnx.split(tuple(values[index] for index in slots))
    return KeptGraph(slots, graph, kept(state))


def given_back(tree: Any) -> Any:
    """A tree with arrays of JAX again where there were some, in buffers of their own."""
    return jax.tree.map(lambda leaf: _as_array(leaf) if isinstance(leaf, Kept) else leaf, tree)


def _as_array(leaf: Kept) -> jax.Array:
    if leaf.impl is not None:
        return jax.random.wrap_key_data(jnp.array(leaf.values), impl=leaf.impl)
    return jnp.asarray(leaf.values.item()) if leaf.weak and not leaf.values.ndim else jnp.array(leaf.values)


def graph_given_back(graph: KeptGraph) -> dict[int, Any]:
    """The Flax NNX objects made anew, by index of the argument."""
    from flax import nnx

    return dict(zip(graph.slots, nnx.merge(graph.graph, given_back(graph.state)), strict=True))


def on_host(tree: Any) -> Any:
    """A kept tree as plain numpy arrays."""
    return jax.tree.map(lambda leaf: leaf.values if isinstance(leaf, Kept) else leaf, tree)


def host_arrays(tree: Any) -> list[np.ndarray]:
    """The arrays and numbers of a kept tree."""
    leaves = (leaf.values if isinstance(leaf, Kept) else leaf for leaf in jax.tree.leaves(tree))
    return [np.asarray(leaf) for leaf in leaves if isinstance(leaf, np.ndarray | np.generic | bool | int | float)]


def equal(one: Any, other: Any) -> bool:
    """Whether two kept trees have the same numbers, bit for bit."""
    if one is other:
        return True
    ones, others = host_arrays(one), host_arrays(other)
    if len(ones) != len(others):
        return False
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(ones, others, strict=True))


def size_of(tree: Any) -> int:
    """Bytes of a kept tree."""
    return sum(leaf.nbytes for leaf in host_arrays(tree))


def numbers_in(result: Any) -> dict[tuple[str, ...], Any]:
    """The scalars of what a function returned, on the host, by path."""
    return {path: _number(leaf) for path, leaf in arrays_of(result).items() if _is_scalar(leaf)}


def _is_scalar(leaf: Any) -> bool:
    typed = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return not typed and np.size(leaf) == 1


def _number(leaf: Any) -> Any:
    return np.asarray(leaf).reshape(()) if hasattr(leaf, "dtype") else leaf
