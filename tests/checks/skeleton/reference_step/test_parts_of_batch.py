"""Steps that take a part of their batch, or average micro-batches of unequal counts, are told from plain ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.reference_step import reference_step
from jaxrecipe.parts import Loop
from jaxrecipe.targets import Unspecified
from jaxrecipe.task import Task
from tests.zoo.healthy import dense, linear, stateless

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 5)).astype(np.float32)
Y = {"y": RNG.normal(size=(64, 3)).astype(np.float32), "weight": RNG.integers(0, 9, 64).astype(np.float32)}


def weighted(outputs: Any, targets: Any) -> Any:
    """One number an example, whose mean is the weighted mean of the batch."""
    errors = jnp.square(outputs - targets["y"]).mean(axis=1)
    return errors * targets["weight"] / targets["weight"].mean()


def task(rows: Callable[[Any, int], Any], parts: int) -> Task:
    """Averages the gradients of the parts of a batch that `rows(leaf, part)` gives."""
    model = stateless(lambda key: dense(key, 5, 3), linear)
    optimizer = optax.sgd(0.1)

    def init(key: jax.Array) -> Any:
        params = model.init(key, X)[0]
        return {"params": params, "opt": optimizer.init(params)}

    @jax.jit
    def step(state: Any, inputs: Any, targets: Any, key: jax.Array) -> Any:
        def loss(params: Any, part: int) -> Any:
            x, y = jax.tree.map(lambda leaf: rows(leaf, part), (inputs, targets))
            return weighted(linear(params, x), y).mean()

        def mean(params: Any) -> Any:
            return jnp.stack([loss(params, part) for part in range(parts)]).mean()

        value, grads = jax.value_and_grad(mean)(state["params"])
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}, {"loss": value}

    return Task(
        model=model,
        loss=weighted,
        optimizer=optimizer,
        train=(X, Y),
        target=Unspecified(),
        batch_size=8,
        mixes_examples=True,
        loop=Loop(init=init, step=step, variables=lambda state: (state["params"], {})),
    )


@pytest.mark.parametrize(
    ("rows", "parts", "codes"),
    [
        (lambda leaf, part: leaf, 1, ()),
        (lambda leaf, part: leaf[part::4], 4, ("step/micro-batches-weigh-alike",)),
        (lambda leaf, part: leaf[4 * part : 4 * part + 4], 2, ("step/micro-batches-weigh-alike",)),
        (lambda leaf, part: leaf[:4], 1, ("step/part-of-batch",)),
    ],
)
def test_what_a_step_does_with_the_parts_of_its_batch(run, rows: Any, parts: int, codes: tuple[str, ...]) -> None:
    assert run(reference_step, task(rows, parts)).codes == codes
