"""Parts of a set-up on a batch, in reverse and alone, against loops in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.generalize_a_special_case.parts import (
    Part,
    compare,
    depends_on_place,
    largest_difference,
    parts_of,
    problem_alone,
)
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.setup import make_setup
from tests.zoo.healthy import digits_task

EPS = 2.0**-23
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def part(run: Any, arguments: Any = X) -> Part:
    return Part("it", lambda _, given: run(given), (), arguments)


def less_its_mean(x: Any) -> Any:
    return x - x.mean(axis=0)


def test_differences_are_those_of_a_loop() -> None:
    (found,) = compare([part(less_its_mean)], np.array([0, 7]), EPS)
    wide = X.astype(np.float64)
    whole = wide - wide.mean(axis=0)
    expected = max(abs(whole[i] - 0.0).max() for i in (0, 7)) / np.std(whole)
    assert found.alone == pytest.approx(expected, rel=1e-4)
    assert found.reversed < 1e-5


def test_what_stands_in_reverse_is_compared_in_its_place() -> None:
    (found,) = compare([part(lambda x: x * jnp.arange(8.0, dtype=jnp.float32)[: len(x), None])], np.array([0]), EPS)
    places = np.arange(8.0)[:, None]
    expected = np.abs(X * places - X * places[::-1]).max() / np.std(X * places)
    assert found.reversed == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("run", "sound"),
    [
        (lambda x: x, True),
        (lambda x: jnp.squeeze(x[:, :1]), False),
        (lambda x: x.reshape(8, 3), False),
        (lambda x: x.sum(axis=1), True),
        (lambda x: x.sum(axis=0), False),
    ],
)
def test_shapes_alone_tell_what_does_not_come_through(run: Any, sound: bool) -> None:
    with counting_compiles() as compiles:
        assert (problem_alone(part(run)) == "") is sound
    assert compiles.programs == 0


def test_place_is_told_from_company() -> None:
    weights = jnp.arange(1.0, 9.0, dtype=jnp.float32)
    assert depends_on_place(part(lambda x: x * weights[: len(x), None]), 1e-3)
    assert not depends_on_place(part(less_its_mean), 1e-3)


def test_all_parts_alone_are_one_program() -> None:
    setup = make_setup(digits_task())
    parts = parts_of(setup, setup.key)
    assert [one.name for one in parts] == ["prepare", "model", "loss", "accuracy"]
    setup.losses(setup.forward(setup.params, setup.model_state, setup.batch[0], key=setup.key)[0], setup.batch[1])
    with counting_compiles() as compiles:
        compare(parts, np.array([0, 5]), EPS)
    assert compiles.programs <= 2


def test_the_largest_difference_is_a_share_of_the_spread() -> None:
    rng = np.random.default_rng(0)
    whole, a, b = (rng.normal(size=(6, 2)) for _ in range(3))
    expected = max(abs(x - y) for x, y in zip(a.flat, b.flat, strict=True)) / np.std(whole)
    assert largest_difference([whole], [a], [b]) == pytest.approx(expected)


def test_nan_equals_nan_and_nothing_else() -> None:
    nan, one = np.array([[np.nan]]), np.array([[1.0]])
    assert largest_difference([one], [nan], [nan]) == 0
    assert largest_difference([one], [nan], [one]) == 1e9


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_rounding_explains_what_a_batch_of_one_rounds_otherwise(dtype: Any) -> None:
    """A wide sum in a coarse format, in another order."""
    x = np.random.default_rng(1).normal(size=(8, 512)).astype(np.float32)
    kernel = jax.random.normal(jax.random.key(0), (512, 4), dtype)
    summed = part(lambda x: (x.astype(dtype) @ kernel).astype(jnp.float32), x)
    (found,) = compare([summed], np.array([0, 4]), float(jnp.finfo(dtype).eps))
    assert max(found.alone, found.reversed) <= found.noise
