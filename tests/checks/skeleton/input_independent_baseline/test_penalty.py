"""A penalty that keeps the inputs out is told by training with less of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.parts import Model
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task

COLUMNS, LATENT = 16, 2


def autoencoder(weight: float) -> Task:
    """Rows of two factors through a noisy code whose size is penalized, by a sum where the error is a mean."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(LATENT, COLUMNS))
    x, x_test = ((rng.normal(size=(size, LATENT)) @ factors).astype(np.float32) for size in (512, 256))

    def init(key: Any, _: Any) -> tuple[Any, Any]:
        keys = jax.random.split(key)
        shapes = {"in": (COLUMNS, LATENT), "out": (LATENT, COLUMNS)}
        return {name: 0.3 * jax.random.normal(one, shapes[name]) for name, one in zip(shapes, keys, strict=True)}, {}

    def apply(params: Any, state: Any, rows: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        code = rows @ params["in"]
        noise = jax.random.normal(key, code.shape) if train else 0.0
        return {"code": code, "row": (code + noise) @ params["out"]}, state

    def loss(outputs: Any, rows: Any) -> Any:
        return jnp.square(outputs["row"] - rows).mean(axis=1) + weight * jnp.square(outputs["code"]).sum(axis=1)

    optimizer = optax.adam(1e-2)
    return Task(
        model=Model(init, apply), loss=loss, optimizer=optimizer, train=(x, x), test=(x_test, x_test), batch_size=32
    )


def test_a_penalty_that_outweighs_the_error_is_named(run: Callable[..., Result]) -> None:
    assert run(input_independent_baseline, autoencoder(0.03)).status is Status.PASS
    result = run(input_independent_baseline, autoencoder(3.0))
    assert result.status is Status.FAIL
    assert result.findings[0].causes[0].code == "loss/penalty-outweighs-targets"
