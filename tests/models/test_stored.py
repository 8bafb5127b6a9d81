"""Values that are computed once."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe.models.stored import stored


def wave(x):
    return jnp.sin(x) * jnp.cos(x)


def read_twice(compute):
    """Two readers of different shapes, which XLA's fusion gives the expression twice."""

    def function(x):
        y = compute(x + 1)
        return y * 3, y[::2] - 1

    return function


def sines(function, x):
    return jax.jit(function).lower(x).compile().as_text().count(" sine(")


def test_the_expression_stands_once_in_the_compiled_program_where_it_would_stand_twice():
    x = jnp.ones((1000, 1000))
    assert sines(read_twice(wave), x) == 2
    assert sines(read_twice(lambda x: stored(wave, x)), x) == 1


def test_values_gradients_and_batching_are_those_of_the_expression():
    x = jnp.linspace(-2.0, 2.0, 12).reshape(3, 4)
    np.testing.assert_allclose(stored(wave, x), np.sin(x) * np.cos(x), rtol=1e-6)
    slope = jax.grad(lambda x: stored(wave, x).sum())(x)
    np.testing.assert_allclose(slope, np.cos(2 * np.asarray(x, np.float64)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda row: stored(wave, row))(x), stored(wave, x), rtol=1e-6)


def test_several_arrays_come_back_in_their_structure():
    low, high = stored(lambda x: (x.min(), x.max()), jnp.asarray([3.0, 1.0, 2.0]))
    assert (float(low), float(high)) == (1.0, 3.0)
