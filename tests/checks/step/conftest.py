"""The set-ups of these tests are written as users write theirs: optax does not run under strict promotion."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
    """Promote dtypes as JAX does by default."""
    with jax.numpy_dtype_promotion("standard"):
        yield
