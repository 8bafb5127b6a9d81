"""Flax Linen modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
from jaxtyping import PRNGKeyArray

from jaxrecipe.adapters.common import (
    PyTree,
    TrainArgument,
    argument_names,
    call_arguments,
    check_train_argument,
    copied,
    flags,
    key_or_fixed,
    require,
    with_named_axes,
)
from jaxrecipe.parts import Model

if TYPE_CHECKING:
    import flax.linen


def linen(
    module: "flax.linen.Module",
    *,
    train_argument: TrainArgument = None,
    rngs: Sequence[str] = ("dropout",),
    spread: bool = False,
    variables: Mapping[str, Any] | None = None,
    ignore: Sequence[str] = ("intermediates", "perturbations"),
    name: str | None = None,
) -> Model:
    """A Flax Linen module as a `Model`. Collections other than `params` (`batch_stats`, ...) are its state.

    Args:
        module: any `flax.linen.Module`, unbound.
        train_argument: what switches between training and evaluation, an argument of `__call__` or a field of the
            module: `"train"`, or `"not deterministic"` for one that is on in evaluation. By default every known one is
                found
            (train, training, is_training, is_train, deterministic, use_running_average, inference, is_eval); False
            passes none.
        rngs: names of the random streams besides `params`; a stream of another name falls back on `params`.
        spread: pass a tuple of inputs as positional and a dict as keyword arguments, instead of as one argument.
        variables: start from these (pretrained) instead of fresh ones; with `"params"` and any other collections.
        ignore: collections that are neither trained nor carried from step to step.
        name: what reports call the model; the class by default.

    Raises:
        TypeError: `module` is not a module (a class, for instance).
        ValueError: `train_argument` names nothing that the module has.
    """
    import flax.linen as nn
    from flax.core import unfreeze

    require(isinstance(module, nn.Module), "linen", module, "an instance of flax.linen.Module")
    fields = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}  # pyright: ignore[reportArgumentType]
    arguments = argument_names(type(module).__call__)
    check_train_argument(train_argument, arguments | fields, type(module).__name__)

    def called(inputs: PyTree, train: bool) -> tuple[Any, Sequence[PyTree], dict[str, Any]]:
        """The module set for training or evaluation, and the arguments of its call."""
        positional, named = call_arguments(inputs, spread)
        named |= flags(arguments - fields, train, train_argument)
        changed: dict[str, Any] = {**flags(fields, train, train_argument)}
        return module.clone(**changed), positional, named

    def streams(key: PRNGKeyArray) -> dict[str, PRNGKeyArray]:
        # The parameters' key is the given one, so that they are those of `module.init(key, inputs)`.
        return {"params": key} | {stream: jax.random.fold_in(key, i + 1) for i, stream in enumerate(rngs)}

    def init(key: PRNGKeyArray, inputs: PyTree) -> tuple[PyTree, PyTree]:
        net, positional, named = called(inputs, train=False)
        made: Any = net.init(streams(key), *positional, **named) if variables is None else variables
        plain = copied(nn.meta.unbox(unfreeze(made)))
        return plain.pop("params", {}), {kind: values for kind, values in plain.items() if kind not in ignore}

    def apply(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: bool, key: PRNGKeyArray | None
    ) -> tuple[PyTree, PyTree]:
        key = key_or_fixed(train, key)
        net, positional, named = called(inputs, train)
        # Mutable in evaluation too: a module that moves its statistics there must show, not raise.
        options = {"mutable": list(state), "rngs": {} if key is None else streams(key)}
        given = {**state, "params": params}
        outputs, new = with_named_axes(lambda: net.apply(given, *positional, **named, **options))
        return outputs, {**state, **nn.meta.unbox(unfreeze(new))}

    return Model(init, apply, name or type(module).__name__)
