"""How far rounding alone can take results, against float64 computed in numpy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.parts import Model
from jaxrecipe.probes.rounding import (
    changed,
    model_rounding,
    noise_floor,
    program_rounding,
    relative_rounding,
)
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task

EPS = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}


def computing_in(dtype: Any) -> Task:
    """A model whose first layer has a dtype of its own, between a float32 input and float32 outputs."""
    task = digits_task()
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        return model.apply(params, state, inputs.astype(dtype).astype(jnp.float32), train=train, key=key)

    return task.replace(model=Model(model.init, apply))


@pytest.mark.parametrize("dtype", EPS)
def test_the_rounding_of_a_format_is_the_step_from_one(dtype: str) -> None:
    following = np.asarray(jnp.nextafter(jnp.ones((), dtype), jnp.full((), 2, dtype)), np.float64)
    assert relative_rounding(dtype) == pytest.approx(following - 1) == EPS[dtype]


@pytest.mark.parametrize("dtype", EPS)
def test_the_coarsest_format_inside_of_a_model_counts(dtype: str) -> None:
    assert model_rounding(make_setup(computing_in(dtype))) == EPS[dtype]


def test_the_policy_counts() -> None:
    assert model_rounding(make_setup(digits_task(policy="bfloat16"))) == EPS["bfloat16"]
    assert model_rounding(make_setup(digits_task())) == EPS["float32"]


def test_what_is_inside_of_loops_and_branches_counts() -> None:
    def loop(x: Any) -> Any:
        half = lambda carry, _: ((carry.astype(jnp.float16) * 2).astype(jnp.float32), None)  # noqa: E731
        return jax.lax.scan(half, x, None, length=2)[0]

    def branch(x: Any) -> Any:
        return jax.lax.cond(x.sum() > 0, lambda y: y, lambda y: y.astype(jnp.bfloat16).astype(jnp.float32), x)

    x = jnp.ones(3, jnp.float32)
    assert program_rounding(jax.make_jaxpr(loop)(x).jaxpr) == EPS["float16"]
    assert program_rounding(jax.make_jaxpr(branch)(x).jaxpr) == EPS["bfloat16"]


def test_products_on_accelerators_round_to_tensorfloat32_unless_they_are_asked_not_to() -> None:
    def product(precision: Any) -> Any:
        x = jnp.ones((2, 2), jnp.float32)
        return jax.make_jaxpr(lambda x: jax.lax.dot(x, x, precision=precision))(x).jaxpr

    assert program_rounding(product(None), "gpu") == 2.0**-10
    assert program_rounding(product(None), "tpu") == 2.0**-7
    assert program_rounding(product(jax.lax.Precision.HIGHEST), "gpu") == EPS["float32"]
    assert program_rounding(product(None), "cpu") == EPS["float32"]


def test_a_program_without_floating_numbers_rounds_as_float32() -> None:
    assert program_rounding(jax.make_jaxpr(lambda x: x + 1)(jnp.arange(3)).jaxpr) == EPS["float32"]


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("seed", range(3))
def test_a_layer_is_off_by_less_than_the_floor_and_not_by_far(dtype: str, seed: int) -> None:
    """Oracle: the same matrix product in float64 of the same rounded numbers."""
    rng = np.random.default_rng(seed)
    x, kernel = (jnp.asarray(rng.normal(size=shape), dtype) for shape in ((16, 512), (512, 32)))
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    off = np.abs(np.asarray(x @ kernel, np.float64) - exact).max()
    floor = noise_floor(exact, EPS[dtype])
    assert off < floor < 1000 * off


def test_numbers_that_are_not_finite_have_no_size() -> None:
    assert noise_floor(np.array([np.nan, np.inf, -2.0]), 0.5) == noise_floor(np.array([2.0]), 0.5) > 0
    assert noise_floor(np.array([np.nan]), 0.5) == 0


def test_both_sides_of_what_counts_as_changed() -> None:
    before = np.array([1.0, 1.0, 0.0, np.nan, 1.0])
    after = np.array([1.00005, 1.0002, 1e-7, np.nan, np.nan])
    np.testing.assert_array_equal(changed(before, after, 0.0), [False, True, False, False, True])
    np.testing.assert_array_equal(changed(before, after, 1e-3), [False, False, False, False, True])
