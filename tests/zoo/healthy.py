"""Healthy set-ups, small and quick: each a function of a seed that returns a Task. No check may FAIL on any of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.data.datasets import digits
from jaxrecipe.parts import Model
from jaxrecipe.targets import Binary, Classes, MultiLabel, Tokens, Unspecified, Values
from jaxrecipe.task import Task

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def dense(key: jax.Array, fan_in: int, fan_out: int, scale: float = 1.0) -> dict[str, jax.Array]:
    """A dense layer: LeCun-normal kernel, zero bias."""
    kernel = scale * jax.random.normal(key, (fan_in, fan_out), jnp.float32) / np.float32(np.sqrt(fan_in))
    return {"kernel": kernel, "bias": jnp.zeros(fan_out, jnp.float32)}


def linear(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def stateless(init: Callable[..., Any], forward: Callable[..., Any], name: str = "model") -> Model:
    """A model with neither state nor randomness: `init(key) -> params`, `forward(params, inputs) -> outputs`."""
    return Model(
        init=lambda key, inputs: (init(key), {}),
        apply=lambda params, state, inputs, *, train, key: (forward(params, inputs), state),
        name=name,
    )


def mlp_model(fan_in: int = 64, width: int = 64, outputs: int = 10, scale: float = 1.0) -> Model:
    def init(key: jax.Array) -> dict[str, Any]:
        first, last = jax.random.split(key)
        return {"hidden": dense(first, fan_in, width), "logits": dense(last, width, outputs, scale)}

    return stateless(init, lambda p, x: linear(p["logits"], jax.nn.relu(linear(p["hidden"], flat(x)))), "MLP")


def scaled(x: Any, y: Any) -> tuple[Any, Any]:
    return (x.astype(jnp.float32) - 4.9) / 6.0, y


def digits_task(seed: int = 0, **changes: Any) -> Task:
    """Real digits, an MLP, Adam."""
    train, test = digits(seed=seed)
    task = Task(
        model=mlp_model(),
        loss=cross_entropy,
        optimizer=optax.adam(2e-3),
        train=train,
        test=test,
        target=Classes(10),
        batch_size=32,
        prepare=scaled,
        name="digits MLP",
    )
    return task.replace(**changes)


def dropout_task(seed: int = 0) -> Task:
    """The same with dropout of a quarter."""
    base = mlp_model()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        hidden = jax.nn.relu(linear(params["hidden"], flat(inputs)))
        if train:
            keep = jax.random.bernoulli(key, 0.75, hidden.shape)
            hidden = jnp.where(keep, hidden / 0.75, 0.0)
        return linear(params["logits"], hidden), state

    return digits_task(seed).replace(model=Model(base.init, apply, "dropout MLP"), name="digits with dropout")


def batch_norm_task(seed: int = 0) -> Task:
    """The same with a batch normalisation that keeps running statistics."""

    def init(key: Any, inputs: Any) -> tuple[Any, Any]:
        params, _ = mlp_model().init(key, inputs)
        params["scale"] = jnp.ones(64, jnp.float32)
        return params, {"mean": jnp.zeros(64, jnp.float32), "var": jnp.ones(64, jnp.float32)}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        hidden = linear(params["hidden"], flat(inputs))
        mean, var = (hidden.mean(axis=0), hidden.var(axis=0)) if train else (state["mean"], state["var"])
        if train:
            state = {"mean": 0.9 * state["mean"] + 0.1 * mean, "var": 0.9 * state["var"] + 0.1 * var}
        hidden = params["scale"] * (hidden - mean) / jnp.sqrt(var + 1e-5)
        return linear(params["logits"], jax.nn.relu(hidden)), state

    return digits_task(seed).replace(model=Model(init, apply, "BatchNorm MLP"), name="digits with BatchNorm")


def label_smoothing_task(seed: int = 0) -> Task:
    def loss(logits: Any, labels: Any) -> Any:
        smooth = optax.smooth_labels(jax.nn.one_hot(labels, 10, dtype=jnp.float32), 0.1)
        return optax.softmax_cross_entropy(logits, smooth)

    return digits_task(seed).replace(loss=loss, name="digits with label smoothing")


def class_weights_task(seed: int = 0) -> Task:
    weights = jnp.linspace(0.5, 1.5, 10).astype(jnp.float32)
    return digits_task(seed).replace(
        loss=lambda logits, labels: weights[labels] * cross_entropy(logits, labels), name="digits with class weights"
    )


def regression_task(seed: int = 0, *, mean: float = 0.0, std: float = 1.0, bias: bool = False) -> Task:
    """A noisy function of eight numbers; with `mean`, a large target whose mean is (or is not) in the final bias."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 8)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(8, 1))) + 0.1 * rng.normal(size=(600, 1))
    y = (mean + std * (y - y.mean()) / y.std()).astype(np.float32)

    def init(key: jax.Array) -> Any:
        params, _ = mlp_model(8, 32, 1).init(key, None)
        params["logits"]["kernel"] = params["logits"]["kernel"] * np.float32(0.5 * std)
        params["logits"]["bias"] = params["logits"]["bias"] + np.float32(mean if bias else 0.0)
        return params

    def forward(params: Any, inputs: Any) -> Any:
        return linear(params["logits"], jax.nn.relu(linear(params["hidden"], inputs)))

    return Task(
        model=stateless(init, forward),
        loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=1),
        optimizer=optax.adam(5e-3 * max(1.0, std)),
        train=(x[:500], y[:500]),
        test=(x[500:], y[500:]),
        target=Values(),
        batch_size=50,
        name="regression",
    )


def large_target_task(seed: int = 0) -> Task:
    return regression_task(seed, mean=200.0, std=5.0, bias=True).replace(name="large-target regression")


def binary_task(seed: int = 0, *, positives: float = 0.1, prior: bool = True) -> Task:
    """One positive in ten, the prior in the final bias."""
    rng = np.random.default_rng(seed)
    y = (rng.random(800) < positives).astype(np.float32)
    x = rng.normal(size=(800, 6)).astype(np.float32) + 1.5 * y[:, None].astype(np.float32)
    logit = np.float32(np.log(positives / (1 - positives)) if prior else 0.0)

    def init(key: jax.Array) -> Any:
        layer = dense(key, 6, 1, 0.3)
        return {"kernel": layer["kernel"], "bias": layer["bias"] + logit}

    return Task(
        model=stateless(init, lambda p, x: linear(p, x)[:, 0]),
        loss=optax.sigmoid_binary_cross_entropy,
        optimizer=optax.adam(2e-2),
        train=(x[:640], y[:640]),
        test=(x[640:], y[640:]),
        target=Binary(),
        batch_size=64,
        name="imbalanced binary",
    )


def multi_label_task(seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 10)).astype(np.float32)
    y = (x @ rng.normal(size=(10, 5)) > 0).astype(np.float32)
    return Task(
        model=mlp_model(10, 32, 5),
        loss=lambda logits, labels: optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=1),
        optimizer=optax.adam(5e-3),
        train=(x[:500], y[:500]),
        test=(x[500:], y[500:]),
        target=MultiLabel(5),
        batch_size=50,
        name="multi-label",
    )


def heads_task(seed: int = 0) -> Task:
    """A dictionary of inputs and a dictionary of outputs: which digit, and how much ink."""
    (x, y), (x_test, y_test) = digits(seed=seed)

    def data(images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        ink = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)
        halves = images.reshape(len(images), 2, 32)
        return {"top": halves[:, 0], "bottom": halves[:, 1]}, {"digit": labels, "ink": (ink - ink.mean()) / ink.std()}

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        return {"hidden": dense(keys[0], 64, 48), "digit": dense(keys[1], 48, 10), "ink": dense(keys[2], 48, 1)}

    def forward(params: Any, inputs: Any) -> Any:
        joined = jnp.concatenate([inputs["top"], inputs["bottom"]], axis=1)
        hidden = jax.nn.relu(linear(params["hidden"], joined))
        return {"digit": linear(params["digit"], hidden), "ink": linear(params["ink"], hidden)[:, 0]}

    return Task(
        model=stateless(init, forward),
        loss=lambda out, t: cross_entropy(out["digit"], t["digit"]) + jnp.square(out["ink"] - t["ink"]),
        optimizer=optax.adam(3e-3),
        train=data(x, y),
        test=data(x_test, y_test),
        target={"digit": Classes(10), "ink": Values()},
        batch_size=32,
        prepare=lambda x, y: (jax.tree.map(lambda leaf: (leaf.astype(jnp.float32) - 4.9) / 6.0, x), y),
        name="two heads",
    )


def autoencoder_task(seed: int = 0) -> Task:
    (x, _), (x_test, _) = digits(seed=seed)
    x_mean = x.reshape(len(x), 64).mean(axis=0)

    def pair(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = ((images.reshape(len(images), 64) - x_mean) / 6.0).astype(np.float32)
        return rows, rows

    return Task(
        model=mlp_model(64, 64, 64, scale=0.3),
        loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=1),
        optimizer=optax.adam(5e-3),
        train=pair(x),
        test=pair(x_test),
        target=Values(),
        batch_size=32,
        name="autoencoder",
    )


def language_model_task(seed: int = 0) -> Task:
    """A tiny causal model of short rows of tokens: embeddings, one causal average, a hidden layer."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 12, size=(400, 1))
    stride = rng.integers(1, 3, size=(400, 1))
    rows = ((start + stride * np.arange(9)) % 12).astype(np.int32)

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        return {
            "embed": 0.3 * jax.random.normal(keys[0], (12, 16), jnp.float32),
            "hidden": dense(keys[1], 32, 64),
            "logits": dense(keys[2], 64, 12, 0.5),
        }

    def forward(params: Any, tokens: Any) -> Any:
        x = params["embed"][tokens]
        before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return linear(params["logits"], jax.nn.relu(linear(params["hidden"], jnp.concatenate([x, before], axis=-1))))

    return Task(
        model=stateless(init, forward),
        loss=lambda logits, tokens: cross_entropy(logits, tokens).mean(axis=1),
        optimizer=optax.adam(1e-2),
        train=(rows[:320, :-1], rows[:320, 1:]),
        test=(rows[320:, :-1], rows[320:, 1:]),
        target=Tokens(12),
        batch_size=32,
        causal=True,
        name="language model",
    )


def contrastive_task(seed: int = 0) -> Task:
    """Two noisy views of each row must find each other in the batch: the loss compares examples, and says so."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, 8)).astype(np.float32)
    views = (rows + 0.1 * rng.normal(size=rows.shape)).astype(np.float32)

    def init(key: jax.Array) -> Any:
        return dense(key, 8, 8)

    def forward(params: Any, inputs: Any) -> Any:
        return {"a": linear(params, inputs["a"]), "b": linear(params, inputs["b"])}

    def loss(outputs: Any, targets: Any) -> Any:
        scores = outputs["a"] @ outputs["b"].T
        return cross_entropy(scores, jnp.arange(scores.shape[0]))

    return Task(
        model=stateless(init, forward),
        loss=loss,
        optimizer=optax.adam(5e-3),
        train=({"a": rows[:320], "b": views[:320]}, np.zeros(320, np.float32)),
        test=({"a": rows[320:], "b": views[320:]}, np.zeros(80, np.float32)),
        target=Unspecified(),
        batch_size=32,
        mixes_examples=True,
        name="contrastive",
    )


def three_parameters_task(seed: int = 0) -> Task:
    """A linear model of two inputs and a bias."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 2)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0]) + 0.5 + 0.05 * rng.normal(size=300)).astype(np.float32)
    return Task(
        model=stateless(lambda key: dense(key, 2, 1, 0.1), lambda p, x: linear(p, x)[:, 0]),
        loss=lambda outputs, values: jnp.square(outputs - values),
        optimizer=optax.sgd(0.1),
        train=(x[:240], y[:240]),
        test=(x[240:], y[240:]),
        target=Values(),
        batch_size=24,
        name="three parameters",
    )


HEALTHY: dict[str, Callable[[int], Task]] = {
    "digits": digits_task,
    "dropout": dropout_task,
    "batch_norm": batch_norm_task,
    "label_smoothing": label_smoothing_task,
    "class_weights": class_weights_task,
    "regression": regression_task,
    "large_target": large_target_task,
    "binary": binary_task,
    "multi_label": multi_label_task,
    "heads": heads_task,
    "autoencoder": autoencoder_task,
    "language_model": language_model_task,
    "contrastive": contrastive_task,
    "three_parameters": three_parameters_task,
}
