"""How far two results may differ by rounding alone, by the formats that a model really computes in."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxrecipe import trees
from jaxrecipe.setup import Setup

ROUNDINGS = 8
"""Roundings of its largest number that a result may be off by: sums in another order are off by about the square root
of their length, in float32 whatever is summed, so that a few roundings of the coarsest format dominate."""
SAME_PROGRAM = 1e-4
"""Relative change that counts when one program is run on other values of one shape: what does not depend on them rounds
alike."""
NOTHING = 1e-6
"""Changes below this count as none: next to zero a relative change says nothing."""
COARSE = 1e-5
"""Rounding from which on it is measured what the model makes of it: coarser than float32's."""
SHAKES = 3
"""Draws of such a movement."""
PRODUCTS = ("dot_general", "conv_general_dilated")
FAST_PRODUCTS = {"gpu": 2.0**-10, "tpu": 2.0**-7}
"""Rounding of products of float32 numbers, by backend, unless the highest precision is asked for: TensorFloat32 and
bfloat16."""


def relative_rounding(dtype: Any) -> float:
    """Distance from one to the next number of a floating format."""
    return float(jnp.finfo(dtype).eps)


def model_rounding(setup: Setup) -> float:
    """Relative rounding of the coarsest format in which the model, or the objective, computes anything.

    Read off the traced program, so that a layer with a dtype of its own counts, whatever the policy says.
    """

    def forward(params: Any, state: Any, batch: Any) -> Any:
        if setup.task.objective is not None:
            return setup.costs(params, state, *batch, train=False, key=setup.key)
        return setup.forward(params, state, batch[0], train=False, key=setup.key)[0]

    def coarsest() -> float:
        return program_rounding(jax.make_jaxpr(forward)(*setup.variables, setup.batch).jaxpr)

    return setup.memo((model_rounding,), coarsest)


def program_rounding(jaxpr: Any, backend: str | None = None) -> float:
    """Relative rounding of the coarsest floating format that any operation of a traced program gives; float32's if
    there is none.
    """
    found = _roundings(jaxpr, jax.default_backend() if backend is None else backend)
    return max(found, default=relative_rounding(jnp.float32))


def measured_rounding(
    setup: Setup, losses: Callable[[Any, Any], Float[np.ndarray, "examples"]], variables: tuple[Any, Any]
) -> float:
    """How far the mean loss of a few examples moves when parameters move by a rounding of the coarsest format.

    Each number goes up or down by chance, as rounding on the way does; so the formats of the model and what it makes of
    their errors decide, and nothing that is fixed beforehand. Zero in float32, where it is far below anything that is
    compared.

    Args:
        setup: the set-up.
        losses: `losses(params, model_state)`, one number an example.
        variables: parameters and model state.
    """
    rounding = model_rounding(setup)
    if rounding < COARSE:
        return 0.0
    params, state = variables
    rng, exact = np.random.default_rng(0), losses(params, state)

    def shaken(leaf: Any) -> Any:
        if not trees.is_floating(leaf):
            return leaf
        wide = np.asarray(leaf, np.float64)
        return jnp.asarray(wide * (1 + rounding * rng.choice((-1.0, 1.0), size=wide.shape)), leaf.dtype)

    moved = [losses(jax.tree.map(shaken, params), state) - exact for _ in range(SHAKES)]
    return float(np.sqrt(np.mean([np.nan_to_num(one.mean()) ** 2 for one in moved])))


def noise_floor(values: np.ndarray, rounding: float) -> float:
    """How far numbers of this size may be off by rounding alone."""
    finite = np.abs(np.asarray(values, np.float64))
    return ROUNDINGS * rounding * float(finite[np.isfinite(finite)].max(initial=0.0))


def changed(before: np.ndarray, after: np.ndarray, rounding: float) -> Bool[np.ndarray, "..."]:
    """Where the same program gave something else than before, beyond rounding; NaN is no change of NaN."""
    tolerance = max(SAME_PROGRAM, rounding)
    return ~np.isclose(np.asarray(after), np.asarray(before), rtol=tolerance, atol=NOTHING, equal_nan=True)


def _roundings(jaxpr: Any, backend: str) -> Iterator[float]:
    """The rounding of every floating result of a program and of the programs that it calls."""
    for eqn in jaxpr.eqns:
        for given in (leaf.aval for leaf in eqn.outvars if trees.is_floating(leaf.aval)):
            yield relative_rounding(given.dtype)
            if eqn.primitive.name in PRODUCTS and given.dtype == jnp.float32 and not _highest(eqn.params):
                yield FAST_PRODUCTS.get(backend, 0.0)
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda node: hasattr(node, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _roundings(inner, backend)


def _highest(params: dict[str, Any]) -> bool:
    """Whether a product asks for full float32."""
    asked = params.get("precision")
    given = asked if isinstance(asked, tuple) else (asked,)
    return all(one in (jax.lax.Precision.HIGHEST, jax.lax.DotAlgorithmPreset.F32_F32_F32) for one in given)
