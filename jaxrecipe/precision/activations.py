"""Values and gradients at the inside of any function, without changing the model: where matrix products end.

The function is traced; its equations are then evaluated one by one, with a perturbation of zero added to the output of
every matrix product and convolution. The gradient with respect to that perturbation is the gradient of the activation.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.extend import core
from jaxtyping import Array

from jaxrecipe import trees

PyTree = Any
Watch = Callable[[str, Array], Array]
"""Given the name and value of an activation, the value to go on with."""

_PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
# Programs inside the program that mean no more than their equations, and the parameter that holds them.
_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
# What a parameter may go through and still be the one that its layer is named after.
_PASSING = frozenset({"convert_element_type", "reshape", "transpose", "squeeze", "broadcast_in_dim", "copy"})


def watched(function: Callable[..., Any], params: PyTree, *args: Any) -> Callable[[Watch], Any]:
    """`function(params, *args)` as a function of what to do with each activation.

    An activation is named after the parameter that the product takes ("Dense_0/kernel"), or else after the scope that
    the model gave it and the operation. What runs inside loops (`scan`, `while`), branches and functions with their own
    derivative is not seen.
    """
    # ClosedJaxpr from the very trace whose shapes matter: parameters that are traced themselves give a traced program.
    closed, shape = jax.make_jaxpr(function, return_shape=True)(params, *args)
    flat = jax.tree.leaves((params, *args))
    origins = dict(zip(closed.jaxpr.invars, trees.paths(params), strict=False))

    def run(watch: Watch) -> Any:
        seen: Counter[str] = Counter()

        def named(name: str, value: Array) -> Array:
            seen[name] += 1
            return watch(name if seen[name] == 1 else f"{name}#{seen[name]}", value)

        outputs = _evaluate(closed.jaxpr, closed.consts, flat, origins, named)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return run


def _evaluate(
    jaxpr: core.Jaxpr, consts: Iterable[Any], args: Iterable[Any], origins: dict[Any, str], watch: Watch
) -> list[Any]:
    """The outputs of a program; `origins` says which of its variables are parameters."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    origins = dict(origins)

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else env[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        # A literal is no variable and may not be hashable.
        from_params = [None if isinstance(atom, core.Literal) else origins.get(atom) for atom in equation.invars]
        outputs = _outputs(equation, values, from_params, watch)
        if equation.primitive.name in _PRODUCTS:
            outputs = [watch(_name(equation, from_params), outputs[0])]
        if equation.primitive.name in _PASSING and from_params[0] is not None:
            origins[equation.outvars[0]] = from_params[0]
        env.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _outputs(equation: Any, values: list[Any], from_params: list[str | None], watch: Watch) -> list[Any]:
    """What one equation gives; the programs inside it are evaluated in the same way."""
    inner = equation.params.get(_INLINED.get(equation.primitive.name, ""))
    if inner is not None:
        program, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        pairs = zip(program.invars, from_params, strict=True)
        return _evaluate(
            program, consts, values, {variable: path for variable, path in pairs if path is not None}, watch
        )
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    context = getattr(equation.ctx, "manager", contextlib.nullcontext())
    with context:
        outputs = equation.primitive.bind(*functions, *values, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def _name(equation: Any, from_params: list[str | None]) -> str:
    owner = next((path for path in from_params if path is not None), None)
    if owner is not None:
        return owner
    scope = str(equation.source_info.name_stack)
    short = {"dot_general": "product", "conv_general_dilated": "convolution"}[equation.primitive.name]
    return f"{scope}/{short}" if scope else short


def activation_shapes(run: Callable[[Watch], Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of each floating activation by name, without computing any."""
    found: dict[str, jax.ShapeDtypeStruct] = {}

    def note(name: str, value: Array) -> Array:
        if trees.is_floating(value):
            found[name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return value

    jax.eval_shape(lambda: run(note))
    return found
