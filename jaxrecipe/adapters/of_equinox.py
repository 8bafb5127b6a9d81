"""Equinox modules."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxrecipe.adapters.common import (
    Path,
    PyTree,
    argument_names,
    at,
    call_arguments,
    call_with,
    copied,
    key_or_fixed,
    name_of,
    nest,
    require,
)
from jaxrecipe.parts import Model


def equinox(module: Any, *, axis_name: str = "batch", spread: bool = False, name: str | None = None) -> Model:
    """An Equinox module, which takes one example, as a `Model` over a batch. Needs the extra `jaxrecipe[equinox]`.

    Floating arrays are trained. The state holds `"state"` (`eqx.nn.State`, shared over the batch: BatchNorm) and
    `"buffers"` (other arrays). A call that takes `key` gets one for each example. `eqx.nn.inference_mode` switches to
    evaluation.

    Args:
        module: an `eqx.Module`; or a pair `(module, state)` from `eqx.nn.make_with_state`; or a function `key -> `
            either. An instance's own values are the initial ones whatever the key.
        axis_name: the name of the batch axis, which `eqx.nn.BatchNorm` was made with.
        spread: as in `linen`.
        name: what reports call the model; the class by default.

    Raises:
        TypeError: `module` is none of these; on first use, the function makes none of these.
        ModuleNotFoundError: Equinox is not installed.
    """
    try:
        import equinox as eqx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "equinox is not installed: pip install 'jaxrecipe[equinox]'", name=error.name
        ) from error

    wanted = "an instance of equinox.Module, a pair (module, state), or a function key -> either"
    made = isinstance(module[0] if isinstance(module, tuple) and module else module, eqx.Module)
    require(made or callable(module), "equinox", module, wanted)

    def parts(key: PRNGKeyArray) -> tuple[Any, Any]:
        given: Any = module if made else call_with(module, "key", key)  # pyright: ignore[reportArgumentType]
        net, memory = given if isinstance(given, tuple) else (given, eqx.nn.State(given))
        require(isinstance(net, eqx.Module), "equinox", net, f"{wanted}; the function made this")
        return eqx.nn.delete_init_state(net), memory

    @functools.cache
    def template() -> tuple[Any, Any]:
        return eqx.filter_eval_shape(parts, jax.random.key(0))

    def init(key: PRNGKeyArray, inputs: PyTree) -> tuple[PyTree, PyTree]:
        del inputs  # an Equinox module knows its shapes
        net, memory = parts(key)
        arrays = [(path, leaf) for path, leaf in _leaves(net) if _is_array(leaf)]
        params = nest((path, leaf) for path, leaf in arrays if _is_floating(leaf))
        buffers = nest((path, leaf) for path, leaf in arrays if not _is_floating(leaf))
        state = {"buffers": buffers, "memory": dict(_numbered(memory))}
        return copied((params, {kind: held for kind, held in state.items() if held}))

    def apply(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: bool, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        net_like, memory_like = template()
        buffers, memory = state.get("buffers", {}), state.get("memory", {})
        leaves = [
            at(params if _is_floating(leaf) else buffers, path) if _is_array(leaf) else leaf
            for path, leaf in _leaves(net_like)
        ]
        net = eqx.nn.inference_mode(jax.tree.unflatten(jax.tree.structure(net_like), leaves), value=not train)
        filled = jax.tree.unflatten(
            jax.tree.structure(memory_like), [memory[name] for name, _ in _numbered(memory_like)]
        )
        outputs, new = _over_batch(net, filled if memory else None, inputs, key_or_fixed(train, key), axis_name, spread)
        return outputs, {**state, "memory": dict(_numbered(new))} if memory else state

    return Model(init, apply, name or name_of(module[0] if isinstance(module, tuple) else module))


def _over_batch(
    net: Any, memory: Any, inputs: PyTree, key: PRNGKeyArray | None, axis_name: str, spread: bool
) -> tuple[PyTree, Any]:
    """`(outputs, memory)` of a module that takes one example, over a batch; a memory of None is not passed."""
    names = argument_names(type(net).__call__)
    size = jax.tree.leaves(inputs)[0].shape[0]
    keys = jax.random.split(key, size) if key is not None and "key" in names else None

    def one(example: PyTree, key: PRNGKeyArray | None) -> tuple[PyTree, Any]:
        positional, named = call_arguments(example, spread)
        named |= {} if key is None else {"key": key}
        return (net(*positional, **named), None) if memory is None else net(*positional, memory, **named)

    return jax.vmap(one, in_axes=(0, 0), out_axes=(0, None), axis_name=axis_name)(inputs, keys)


def _leaves(tree: PyTree) -> list[tuple[Path, Any]]:
    """Leaves with their paths, in the order of `jax.tree.leaves`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(tuple(jax.tree_util.keystr((key,), simple=True) for key in path), leaf) for path, leaf in leaves]


def _numbered(tree: PyTree) -> list[tuple[str, Any]]:
    return [(str(index), leaf) for index, leaf in enumerate(jax.tree.leaves(tree))]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _is_floating(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
