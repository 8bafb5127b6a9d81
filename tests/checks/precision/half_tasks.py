"""Set-ups in half precision, healthy and broken, for the checks of precision."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrecipe import trees
from jaxrecipe.parts import Loop, Model
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.task import Task
from tests.zoo.broken import with_init
from tests.zoo.healthy import cross_entropy, digits_task, flat, linear, mlp_model

TINY = 2.0**-22
"""So small a weight of the loss that float16 loses nearly all of its gradient."""


def half(dtype: str, **changes: Any) -> Task:
    """Digits under a half-precision policy; float16 with a dynamic scale unless said otherwise."""
    scaled = {"loss_scale": dynamic_loss_scale()} if dtype == "float16" else {}
    return digits_task().replace(**{"policy": dtype, **scaled, **changes})


def weighted(weight: float) -> Callable[[Any, Any], Any]:
    """Cross entropy times a number."""
    return lambda logits, labels: jnp.float32(weight) * cross_entropy(logits, labels)


def with_hidden(change: Callable[[Any], Any], **changes: Any) -> Task:
    """Digits with something done to the hidden layer before its ReLU."""
    base = mlp_model()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        hidden = jax.nn.relu(change(linear(params["hidden"], flat(inputs))))
        return linear(params["logits"], hidden), state

    return digits_task().replace(model=Model(base.init, apply), **changes)


def overflowing_norm() -> Task:
    """A norm that squares numbers of a few hundred in float16."""

    def norm(hidden: Any) -> Any:
        hidden = hidden * jnp.asarray(400.0, hidden.dtype)
        return hidden / jnp.sqrt(jnp.square(hidden).sum(axis=1, keepdims=True))

    return with_hidden(norm, policy="float16", loss_scale=dynamic_loss_scale())


def overflowing_layer() -> Task:
    """A hidden layer whose outputs are beyond 65,504."""
    task = with_init(digits_task(), lambda p: {**p, "hidden": jax.tree.map(lambda leaf: 3e5 * leaf, p["hidden"])})
    return task.replace(policy="float16", loss_scale=dynamic_loss_scale())


def overflowing_loss() -> Task:
    """The outputs stay in float16, where the loss raises 2 to them."""
    return digits_task().replace(
        policy="params=float32,compute=float16,output=float16",
        loss_scale=dynamic_loss_scale(),
        loss=lambda logits, labels: jnp.square(logits * jnp.asarray(300.0, logits.dtype)).sum(axis=1),
    )


def epsilon_of_zero() -> Task:
    """A norm of rows that are all equal at first, with an epsilon that float16 does not have."""

    def norm(hidden: Any) -> Any:
        centred = hidden - hidden
        variance = jnp.square(centred).mean(axis=1, keepdims=True)
        return hidden + centred / jnp.sqrt(variance + jnp.asarray(1e-12, hidden.dtype))

    return with_hidden(norm, policy="float16", loss_scale=dynamic_loss_scale())


def cancelling_variance() -> Task:
    """Variance as the mean of squares less the square of the mean, far from zero, in bfloat16."""

    def norm(hidden: Any) -> Any:
        shifted = hidden + jnp.asarray(64.0, hidden.dtype)
        mean = shifted.mean(axis=1, keepdims=True)
        variance = jnp.square(shifted).mean(axis=1, keepdims=True) - jnp.square(mean)
        return (shifted - mean) / jnp.sqrt(jnp.maximum(variance, jnp.asarray(1e-2, hidden.dtype)))

    return with_hidden(norm, policy="bfloat16")


def far_inputs() -> Task:
    """Inputs of 1000 plus or minus one: in bfloat16 they are all 1000, give or take 4."""
    prepare = lambda x, y: ((x.astype(jnp.float32) - 4.9) / 6.0 + 1000.0, y)  # noqa: E731
    base = mlp_model()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return base.apply(params, state, inputs - jnp.asarray(1000.0, inputs.dtype), train=train, key=key)

    return digits_task().replace(model=Model(base.init, apply), prepare=prepare, policy="bfloat16")


def noise_in_half() -> Task:
    """Noise drawn in the dtype of what it is added to: other noise in every precision, and so strong that the gradient
    is too."""
    base = mlp_model()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        if train:
            inputs = inputs + 30 * jax.random.normal(key, inputs.shape, inputs.dtype)
        return base.apply(params, state, inputs, train=train, key=key)

    return half("bfloat16", model=Model(base.init, apply))


def fixed_dtype() -> Task:
    """A model that computes in bfloat16 whatever the policy."""
    base = mlp_model()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        narrow = trees.cast_floating((params, inputs), jnp.bfloat16)
        outputs, state = base.apply(narrow[0], state, narrow[1], train=train, key=key)
        return outputs.astype(jnp.float32), state

    return digits_task().replace(model=Model(base.init, apply))


def own_loop(task: Task, *, scale: float = 1.0, shown: bool = False, policy: str = "float16", jit: bool = True) -> Task:
    """A hand-written loop that computes in float16 with a fixed loss scale inside, which its state may show."""

    def init(key: Any) -> dict[str, Any]:
        params, _ = task.model.init(key, None)
        state = {"params": params, "opt": task.optimizer.init(params)}
        return {**state, "loss_scale": jnp.float32(scale)} if shown else state

    def step(state: dict[str, Any], inputs: Any, targets: Any, key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        def scaled_loss(params: Any) -> Any:
            half_params, half_inputs = trees.cast_floating((params, inputs), jnp.float16)
            outputs, _ = task.model.apply(half_params, {}, half_inputs, train=True, key=key)
            return task.loss(outputs.astype(jnp.float32), targets).mean() * jnp.float32(scale)

        loss, grads = jax.value_and_grad(scaled_loss)(state["params"])
        grads = jax.tree.map(lambda grad: (grad.astype(jnp.float32) / jnp.float32(scale)).astype(grad.dtype), grads)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = task.optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {**state, "params": params, "opt": opt}, {"loss": loss / jnp.float32(scale)}

    loop = Loop(init=init, step=jax.jit(step) if jit else step, variables=lambda state: (state["params"], {}))
    return task.replace(loop=loop, policy=policy)


def kept_in(dtype: str, optimizer: optax.GradientTransformation, **changes: Any) -> Task:
    """Digits with parameters, and so optimizer state, in half precision."""
    base = mlp_model()

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        params, state = base.init(key, inputs)
        return trees.cast_floating(params, dtype), state

    policy = f"params={dtype},compute={dtype},output=float32"
    return half(dtype, **{"model": Model(init, base.apply), "optimizer": optimizer, "policy": policy, **changes})


def own_loop_in_half(optimizer: optax.GradientTransformation) -> Task:
    """The same with a hand-written loop."""
    return own_loop(kept_in("float16", optimizer), scale=1024.0)
