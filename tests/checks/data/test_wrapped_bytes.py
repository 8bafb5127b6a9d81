"""Bytes that wrap around in prepare are told from every even or curved way to scale them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.finite_inputs import finite_inputs
from jaxrecipe.checks.data.finite_inputs.wrapped import first_jump
from jaxrecipe.report.result import Status
from tests.zoo.healthy import digits_task

LEVELS = np.arange(256)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ((LEVELS - 78) % 256, 77),
        ((255 - LEVELS + 10) % 256, 9),
        ((2 * LEVELS) % 256, 127),
        (LEVELS / 255.0, None),
        (255 - LEVELS, None),
        (np.sqrt(LEVELS), None),
        (np.abs(LEVELS - 128), None),
        (LEVELS > 100, None),
        (LEVELS == 7, None),
        (np.maximum(LEVELS - 78, 0), None),
        (LEVELS % 10, None),
        (np.sin(LEVELS / 20), None),
        (np.zeros(256), None),
    ],
)
def test_one_jump_against_the_direction_of_all_other_steps(values: np.ndarray, place: int | None) -> None:
    assert first_jump(values.astype(np.float64)) == place


def test_bytes_that_wrap_in_prepare(run) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
    base = digits_task().replace(train=(images, (np.arange(64) % 10).astype(np.int32)), test=None)
    wrong = base.replace(prepare=lambda x, y: ((x - 78).astype(jnp.float32) / 96, y))
    right = base.replace(prepare=lambda x, y: ((x.astype(jnp.float32) - 78) / 96, y))
    result = run(finite_inputs, wrong)
    assert result.status is Status.FAIL
    assert result.codes[0] == "data/integer-arithmetic"
    assert "data/integer-arithmetic" not in run(finite_inputs, right).codes
