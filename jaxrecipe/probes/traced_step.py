"""The loop's own step as JAX traces it: what is drawn in it, what it calls on the host, what it carries along."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.setup import Setup


@dataclass(frozen=True)
class Traced:
    """A traced step, or why there is none.

    Attributes:
        jaxpr: the whole step, closed.
        why_not: what tracing raised; a step that reads numbers on the host cannot be traced.
    """

    jaxpr: Any = None
    why_not: str = ""


def traced_step(setup: Setup, key: PRNGKeyArray) -> Traced:
    """Trace the step on the first batch."""
    return setup.memo((traced_step,), lambda: _trace(setup, key))


def _trace(setup: Setup, key: PRNGKeyArray) -> Traced:
    try:
        return Traced(jax.make_jaxpr(setup.loop.step)(setup.fresh_state(), *setup.batch, key))
    except Exception as error:  # whatever the user's code does when it is traced
        line = (str(error).strip().splitlines() or ["no message"])[0]
        return Traced(why_not=f"{type(error).__name__}: {line}")


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in inner_jaxprs(equation):
            yield from equations(getattr(inner, "jaxpr", inner))


def inner_jaxprs(equation: Any) -> list[Any]:
    """The jaxprs among the parameters of an equation."""
    found = []
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns") or hasattr(getattr(one, "jaxpr", None), "eqns"):
                found.append(one)
    return found


def constants(traced: Any) -> list[np.ndarray | jax.Array]:
    """Arrays that a closed jaxpr carries along, those inside it included, each once."""
    found: dict[int, Any] = {}

    def visit(closed: Any) -> None:
        for value in getattr(closed, "consts", ()):
            found[id(value)] = value
        for equation in getattr(closed, "jaxpr", closed).eqns:
            for variable in equation.invars:
                value = getattr(variable, "val", None)
                if hasattr(value, "shape"):
                    found[id(value)] = value
            for inner in inner_jaxprs(equation):
                visit(inner)

    visit(traced)
    return [value for value in found.values() if hasattr(value, "nbytes")]


def constant_draws(traced: Any) -> list[tuple[int, ...]]:
    """Shapes of the random draws whose key follows from nothing that the step is given."""
    found: list[tuple[int, ...]] = []
    _follow(traced.jaxpr, [True] * len(traced.jaxpr.invars), found)
    return found


def _follow(jaxpr: Any, given: Sequence[bool], found: list[tuple[int, ...]]) -> list[bool]:
    """Which results depend on what is given; draws that do not are noted."""
    depends = dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> bool:
        return not hasattr(variable, "val") and depends.get(variable, False)

    for equation in jaxpr.eqns:
        inputs = [of(variable) for variable in equation.invars]
        if equation.primitive.name == "random_bits" and not any(inputs):
            found.append(tuple(equation.outvars[0].aval.shape))
        outputs = [any(inputs)] * len(equation.outvars)
        inner = [getattr(one, "jaxpr", one) for one in inner_jaxprs(equation)]
        if len(inner) == 1 and len(inner[0].invars) == len(inputs) and equation.primitive.name not in ("scan", "while"):
            outputs = _follow(inner[0], inputs, found)
        depends |= dict(zip(equation.outvars, outputs, strict=False))
    return [of(variable) for variable in jaxpr.outvars]
