"""Broken set-ups, one thing each: faults of the catalogue on the zoo's small tasks, and what the catalogue lacks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.catalogue import data, loss, model, step
from jaxrecipe.catalogue.edits import on_inputs as before_model
from jaxrecipe.catalogue.edits import on_outputs as after_model
from jaxrecipe.catalogue.edits import on_params as with_init
from jaxrecipe.catalogue.edits import on_train
from jaxrecipe.catalogue.own_loop import with_own_loop
from jaxrecipe.parts import Model
from jaxrecipe.targets import Classes
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task, dropout_task, linear, regression_task

__all__ = ["after_model", "before_model", "with_init"]


def softmax_in_model() -> Task:
    return loss.softmax_in_model(digits_task())


def softmax_in_loss() -> Task:
    return loss.softmax_in_loss(digits_task())


def relu_on_logits() -> Task:
    """The last layer's outputs cannot be negative; started so that half of the units are dead."""
    task = with_init(digits_task(), lambda p: {**p, "logits": {**p["logits"], "bias": p["logits"]["bias"] - 6.0}})
    return after_model(task, jax.nn.relu)


def reshape_for_transpose() -> Task:
    return model.reshape_for_transpose(digits_task())


def batch_softmax() -> Task:
    return loss.softmax_over_batch(digits_task())


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
    return model.image_ignored(digits_task())


def sign_flipped() -> Task:
    return loss.sign_flipped(digits_task())


def negative_squared_error() -> Task:
    return loss.error_sign_flipped(regression_task())


def learning_rate_tiny() -> Task:
    return digits_task().replace(optimizer=optax.adam(2e-5))


def learning_rate_huge() -> Task:
    return digits_task().replace(optimizer=optax.sgd(300.0))


def updates_thrown_away() -> Task:
    return digits_task().replace(optimizer=optax.set_to_zero())


def labels_shuffled() -> Task:
    return on_train(digits_task(), lambda x, y: (x, np.random.default_rng(3).permutation(y)))


def blank_inputs() -> Task:
    return data.blank_inputs(digits_task())


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
    return loss.logits_as_probabilities(digits_task())


def not_finite_loss() -> Task:
    return digits_task().replace(
        loss=lambda logits, labels: -jnp.log(jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0])
    )


def mean_not_in_bias() -> Task:
    return regression_task(mean=50.0, std=1.0, bias=False)


def without_final_bias() -> Task:
    """A target with a mean of 50, and a last layer that has no bias."""
    task = mean_not_in_bias()

    def forward(params: Any, inputs: Any) -> Any:
        return jax.nn.relu(linear(params["hidden"], inputs)) @ params["logits"]["kernel"]

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        params, state = task.model.init(key, inputs)
        return {**params, "logits": {"kernel": params["logits"]["kernel"]}}, state

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return forward(params, inputs), state

    return task.replace(model=Model(init, apply, "no final bias"))


def wrong_final_bias() -> Task:
    change = lambda p: {**p, "logits": {**p["logits"], "bias": p["logits"]["bias"].at[3].set(6.0)}}  # noqa: E731
    return with_init(digits_task(), change)


def unseeded_init() -> Task:
    return step.unseeded_init(digits_task())


class ShiftingImages:
    """A data source that returns another crop of the same image at every read."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.rng = np.random.default_rng()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.roll(self.images[index], self.rng.integers(8), axis=0), self.labels[index]


def unseeded_data() -> Task:
    return digits_task().replace(train=ShiftingImages(*digits_task().train))


def dropout_loop(*, reuse_key: bool) -> Task:
    """A hand-written loop around a model with dropout; with `reuse_key` every step draws the same mask."""
    if reuse_key:
        return step.same_key_for_dropout(dropout_task())
    return with_own_loop(dropout_task(), draw=lambda state, _key: jax.random.fold_in(jax.random.key(7), state["step"]))


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
