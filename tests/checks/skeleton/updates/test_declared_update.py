"""What one real gradient shows of the declared optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.checks.skeleton.updates.declared_update import declared_update, norm_overflow
from jaxrecipe.parts import Loop
from jaxrecipe.precision.policy import Policy
from jaxrecipe.report.result import Status
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import dense, digits_task, flat, linear, stateless

LABELS = {"body": "frozen", "head": "trained"}
KEY = jax.random.key(0)


def task(optimizer: optax.GradientTransformation, **fields: Any) -> Task:
    """A frozen layer whose gradient is far larger than that of the layer that is trained."""

    def init(key: jax.Array) -> Any:
        first, last = jax.random.split(key)
        return {"body": dense(first, 64, 32), "head": dense(last, 32, 10, 3.0)}

    def forward(params: Any, x: Any) -> Any:
        return linear(params["head"], jax.nn.relu(linear(params["body"], flat(x))) / 20)

    return digits_task().replace(model=stateless(init, forward), optimizer=optimizer, **fields)


def only_head(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.multi_transform({"trained": inner, "frozen": optax.set_to_zero()}, LABELS)


clip = optax.clip_by_global_norm(1e-3)
FROZEN = {"frozen": ("body/*",)}
MASK = {"body": False, "head": True}


@pytest.mark.parametrize(
    ("optimizer", "fields", "first"),
    [
        (optax.chain(clip, only_head(optax.sgd(0.1))), FROZEN, "optimizer/clipping-counts-frozen"),
        (optax.chain(clip, only_head(optax.sgd(0.1))), {}, "optimizer/clipping-counts-frozen"),
        (only_head(optax.chain(clip, optax.sgd(0.1))), FROZEN, ""),
        (optax.masked(optax.sgd(0.1), MASK), FROZEN, "optimizer/masked-passes-gradient"),
        (optax.masked(optax.sgd(0.1), MASK), {}, "optimizer/masked-passes-gradient"),
        (only_head(optax.sgd(0.1)), FROZEN, ""),
        (optax.chain(clip, optax.sgd(0.1)), {}, ""),
    ],
)
def test_the_optimizer_and_what_is_frozen(run, optimizer: Any, fields: dict[str, Any], first: str) -> None:
    result = run(updates, task(optimizer, **fields))
    named = [code for code in result.codes if code.startswith("optimizer/clipping-c") or "masked" in code]
    assert named == ([first] if first else [])
    assert (result.status is Status.FAIL) >= bool(first)


def test_a_norm_that_overflows_in_its_own_format() -> None:
    half = Policy(param_dtype=jnp.float16, compute_dtype=jnp.float16, output_dtype=jnp.float32)
    loud = digits_task().replace(
        policy=half,
        loss=lambda outputs, labels: 200.0 * jnp.square(outputs - 1.0).sum(axis=1) + 0.0 * labels.astype(jnp.float32),
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    )
    found = norm_overflow(declared_update(make_setup(loud), KEY))
    assert [finding.code for finding in found] == ["precision/norm-overflows"]
    assert norm_overflow(declared_update(make_setup(digits_task()), KEY)) == []


def test_an_average_that_is_never_updated(run) -> None:
    plain = digits_task()

    def init(key: jax.Array) -> Any:
        params = plain.model.init(key, jnp.asarray(plain.train[0][:1]))[0]
        return {"raw": params, "average": jax.tree.map(jnp.copy, params)}

    @jax.jit
    def step(state: Any, inputs: Any, targets: Any, key: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            return plain.loss(plain.model.apply(params, {}, inputs, train=True, key=key)[0], targets).mean()

        value, grads = jax.value_and_grad(loss)(state["raw"])
        raw = jax.tree.map(lambda param, grad: param - np.float32(0.1) * grad, state["raw"], grads)
        return {**state, "raw": raw}, {"loss": value}

    loop = Loop(init=init, step=step, variables=lambda state: (state["average"], {}))
    result = run(updates, plain.replace(loop=loop))
    assert result.codes == ("evaluation/stale-parameters",)
