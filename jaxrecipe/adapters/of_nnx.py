"""Flax NNX modules."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxrecipe.adapters.common import (
    Path,
    PyTree,
    TrainArgument,
    argument_names,
    at,
    call_arguments,
    call_with,
    check_train_argument,
    copied,
    flags,
    key_or_fixed,
    name_of,
    nest,
    require,
    with_named_axes,
)
from jaxrecipe.parts import Model


def nnx(module: Any, *, train_argument: TrainArgument = None, spread: bool = False, name: str | None = None) -> Model:
    """A Flax NNX module as a `Model`. `nnx.Param` is trained; every other variable (`BatchStat`, ...) is state.

    Random streams are not part of the state: each call seeds them from its key. Modules are switched by their
    attributes `deterministic` and `use_running_average` (as `module.train()` and `module.eval()` do), by other such
    attributes that hold a bool, and by an argument of `__call__`. A call that takes `rngs` gets them. Sown
    intermediates are dropped.

    Args:
        module: an `nnx.Module`, whose own values are then the initial ones whatever the key; or a function that makes
            one, `lambda rngs: Net(rngs=rngs)` (or the class), which is called with `nnx.Rngs(key)`.
        train_argument: as in `linen`, but an argument of `__call__`.
        spread: as in `linen`.
        name: what reports call the model; the class by default.

    Raises:
        TypeError: `module` is neither; on first use, the function does not make a module.
        ValueError: `train_argument` names nothing that the module has; a random stream is needed and there is no key.
    """
    from flax import nnx as flax_nnx

    wanted = "an instance of flax.nnx.Module, or a function rngs -> module"
    made = isinstance(module, flax_nnx.Module)
    require(made or callable(module), "nnx", module, wanted)

    def parts(key: PRNGKeyArray) -> tuple[Any, Any, Any, Any]:
        net = flax_nnx.clone(module) if made else call_with(module, "rngs", flax_nnx.Rngs(key))
        require(isinstance(net, flax_nnx.Module), "nnx", net, f"{wanted}; the function made this")
        check_train_argument(train_argument, argument_names(type(net).__call__), type(net).__name__)
        flax_nnx.pop(net, flax_nnx.Intermediate)
        graph, params, streams, state = flax_nnx.split(net, flax_nnx.Param, flax_nnx.RngState, ...)
        return graph, params, streams, state

    @functools.cache
    def template() -> tuple[Any, Any, Any, Any]:
        graphs: list[Any] = []  # static, so it leaves the trace by the side door

        def states(key: PRNGKeyArray) -> tuple[Any, ...]:
            graph, *states = parts(key)
            graphs.append(graph)
            return tuple(states)

        params, streams, state = jax.eval_shape(states, jax.random.key(0))
        return graphs[0], params, streams, state

    def init(key: PRNGKeyArray, inputs: PyTree) -> tuple[PyTree, PyTree]:
        del inputs  # an NNX module knows its shapes
        _, params, _, state = parts(key)
        return copied((variable_values(params), variable_values(state)))

    def apply(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: bool, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        return with_named_axes(lambda: called(params, state, inputs, train, key))

    def called(
        params: PyTree, state: PyTree, inputs: PyTree, train: bool, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        key = key_or_fixed(train, key)
        graph, params_like, streams_like, state_like = template()
        filled = (filled_state(params_like, params), _seeded(streams_like, key), filled_state(state_like, state))
        net = flax_nnx.merge(graph, *filled, copy=True)
        for _, part in flax_nnx.iter_modules(net):
            switches = [name for name, held in vars(part).items() if held is None or isinstance(held, bool)]
            for switch, value in flags(switches, train, None).items():
                setattr(part, switch, value)
        names = argument_names(type(net).__call__)
        positional, named = call_arguments(inputs, spread)
        named |= {"rngs": flax_nnx.Rngs(key)} if "rngs" in names and key is not None else {}
        outputs = net(*positional, **named, **flags(names, train, train_argument))
        new = variable_values(flax_nnx.split(net, flax_nnx.Param, flax_nnx.RngState, ...)[3])
        return outputs, nest((path, at(new, path)) for path, _ in _flat(state_like))

    return Model(init, apply, name or name_of(module))


def _flat(state: Any) -> list[tuple[Path, Any]]:
    """Variables (or bare arrays) of an `nnx.State`, each with its path."""
    from flax import nnx as flax_nnx

    return [(tuple(map(str, path)), variable) for path, variable in flax_nnx.to_flat_state(state)]


def variable_values(state: Any) -> PyTree:
    """An `nnx.State` as a nested dict of arrays."""
    return nest((path, leaf.get_value() if hasattr(leaf, "get_value") else leaf) for path, leaf in _flat(state))


def filled_state(like: Any, values: PyTree) -> Any:
    """An `nnx.State` with the variables of `like`, metadata and all, that holds other values."""
    from flax import nnx as flax_nnx

    filled = {}
    for path, variable in flax_nnx.to_flat_state(like):
        value = at(values, tuple(map(str, path)))
        filled[path] = variable.replace(value) if hasattr(variable, "replace") else value
    return flax_nnx.from_flat_state(filled)


def _seeded(like: Any, key: PRNGKeyArray | None) -> Any:
    """The random streams of an NNX module, seeded from `key` and from their place, with counters at zero."""
    from flax import nnx as flax_nnx

    streams = _flat(like)
    if not streams:
        return filled_state(like, {})
    if key is None:
        raise ValueError(
            f"the module has random streams ({'/'.join(streams[0][0])}, ...): training needs a key, got None"
        )
    values = []
    for index, (path, variable) in enumerate(streams):
        shape = variable.get_value().shape
        if isinstance(variable, flax_nnx.RngKey):
            own = jax.random.fold_in(key, index)
            values.append((path, jax.random.split(own, shape) if shape else own))
        else:
            values.append((path, jnp.zeros(shape, jnp.uint32)))
    return filled_state(like, nest(values))
