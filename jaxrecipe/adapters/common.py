"""What the adapters share: arguments of a call, train and eval flags, nested dicts."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

PyTree = Any
Path = tuple[str, ...]
TrainArgument = str | Literal[False] | None

ON_IN_TRAINING = ("train", "training", "is_training", "is_train")
ON_IN_EVALUATION = ("deterministic", "use_running_average", "inference", "is_eval")


def flags(names: Iterable[str], train: bool, chosen: TrainArgument) -> dict[str, bool]:
    """The value of each name that switches between training and evaluation; of the chosen one alone, if one is
    chosen.
    """
    if chosen is False:
        return {}
    if chosen is not None:
        plain = chosen.removeprefix("not ")
        return {plain: train is (plain == chosen)} if plain in names else {}
    return {name: train is (name in ON_IN_TRAINING) for name in names if name in ON_IN_TRAINING + ON_IN_EVALUATION}


def check_train_argument(chosen: TrainArgument, names: set[str], where: str) -> None:
    """Raise ValueError when the chosen name is none of those that the module has."""
    if isinstance(chosen, str) and chosen.removeprefix("not ") not in names:
        raise ValueError(f"train_argument is {chosen!r}; {where} has {', '.join(sorted(names)) or 'no arguments'}")


def argument_names(call: Callable[..., Any]) -> set[str]:
    """Names under which a method takes arguments, after `self`."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(call).parameters.values())[1:]
    return {parameter.name for parameter in parameters if parameter.kind not in variadic}


def call_arguments(inputs: PyTree, spread: bool) -> tuple[Sequence[PyTree], dict[str, PyTree]]:
    """Positional and keyword arguments that carry the inputs."""
    if not spread:
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    require(isinstance(inputs, tuple | list), "spread=True", inputs, "inputs that are a tuple, a list or a dict")
    return inputs, {}


def call_with(factory: Callable[..., Any], name: str, value: Any) -> Any:
    """Call a factory with one argument, by name where it has that name."""
    return factory(**{name: value}) if name in inspect.signature(factory).parameters else factory(value)


def key_or_fixed(train: bool, key: PRNGKeyArray | None) -> PRNGKeyArray | None:
    """The key; in evaluation without one, always the same key."""
    return jax.random.key(0) if key is None and not train else key


UNBOUND_AXIS = re.compile(r"unbound axis name:?\s*[\"']?([\w-]+)")
"""How JAX says that a module takes a mean over an axis that nobody has named."""


def with_named_axes(call: Callable[[], PyTree]) -> PyTree:
    """What a call gives, where an axis over which it takes means across devices (`BatchNorm(axis_name=...)`) has length
    one unless the caller has named it (`pmap`, `vmap`).
    """
    try:
        return call()
    except NameError as error:
        found = UNBOUND_AXIS.search(str(error))
        if found is None:
            raise
        once = jax.vmap(lambda: with_named_axes(call), axis_name=found[1], axis_size=1)
        return jax.tree.map(lambda leaf: leaf[0], once())


def name_of(module: Any) -> str:
    """The class of a module, or the name of what makes one."""
    return getattr(module, "__name__", type(module).__name__).replace("<lambda>", "model")


def nest(leaves: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """A nested dict of the values at their paths."""
    nested: dict[str, Any] = {}
    for path, value in leaves:
        inner = nested
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
    return nested


def at(nested: PyTree, path: Path) -> Any:
    """What stands at a path of a nested dict."""
    return functools.reduce(lambda inner, part: inner[part], path, nested)


def copied(tree: PyTree) -> PyTree:
    """The same values in buffers of their own, which may be donated."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def require(right: bool, where: str, got: Any, wanted: str) -> None:
    """Raise TypeError, saying what was got and what was wanted, unless it is right."""
    if not right:
        told = f"the class {got.__name__}" if isinstance(got, type) else f"a {type(got).__name__}"
        raise TypeError(f"{where} got {told}; wanted {wanted}")
