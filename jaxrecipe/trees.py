"""Helpers over pytrees of arrays: cast, select, norms, and leaves by their path. Pure JAX, and nothing of this
library.
"""

from collections import Counter
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float32, Int32

PyTree = Any
DType = Any
"""Anything that `jnp.dtype` takes: `jnp.bfloat16`, `"bfloat16"`, `np.dtype("float32")`."""


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array of any kind: JAX (traced or not, typed keys too), numpy, or a shape and dtype."""
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape")


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is an array of real floating numbers."""
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is an array of real or complex floating numbers: what can hold NaN or infinity."""
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def cast_floating(tree: PyTree, dtype: DType) -> PyTree:
    """The same tree with its real floating arrays in `dtype`; integers, keys, complex numbers and Python scalars
    stay.
    """
    wanted = jnp.dtype(dtype)
    return jax.tree.map(lambda leaf: leaf.astype(wanted) if is_floating(leaf) and leaf.dtype != wanted else leaf, tree)


def widen(tree: PyTree) -> PyTree:
    """The same tree with floating and complex arrays of less than 32 bits a number in float32; wider ones stay."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if is_inexact(leaf) and jnp.finfo(leaf.dtype).bits < 32 else leaf, tree
    )


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether no floating leaf holds NaN or infinity; True for a tree without any. Stays on the device."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_inexact(leaf)]
    return _all_finite(leaves) if leaves else jnp.bool_(True)


@jax.jit
def _all_finite(leaves: list[Any]) -> Bool[Array, ""]:
    return jnp.all(_finite_leaves(leaves))


def first_nonfinite(tree: PyTree) -> Int32[Array, ""]:
    """Index into `paths(tree)` of the first leaf that holds NaN or infinity, -1 when none does. Stays on the device."""
    if not jax.tree.leaves(tree):
        return jnp.int32(-1)
    finite = _finite_leaves(tree)
    return jnp.where(jnp.all(finite), jnp.int32(-1), jnp.argmax(~finite).astype(jnp.int32))


def _finite_leaves(tree: PyTree) -> Bool[Array, "leaves"]:
    flags = [jnp.all(jnp.isfinite(leaf)) if is_inexact(leaf) else jnp.bool_(True) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(flags)


def select(predicate: Bool[Array | np.ndarray, ""] | bool, on_true: PyTree, on_false: PyTree) -> PyTree:
    """Leaf by leaf one tree or the other, by a scalar that may be traced. Every dtype stays as it is, typed keys
    included.

    Leaves that are no arrays or numbers (functions, strings) are taken from `on_true`.

    Raises:
        ValueError: the trees differ in structure, or leaves in shape or dtype; all of those leaves are named.
    """
    differing = _differences(on_true, on_false)
    if differing:
        raise ValueError(f"select wants two trees alike in shapes and dtypes; they differ at: {'; '.join(differing)}")
    wanted = jnp.asarray(predicate)

    def one(true: Any, false: Any) -> Any:
        if not _selectable(true):
            return true
        return jax.lax.select(wanted, jnp.asarray(true), jnp.asarray(false))

    return jax.tree.map(one, on_true, on_false)


def _selectable(leaf: Any) -> bool:
    if is_array(leaf):
        return leaf.dtype != jax.dtypes.float0
    return isinstance(leaf, bool | int | float | complex)


def _differences(on_true: PyTree, on_false: PyTree) -> list[str]:
    """What stops two trees from standing in for each other, one line a leaf."""
    structures = jax.tree.structure(on_true), jax.tree.structure(on_false)
    if structures[0] != structures[1]:
        return [f"structure, {structures[0]} against {structures[1]}"]
    pairs = zip(named_leaves(on_true).items(), jax.tree.leaves(on_false), strict=True)
    found = [(path, _described(true), _described(false)) for (path, true), false in pairs]
    return [f"{path}, {true} against {false}" for path, true, false in found if true != false]


def _described(leaf: Any) -> str:
    """Shape and dtype of a number or array, as `float32[3, 4]`; only the type's name of anything else."""
    if not _selectable(leaf):
        return type(leaf).__name__
    # Keys have a dtype that numpy does not know, so only Python numbers go through result_type.
    dtype = leaf.dtype if is_array(leaf) else jnp.result_type(leaf)
    return f"{dtype}{list(jnp.shape(leaf))}"


def global_norm(tree: PyTree) -> Float32[Array, ""]:
    """Square root of the sum of all squares of the floating leaves, added up in float32 whatever their dtype."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_inexact(leaf)]
    traced = any(isinstance(leaf, Tracer) for leaf in leaves)
    return _norm_of(leaves) if traced else _compiled_norm_of(leaves)


def _norm_of(leaves: list[Any]) -> Float32[Array, ""]:
    squares = (jnp.sum(jnp.square(jnp.abs(leaf).astype(jnp.float32))) for leaf in leaves)
    return jnp.sqrt(sum(squares, jnp.float32(0)))


_compiled_norm_of = jax.jit(_norm_of)
"""One program for a whole tree, not three for each shape."""


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by path, in the order of `jax.tree.leaves`: `{"Dense_0/kernel": ..., "blocks/0/scale": ...}`.

    The `value` inside an NNX variable is not named, so that Linen and NNX read alike. Two leaves whose short names
    would be the same (`{"a/b": ..., "a": {"b": ...}}`) get JAX's unabridged ones.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    short = [_name(path) for path, _ in leaves]
    times = Counter(short)
    names = [
        name if times[name] == 1 else jax.tree_util.keystr(path) for name, (path, _) in zip(short, leaves, strict=True)
    ]
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def _name(path: tuple[Any, ...]) -> str:
    if len(path) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value":
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf, in the order of `jax.tree.leaves`."""
    return list(named_leaves(tree))


def matches(path: str, pattern: str) -> bool:
    """Whether a path such as "encoder/LayerNorm_0/scale" fits a pattern.

    `*`, `?` and `[...]` work as in file names, except that `*` also crosses slashes; upper and lower case differ. A
    pattern without a slash may also fit any one part of the path: "LayerNorm_*" and "scale" fit the example, "Layer"
    does not.
    """
    if fnmatchcase(path, pattern):
        return True
    return "/" not in pattern and any(fnmatchcase(part, pattern) for part in path.split("/"))


def leading_size(tree: PyTree) -> int:
    """Length of the first axis, which all leaves must share.

    Raises:
        ValueError: there are no leaves, one has no axis, or they disagree; every leaf is named with its shape.
    """
    shapes = {path: jnp.shape(leaf) for path, leaf in named_leaves(tree).items()}
    if not shapes:
        raise ValueError("a batch wants at least one array; got a tree without leaves")
    sizes = {shape[0] for shape in shapes.values() if shape}
    if len(sizes) != 1 or not all(shapes.values()):
        listed = ", ".join(f"{path or 'the array'} {list(shape)}" for path, shape in shapes.items())
        raise ValueError(
            f"every array of a batch wants the same first axis, one entry an example; got shapes: {listed}"
        )
    return sizes.pop()


def take(tree: PyTree, indices: Any) -> PyTree:
    """The entries at `indices` of every leaf's first axis. Numpy leaves stay numpy, and are copied.

    Raises:
        IndexError: an index is out of range. JAX alone would silently clamp it.
        ValueError: the leaves differ in their first axis.
    """
    size = leading_size(tree)
    if not isinstance(indices, Tracer):
        indices = np.asarray(indices)
        outside = indices[(indices < -size) | (indices >= size)]
        if outside.size:
            raise IndexError(f"indices {outside[:8].tolist()} are out of range for {size} examples")
    return jax.tree.map(lambda leaf: leaf[indices], tree)


def copy(tree: PyTree) -> PyTree:
    """The same values in fresh device buffers, so that the copy may be donated. What is no array stays as it is."""
    leaves, structure = jax.tree.flatten(tree)
    # Moving arrays compiles nothing, where an operation would compile once for each shape; all at once costs one call.
    moved = iter(jax.device_put([leaf for leaf in leaves if _moves(leaf)], may_alias=False))
    return structure.unflatten([next(moved) if _moves(leaf) else _copied(leaf) for leaf in leaves])


def _moves(leaf: Any) -> bool:
    """Whether a leaf is copied by being put on its device."""
    return is_array(leaf) and not isinstance(leaf, Tracer) and not _spread(leaf)


def _spread(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and len(leaf.devices()) > 1


def _copied(leaf: Any) -> Any:
    return jnp.array(leaf, copy=True) if isinstance(leaf, Tracer) or _spread(leaf) else leaf


def same_form(left: PyTree, right: PyTree) -> bool:
    """Whether two trees have the same containers with the same entries, whatever functions those carry.

    A container may hold functions beside its arrays (the `tx` of a Flax TrainState). Made twice they are other
    functions, so that two trees differ in JAX's `PyTreeDef` although every array of one fits the other.
    """
    keys = [[path for path, _ in jax.tree_util.tree_leaves_with_path(tree)] for tree in (left, right)]
    return keys[0] == keys[1] and _same_containers(jax.tree.structure(left), jax.tree.structure(right))


def _same_containers(left: Any, right: Any) -> bool:
    ours, theirs = left.node_data(), right.node_data()
    if ours is None or theirs is None:
        return ours == theirs and left.num_leaves == right.num_leaves
    children = left.children(), right.children()
    if ours[0] is not theirs[0] or len(children[0]) != len(children[1]) or _static(ours[1]) != _static(theirs[1]):
        return False
    return all(map(_same_containers, *children))


def _static(data: Any) -> list[Any]:
    """The numbers and words of what a container holds beside its arrays."""
    return [leaf for leaf in jax.tree.leaves(data) if isinstance(leaf, bool | int | float | str)]


def nbytes(tree: PyTree) -> int:
    """Bytes that the arrays of a tree hold, shared ones counted each time; shapes and dtypes are enough."""
    return sum(_leaf_bytes(leaf) for leaf in jax.tree.leaves(tree) if is_array(leaf))


def _leaf_bytes(leaf: Any) -> int:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return _leaf_bytes(jax.eval_shape(jax.random.key_data, leaf))
    return int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize
