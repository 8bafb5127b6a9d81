"""Computing something once, to memory, where the compiler would rather compute it again in each of its readers."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

Result = TypeVar("Result")


def stored(compute: Callable[..., Result], *args: jax.Array) -> Result:
    """`compute(*args)`, whose result is stored before anything reads it.

    XLA fuses an elementwise expression into all of its readers and computes it in each of them, which is right for
    cheap expressions and wrong for long ones. A barrier stops it on an accelerator; on a CPU barriers are taken out
    before the compiler fuses, so there the computation becomes a function of the program that may not be inlined (and
    whose arguments are stored, too).
    """
    if jax.default_backend() != "cpu":
        return lax.optimization_barrier(compute(*args))
    with set_xla_metadata(inlineable="false"):
        return jax.jit(compute)(*args)
