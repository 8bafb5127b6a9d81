"""Ways to break a healthy set-up, one thing each: functions from a healthy Task to a broken one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.targets import Classes
from jaxrecipe.task import Loop, Model, Task
from tests.zoo.healthy import cross_entropy, digits_task, flat, linear, regression_task


def after_model(task: Task, change: Any) -> Task:
    """The task with something done to the model's outputs."""
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, state = model.apply(params, state, inputs, train=train, key=key)
        return change(outputs), state

    return task.replace(model=Model(model.init, apply, model.name))


def before_model(task: Task, change: Any) -> Task:
    """The task with something done to the inputs inside the model."""
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return model.apply(params, state, change(inputs), train=train, key=key)

    return task.replace(model=Model(model.init, apply, model.name))


def with_init(task: Task, change: Any) -> Task:
    """The task with something done to the initial parameters."""
    model = task.model

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        params, state = model.init(key, inputs)
        return change(params), state

    return task.replace(model=Model(init, model.apply, model.name))


def softmax_in_model() -> Task:
    return after_model(digits_task(), jax.nn.softmax)


def softmax_in_loss() -> Task:
    return digits_task().replace(loss=lambda logits, labels: cross_entropy(jax.nn.softmax(logits), labels))


def relu_on_logits() -> Task:
    """The last layer's outputs cannot be negative; started so that half of the units are dead."""
    task = with_init(digits_task(), lambda p: {**p, "logits": {**p["logits"], "bias": p["logits"]["bias"] - 6.0}})
    return after_model(task, jax.nn.relu)


def reshape_for_transpose() -> Task:
    """Two axes are swapped by a reshape, which moves numbers from one example to another."""
    return before_model(digits_task(), lambda x: flat(x).reshape(64, x.shape[0]).T)


def batch_softmax() -> Task:
    def loss(logits: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=0), labels[:, None], axis=1)[:, 0]

    return digits_task().replace(loss=loss)


def batch_mean_leak() -> Task:
    return before_model(digits_task(), lambda x: x - x.mean(axis=0, keepdims=True))


def column_against_row() -> Task:
    """Outputs (N, 1) against targets (N,): every output is compared with every target."""
    task = regression_task()
    (x, y), (x_test, y_test) = task.train, task.test
    return task.replace(
        train=(x, y[:, 0]),
        test=(x_test, y_test[:, 0]),
        loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=1),
    )


def blind_model() -> Task:
    return before_model(digits_task(), lambda x: 0.0 * jax.lax.stop_gradient(jnp.nan_to_num(x)))


def sign_flipped() -> Task:
    return digits_task().replace(loss=lambda logits, labels: -cross_entropy(logits, labels))


def negative_squared_error() -> Task:
    return regression_task().replace(loss=lambda outputs, values: -jnp.square(outputs - values).mean(axis=1))


def learning_rate_tiny() -> Task:
    return digits_task().replace(optimizer=optax.adam(2e-5))


def learning_rate_huge() -> Task:
    return digits_task().replace(optimizer=optax.sgd(300.0))


def updates_thrown_away() -> Task:
    return digits_task().replace(optimizer=optax.set_to_zero())


def labels_shuffled() -> Task:
    task = digits_task()
    x, y = task.train
    return task.replace(train=(x, np.random.default_rng(3).permutation(y)))


def blank_inputs() -> Task:
    task = digits_task()
    return task.replace(prepare=lambda x, y: (jnp.zeros(x.shape, jnp.float32), y))


def wild_init() -> Task:
    return with_init(digits_task(), lambda params: jax.tree.map(lambda leaf: 8.0 * leaf, params))


def inputs_not_scaled() -> Task:
    return digits_task().replace(prepare=lambda x, y: (x.astype(jnp.float32) * 8.0, y))


def label_leaked_into_outputs() -> Task:
    """The label rides along as an input and the untrained model already uses it."""
    task = digits_task()

    def with_label(x: Any, y: Any) -> Any:
        return {
            "image": x,
            "label": jax.nn.one_hot(y, 10, dtype=jnp.float32)
            if isinstance(y, jax.Array)
            else np.eye(10, dtype=np.float32)[y],
        }

    (x, y), (x_test, y_test) = task.train, task.test
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, state = model.apply(params, state, inputs["image"], train=train, key=key)
        return outputs + 5.0 * inputs["label"], state

    return task.replace(
        model=Model(lambda key, inputs: model.init(key, inputs["image"]), apply),
        train=(with_label(x, y), y),
        test=(with_label(x_test, y_test), y_test),
        prepare=lambda inputs, y: ({**inputs, "image": (inputs["image"].astype(jnp.float32) - 4.9) / 6.0}, y),
    )


def squared_error_for_classes() -> Task:
    def loss(outputs: Any, labels: Any) -> Any:
        return jnp.square(outputs - jax.nn.one_hot(labels, 10, dtype=jnp.float32)).mean(axis=1)

    task = with_init(digits_task(), lambda params: jax.tree.map(lambda leaf: 0.1 * leaf, params))
    return task.replace(loss=loss)


def logits_into_probability_loss() -> Task:
    def loss(outputs: Any, labels: Any) -> Any:
        picked = jnp.take_along_axis(outputs, labels[:, None], axis=1)[:, 0]
        return -jnp.log(jnp.clip(picked, 1e-7, 1.0))

    return digits_task().replace(loss=loss)


def not_finite_loss() -> Task:
    return digits_task().replace(
        loss=lambda logits, labels: -jnp.log(jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0])
    )


def mean_not_in_bias() -> Task:
    return regression_task(mean=50.0, std=1.0, bias=False)


def wrong_final_bias() -> Task:
    change = lambda p: {**p, "logits": {**p["logits"], "bias": p["logits"]["bias"].at[3].set(6.0)}}  # noqa: E731
    return with_init(digits_task(), change)


def unseeded_init() -> Task:
    rng = np.random.default_rng()
    noise = lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape) * 0.01, jnp.float32)  # noqa: E731
    return with_init(digits_task(), lambda params: jax.tree.map(noise, params))


class ShiftingImages:
    """A data source that returns another crop of the same image at every read."""

    def __init__(self) -> None:
        (self.images, self.labels), _ = digits()
        self.rng = np.random.default_rng()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.roll(self.images[index], self.rng.integers(8), axis=0), self.labels[index]


def digits() -> Any:
    task = digits_task()
    return task.train, task.test


def unseeded_data() -> Task:
    return digits_task().replace(train=ShiftingImages())


def dropout_loop(*, reuse_key: bool) -> Task:
    """A hand-written loop around a model with dropout; with `reuse_key` every step draws the same mask."""
    from tests.zoo.healthy import dropout_task

    task = dropout_task()
    optimizer = optax.adam(2e-3)

    def init(key: Any) -> dict[str, Any]:
        params, _ = task.model.init(key, None)
        return {
            "params": params,
            "opt": optimizer.init(params),
            "step": jnp.zeros((), jnp.int32),
            "key": jax.random.key(7),
        }

    @jax.jit
    def step(state: dict[str, Any], inputs: Any, targets: Any, key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        key = state["key"] if reuse_key else jax.random.fold_in(state["key"], state["step"])

        def mean_loss(params: Any) -> Any:
            outputs, _ = task.model.apply(params, {}, inputs, train=True, key=key)
            return task.loss(outputs, targets).mean()

        loss, grads = jax.value_and_grad(mean_loss)(state["params"])
        with jax.numpy_dtype_promotion("standard"):
            updates, opt = optimizer.update(grads, state["opt"])
        params = optax.apply_updates(state["params"], updates)
        return {**state, "params": params, "opt": opt, "step": state["step"] + 1}, {"loss": loss}

    return task.replace(loop=Loop(init=init, step=step, variables=lambda state: (state["params"], {})))


def one_output_softmax() -> Task:
    """A softmax over a single output is one whatever the model says."""
    task = digits_task()
    (x, y), (x_test, y_test) = task.train, task.test

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        params, state = task.model.init(key, inputs)
        return {**params, "one": {"kernel": jnp.ones((10, 1), jnp.float32), "bias": jnp.zeros(1, jnp.float32)}}, state

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        logits, state = task.model.apply(
            {k: params[k] for k in ("hidden", "logits")}, state, inputs, train=train, key=key
        )
        return linear(params["one"], logits), state

    return task.replace(
        model=Model(init, apply),
        train=(x, np.zeros_like(y)),
        test=(x_test, np.zeros_like(y_test)),
        target=Classes(1),
        loss=lambda logits, labels: jnp.abs(jax.nn.softmax(logits)[:, 0] - 0.5),
    )
