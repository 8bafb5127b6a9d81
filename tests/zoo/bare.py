"""Bare training steps as people write them, tiny and healthy, and the same with one fault."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.training.train_state import TrainState

import jaxrecipe as jr

SIZE, BATCH, FEATURES, CLASSES = 192, 16, 8, 3
Made = tuple[Callable[..., Any], Any, Any]


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and classes that follow from them."""
    rng = np.random.default_rng([seed, 3])
    x = rng.normal(size=(SIZE, FEATURES)).astype(np.float32)
    y = np.argmax(x[:, :CLASSES] + 0.1 * rng.normal(size=(SIZE, CLASSES)), axis=1).astype(np.int32)
    return x, y


def batches(*arrays: np.ndarray) -> list[Any]:
    """Tuples of arrays, one a batch."""
    made = [tuple(array[i : i + BATCH] for array in arrays) for i in range(0, len(arrays[0]), BATCH)]
    return [batch[0] if len(batch) == 1 else batch for batch in made]


def mlp(key: Any, sizes: tuple[int, ...] = (FEATURES, 16, CLASSES)) -> dict[str, Any]:
    """Parameters of a multilayer perceptron."""
    keys = jax.random.split(key, len(sizes) - 1)
    return {
        f"layer_{i}": {
            "w": jax.random.normal(keys[i], (sizes[i], sizes[i + 1])) * jnp.sqrt(2.0 / sizes[i]).astype(jnp.float32),
            "b": jnp.zeros(sizes[i + 1]),
        }
        for i in range(len(sizes) - 1)
    }


def forward(params: Any, x: Any) -> Any:
    """The perceptron."""
    for index in range(len(params)):
        layer = params[f"layer_{index}"]
        x = x @ layer["w"] + layer["b"]
        x = jax.nn.relu(x) if index < len(params) - 1 else x
    return x


def cross_entropy(params: Any, x: Any, y: Any) -> Any:
    """Mean cross entropy of the perceptron."""
    return optax.softmax_cross_entropy_with_integer_labels(forward(params, x), y).mean()


def in_pieces(
    seed: int = 0, *, optimizer: Any = None, loss: Any = cross_entropy, edit: Any = None, params: Any = None
) -> Made:
    """`step(params, opt_state, batch)`; `edit(old, new)` changes the new `(params, opt_state, loss)`."""
    tx = optimizer or optax.adam(1e-2)
    params = mlp(jax.random.key(seed)) if params is None else params

    @jax.jit
    def step(params: Any, opt_state: Any, batch: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, new_state = tx.update(grads, opt_state, params)
        new = optax.apply_updates(params, updates), new_state, value
        return new if edit is None else edit((params, opt_state), new)

    return step, (params, tx.init(params)), batches(*data(seed))


def train_state(seed: int = 0) -> Made:
    """A Flax TrainState with momentum and a warm-up."""
    schedule = optax.linear_schedule(0.0, 0.1, 10)
    state = TrainState.create(
        apply_fn=forward,
        params=mlp(jax.random.key(seed)),
        tx=optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(schedule, 0.9)),
    )

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Any) -> Any:
        loss, grads = jax.value_and_grad(cross_entropy)(state.params, batch["x"], batch["label"])
        return state.apply_gradients(grads=grads), {"loss": loss, "step": state.step}

    return step, jax.tree.map(jnp.array, state), [{"x": x, "label": y} for x, y in batches(*data(seed))]


class Net(nnx.Module):
    """A perceptron with batch normalization and dropout."""

    def __init__(self, rngs: nnx.Rngs):
        """Two layers."""
        self.first = nnx.Linear(FEATURES, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(16, CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Logits."""
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def nnx_in_place(seed: int = 0) -> Made:
    """A Flax NNX model and optimizer, changed in place."""
    model = Net(nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        def loss_of(model: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(model(batch[0]), batch[1]).mean()

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    return step, (model, optimizer), batches(*data(seed))


def equinox_module(seed: int = 0) -> Made:
    """An Equinox module with dropout, whose key comes from outside."""
    model = eqx.nn.MLP(FEATURES, CLASSES, 16, 1, key=jax.random.key(seed))
    drop, tx = eqx.nn.Dropout(0.2), optax.adamw(1e-2)

    @eqx.filter_jit
    def step(model: Any, opt_state: Any, x: Any, y: Any, key: Any) -> Any:
        def loss_of(model: Any) -> Any:
            logits = jax.vmap(model)(drop(x, key=key))
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        loss, grads = eqx.filter_value_and_grad(loss_of)(model)
        updates, opt_state = tx.update(grads, opt_state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), opt_state, loss

    return step, (model, tx.init(eqx.filter(model, eqx.is_array))), batches(*data(seed))


def policy_gradient(seed: int = 0) -> Made:
    """A step on whole rollouts: observations, actions and advantages `[time, environments]`, and a coefficient."""
    tx, rng = optax.adam(3e-3), np.random.default_rng(seed)
    params = mlp(jax.random.key(seed))

    @jax.jit
    def step(state: Any, rollout: Any) -> Any:
        def loss_of(params: Any) -> Any:
            chosen = jax.nn.log_softmax(forward(params, rollout["obs"]))
            picked = jnp.take_along_axis(chosen, rollout["action"][..., None], -1)[..., 0]
            entropy = -(jnp.exp(chosen) * chosen).sum(-1).mean()
            return -(picked * rollout["advantage"]).mean() - rollout["coefficient"] * entropy

        loss, grads = jax.value_and_grad(loss_of)(state["params"])
        updates, opt = tx.update(grads, state["opt"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}, {"policy_loss": loss}

    rollouts = [
        {
            "obs": rng.normal(size=(6, 4, FEATURES)).astype(np.float32),
            "action": rng.integers(0, CLASSES, (6, 4)).astype(np.int32),
            "advantage": rng.normal(size=(6, 4)).astype(np.float32),
            "coefficient": np.float32(0.01),
        }
        for _ in range(12)
    ]
    return step, {"params": params, "opt": tx.init(params)}, rollouts


def adversarial(seed: int = 0) -> Made:
    """Two networks and two optimizers, with a key for the noise."""
    keys, rng = jax.random.split(jax.random.key(seed)), np.random.default_rng(seed)
    gen, disc = mlp(keys[0], (4, 16, 2)), mlp(keys[1], (2, 16, 1))
    tx = optax.adam(1e-3)

    @jax.jit
    def step(gen: Any, disc: Any, gen_opt: Any, disc_opt: Any, real: Any, key: Any) -> Any:
        noise = jax.random.normal(key, (real.shape[0], 4))

        def d_loss(disc: Any) -> Any:
            fake = forward(disc, forward(gen, noise))
            return jax.nn.softplus(-forward(disc, real)).mean() + jax.nn.softplus(fake).mean()

        def g_loss(gen: Any) -> Any:
            return jax.nn.softplus(-forward(disc, forward(gen, noise))).mean()

        d, d_grads = jax.value_and_grad(d_loss)(disc)
        g, g_grads = jax.value_and_grad(g_loss)(gen)
        d_updates, disc_opt = tx.update(d_grads, disc_opt)
        g_updates, gen_opt = tx.update(g_grads, gen_opt)
        new = optax.apply_updates(gen, g_updates), optax.apply_updates(disc, d_updates), gen_opt, disc_opt
        return *new, {"d_loss": d, "g_loss": g}

    real = (rng.normal(size=(SIZE, 2)) * [1.0, 0.2] + [2.0, -1.0]).astype(np.float32)
    return step, (gen, disc, tx.init(gen), tx.init(disc)), batches(real)


def variational(seed: int = 0, *, reports: Callable[[Any], Any] = lambda loss: {"loss": loss}) -> Made:
    """A variational autoencoder on pictures that come with labels that it does not use."""
    keys, tx = jax.random.split(jax.random.key(seed)), optax.adam(3e-3)
    params = {"encoder": mlp(keys[0], (FEATURES, 16, 4)), "decoder": mlp(keys[1], (2, 16, FEATURES))}

    @jax.jit
    def step(params: Any, opt_state: Any, x: Any, label: Any, key: Any) -> Any:
        del label

        def loss_of(params: Any) -> Any:
            mean, log_var = jnp.split(forward(params["encoder"], x), 2, axis=-1)
            z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
            error = jnp.square(forward(params["decoder"], z) - x).sum(-1)
            return (error + 0.5 * (jnp.exp(log_var) + mean**2 - 1.0 - log_var).sum(-1)).mean()

        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, reports(loss)

    return step, (params, tx.init(params)), batches(*data(seed))


def diffusion(seed: int = 0, *, constant_key: bool = False) -> Made:
    """A denoiser that predicts the noise, with an average of the weights in its state."""
    tx, params = optax.adam(2e-3), mlp(jax.random.key(seed), (FEATURES + 1, 32, FEATURES))
    rng = np.random.default_rng(seed)

    @jax.jit
    def step(state: Any, x: Any, key: Any) -> Any:
        times, noises = jax.random.split(jax.random.key(0) if constant_key else key)
        t = jax.random.uniform(times, (x.shape[0], 1))
        noise = jax.random.normal(noises, x.shape)

        def loss_of(params: Any) -> Any:
            noisy = jnp.sqrt(1.0 - t) * x + jnp.sqrt(t) * noise
            return jnp.square(forward(params, jnp.concatenate([noisy, t], -1)) - noise).mean()

        loss, grads = jax.value_and_grad(loss_of)(state["params"])
        updates, opt = tx.update(grads, state["opt"])
        new = optax.apply_updates(state["params"], updates)
        average = jax.tree.map(lambda old, now: 0.99 * old + 0.01 * now, state["ema"], new)
        return {"params": new, "opt": opt, "ema": average}, {"loss": loss}

    x = (rng.normal(size=(SIZE, 1)) * np.ones(FEATURES)).astype(np.float32)
    first = {"params": params, "opt": tx.init(params), "ema": jax.tree.map(jnp.array, params)}
    return step, first, batches(x)


def contrastive(seed: int = 0) -> Made:
    """Pairs of views against the other pairs of the batch."""
    tx, params = optax.adam(5e-3), mlp(jax.random.key(seed), (FEATURES, 16, 8))
    rng = np.random.default_rng(seed)

    @jax.jit
    def step(params: Any, opt_state: Any, batch: Any) -> Any:
        def loss_of(params: Any) -> Any:
            one, two = (forward(params, batch[name]) for name in ("first", "second"))
            one, two = (v / jnp.linalg.norm(v + 1e-6, axis=-1, keepdims=True) for v in (one, two))
            return optax.softmax_cross_entropy_with_integer_labels(one @ two.T / 0.2, jnp.arange(len(one))).mean()

        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, loss

    x = rng.normal(size=(SIZE, FEATURES)).astype(np.float32)
    near = x + 0.1 * rng.normal(size=x.shape).astype(np.float32)
    return step, (params, tx.init(params)), [{"first": a, "second": b} for a, b in batches(x, near)]


def collecting(seed: int = 0) -> Made:
    """Gradients of four batches make one update."""
    return in_pieces(seed, optimizer=optax.MultiSteps(optax.adam(2e-2), 4))


def fine_tuning(seed: int = 0) -> Made:
    """A frozen first layer: its gradient is stopped."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        return cross_entropy({**params, "layer_0": jax.lax.stop_gradient(params["layer_0"])}, x, y)

    return in_pieces(seed, loss=loss)


HEALTHY: dict[str, Callable[[int], Made]] = {
    "in pieces": in_pieces,
    "TrainState": train_state,
    "NNX": nnx_in_place,
    "Equinox": equinox_module,
    "policy gradient": policy_gradient,
    "adversarial": adversarial,
    "variational": variational,
    "diffusion": diffusion,
    "contrastive": contrastive,
    "collecting gradients": collecting,
    "fine-tuning": fine_tuning,
}
"""Each a function of a seed."""


def task_of(made: Made, **facts: Any) -> jr.Task:
    """The task of a bare step."""
    return jr.Task.from_step(*made, **facts)
