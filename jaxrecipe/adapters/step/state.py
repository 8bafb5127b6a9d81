"""What a step is given and gives back, as one tree of arrays and back again.

A state may be any pytree (params, opt_state, TrainState with its closures, Equinox modules with functions in them) or
Flax NNX objects, which a step changes in place. Here it is always a dict from the names of its pieces to nested dicts
of arrays, so that paths read alike everywhere and whatever is no array cannot disturb a comparison.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe.adapters.common import Path, nest
from jaxrecipe.adapters.of_nnx import filled_state, variable_values

Held = dict[str, Any]
"""A state as arrays: name of a piece -> nested dict of its arrays, or the array itself."""
Arrays = dict[Path, Any]
"""The arrays of a piece by path."""
PARAMETER_PIECES = ("params", "parameters", "weights", "variables")
MODEL_PIECES = ("model", "net", "network", "module")


@dataclass(frozen=True)
class StateForm:
    """How the pieces of a state are taken apart and made again.

    Attributes:
        names: of the pieces, in order.
        pieces: the pieces as they were first given, which the arrays are put into.
        graph: which of them are Flax NNX objects, that change in place and may share variables.
        fixed: numbers of Python that belong to the structure, as the sizes in an Equinox module: as an array a step
            would take such a number for a parameter, or could make no shape of it.
    """

    names: tuple[str, ...]
    pieces: tuple[Any, ...]
    graph: frozenset[int]
    fixed: frozenset[Path] = frozenset()

    def held(self, pieces: Sequence[Any]) -> Held:
        """The arrays of the pieces."""
        found: Held = {}
        for index, (name, piece) in enumerate(zip(self.names, pieces, strict=True)):
            if index not in self.graph:
                arrays = arrays_of(piece)
                found[name] = _nested({path: arrays[path] for path in arrays if (name, *path) not in self.fixed})
        if self.graph:
            found |= self._graph_arrays(pieces)
        return {name: found.get(name, {}) for name in self.names}

    def _graph_arrays(self, pieces: Sequence[Any]) -> Held:
        from flax import nnx

        ordered = sorted(self.graph)
        state = nnx.split(tuple(pieces[index] for index in ordered))[1]
        nested = variable_values(state)
        return {self.names[index]: nested.get(str(place), {}) for place, index in enumerate(ordered)}

    def rebuilt(self, held: Held) -> tuple[Any, ...]:
        """New pieces that hold the arrays; nothing of those that were first given is touched."""
        made = [
            piece if index in self.graph else self._put(name, piece, held[name])
            for index, (name, piece) in enumerate(zip(self.names, self.pieces, strict=True))
        ]
        if self.graph:
            from flax import nnx

            ordered = sorted(self.graph)
            graph, like = nnx.split(tuple(self.pieces[index] for index in ordered))
            values = {str(place): held[self.names[index]] for place, index in enumerate(ordered)}
            merged = nnx.merge(graph, filled_state(like, values), copy=True)
            for index, piece in zip(ordered, merged, strict=True):
                made[index] = piece
        return tuple(made)

    def _put(self, name: str, piece: Any, held: Any) -> Any:
        """A pytree with other arrays in it."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(piece)
        paths = [(_path(path), leaf) for path, leaf in leaves]
        free = [is_number(leaf) and (name, *path) not in self.fixed for path, leaf in paths]
        values = [_at(held, path) if moves else leaf for (path, leaf), moves in zip(paths, free, strict=True)]
        return jax.tree.unflatten(structure, values)

    def with_fixed(self, after: Sequence[Any]) -> "StateForm":
        """The same form, where the numbers that a step gave back as the very numbers of Python are fixed."""
        found: set[Path] = set()
        for index, (name, before, new) in enumerate(zip(self.names, self.pieces, after, strict=True)):
            if index not in self.graph:
                own, others = arrays_of(before), arrays_of(new)
                found |= {(name, *path) for path in own if _same_number(own[path], others.get(path))}
        return replace(self, fixed=frozenset(found))


def _same_number(one: Any, other: Any) -> bool:
    return type(one) is type(other) and isinstance(one, bool | int | float | complex) and one == other


def state_form(pieces: Sequence[Any], names: Sequence[str]) -> StateForm:
    """The form of a state of these pieces."""
    graph = frozenset(index for index, piece in enumerate(pieces) if is_graph(piece))
    return StateForm(tuple(names), tuple(pieces), graph)


def is_graph(piece: Any) -> bool:
    """Whether a piece is a Flax NNX object (or holds some): such a piece is changed in place."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return False
    kinds = (nnx.Object, getattr(nnx, "Pytree", nnx.Object))  # older versions have no Pytree
    leaves = jax.tree.leaves(piece, is_leaf=lambda one: isinstance(one, kinds))
    return any(isinstance(leaf, kinds) for leaf in leaves)


def arrays_of(piece: Any) -> Arrays:
    """The arrays and numbers of a pytree by path; functions, strings and the like are left out."""
    leaves = jax.tree_util.tree_leaves_with_path(piece)
    return {_path(path): leaf for path, leaf in leaves if is_number(leaf)}


def is_number(leaf: Any) -> bool:
    """Whether a leaf is an array that JAX can hold (typed keys too) or a Python number."""
    if isinstance(leaf, jax.Array | bool | int | float | complex | np.generic):
        return True
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufcV"


def alike(one: Arrays, other: Arrays) -> bool:
    """Whether two pieces have the same paths, shapes and dtypes; numbers of Python count as scalars of any width."""
    return one.keys() == other.keys() and all(_form(one[path]) == _form(other[path]) for path in one)


def _form(leaf: Any) -> tuple[Any, ...]:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        dtype = jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
    elif not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return np.shape(leaf), dtype


def _nested(arrays: Arrays) -> Any:
    """Nested dicts of the arrays; a piece that is one array is that array."""
    return arrays[()] if set(arrays) == {()} else nest(arrays.items())


def _at(held: Any, path: Path) -> Any:
    for part in path:
        held = held[part]
    return held


def _path(path: Sequence[Any]) -> Path:
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def parameters_in(form: StateForm, held: Held) -> tuple[Path, ...]:
    """Where in a state the parameters stand: paths of subtrees or of arrays.

    Of Flax NNX objects the variables of type Param; else a piece or a part of one that is called params or the like;
    else a piece that is called model or the like; else the first piece that holds arrays, or its first part.
    """
    if form.graph and (found := _graph_parameters(form)):
        return found
    for names in (PARAMETER_PIECES, MODEL_PIECES):
        found = tuple(path for path in _subtrees(held) if path[-1].lower() in names)
        shortest = min(map(len, found), default=0)
        if found:
            return tuple(path for path in found if len(path) == shortest)[:1]
    first = next((name for name in form.names if jax.tree.leaves(held[name])), None)
    return () if first is None else (_first_of_several((first,), held[first]),)


def _first_of_several(path: Path, held: Any) -> Path:
    """Where a piece is a tuple, as (params, opt_state), the first part of it that holds arrays."""
    if not isinstance(held, Mapping) or not all(name.isdigit() for name in held):
        return path
    first = next((name for name in held if jax.tree.leaves(held[name])), None)
    return path if first is None else _first_of_several((*path, first), held[first])


def _graph_parameters(form: StateForm) -> tuple[Path, ...]:
    from flax import nnx

    ordered = sorted(form.graph)
    state = nnx.split(tuple(form.pieces[index] for index in ordered))[1]
    found = []
    for path, variable in nnx.to_flat_state(state):
        if isinstance(variable, nnx.Param):
            place, *inner = map(str, path)
            found.append((form.names[ordered[int(place)]], *inner))
    return tuple(found)


def _subtrees(held: Any, above: Path = ()) -> list[Path]:
    """Paths of all inner nodes and arrays, outer ones first."""
    if not isinstance(held, Mapping):
        return []
    here = [(*above, name) for name in held]
    return here + [path for name in held for path in _subtrees(held[name], (*above, name))]


def taken(held: Held, paths: Sequence[Path]) -> dict[str, Any]:
    """What stands at the paths: the subtree itself where there is one path, else nested dicts of all of them."""
    if len(paths) == 1:
        found = _at(held, paths[0])
        return found if isinstance(found, dict) else {paths[0][-1]: found}
    return nest((path, _at(held, path)) for path in paths)


def replaced(held: Held, paths: Sequence[Path], values: Mapping[str, Any]) -> Held:
    """The same state with what `taken` gives exchanged."""
    if len(paths) == 1:
        old = _at(held, paths[0])
        return _with(held, paths[0], values if isinstance(old, dict) else values[paths[0][-1]])
    for path in paths:
        held = _with(held, path, _at(values, path))
    return held


def _with(held: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    return {**held, path[0]: _with(held[path[0]], path[1:], value)}
