"""Whether what a set-up computes is rounded to half precision, by the task's policy or by the model itself."""

import jax
import jax.numpy as jnp

from jaxrecipe import trees
from jaxrecipe.setup import Setup

SINGLE_BITS = 32
"""Bits of a float32; formats with fewer are half precision here."""


def computes_in_half(setup: Setup) -> bool:
    """Whether the policy casts to half precision, or outputs or losses have such a dtype. Compiles nothing."""
    if setup.task.precision.casts:
        return True
    variables, key = setup.variables, setup.key  # computed outside of the trace, as the set-up keeps them
    costs = jax.eval_shape(lambda batch: setup.costs(*variables, *batch, train=True, key=key), setup.batch)
    return any(
        trees.is_floating(leaf) and jnp.finfo(leaf.dtype).bits < SINGLE_BITS
        for leaf in jax.tree.leaves((costs.losses, costs.outputs))
    )
