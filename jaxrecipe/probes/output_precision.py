"""Whether a model's outputs are rounded to half precision, by the task's policy or by the model itself."""

import jax
import jax.numpy as jnp

from jaxrecipe import trees
from jaxrecipe.setup import Setup

SINGLE_BITS = 32
"""Bits of a float32; formats with fewer are half precision here."""


def computes_in_half(setup: Setup) -> bool:
    """Whether the policy casts to half precision, or the outputs have such a dtype. Compiles nothing."""
    if setup.task.precision.casts:
        return True
    variables, key = setup.variables, setup.key  # computed outside of the trace, as the set-up keeps them
    outputs, _ = jax.eval_shape(lambda inputs: setup.forward(*variables, inputs, train=True, key=key), setup.batch[0])
    return any(
        trees.is_floating(leaf) and jnp.finfo(leaf.dtype).bits < SINGLE_BITS for leaf in jax.tree.leaves(outputs)
    )
