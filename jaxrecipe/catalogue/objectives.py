"""Healthy set-ups whose costs are no loss of outputs and targets: they draw, weight their examples, have more terms."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import bases, models, real_data
from jaxrecipe.catalogue.bases.preparing import cross_entropy
from jaxrecipe.parts import NO_LOSS, Costs, Model
from jaxrecipe.targets import Unspecified
from jaxrecipe.task import Task

LATENT = 8
"""Numbers that the variational autoencoder keeps of a row."""


class Vae(nn.Module):
    """Mean and log-variance of a Gaussian of the latent numbers, and the row that is decoded from a draw."""

    columns: int

    @nn.compact
    def __call__(self, rows: Any, key: Any = None) -> tuple[Any, Any, Any]:
        """`(decoded, mean, log_variance)`; the mean is decoded where there is no key."""
        code = nn.Dense(2 * LATENT)(nn.relu(nn.Dense(64)(rows)))
        mean, log_variance = jnp.split(code, 2, axis=-1)
        noise = 0.0 if key is None else jax.random.normal(key, mean.shape)
        drawn = mean + jnp.exp(log_variance / 2) * noise
        return nn.Dense(self.columns)(nn.relu(nn.Dense(64)(drawn))), mean, log_variance


def variational_autoencoder(seed: int, *, kl_sign: float = 1.0) -> Task:
    """A variational autoencoder of the table's rows: squared error of a decoded draw, and KL to a standard Gaussian."""
    (x, _), (x_test, _) = real_data.table(seed)
    module = Vae(columns=x.shape[1])

    def objective(params: Any, state: Any, rows: Any, _: Any, *, train: bool, key: Any) -> Costs:
        given: Any = module.apply({"params": params}, rows, key if train else None)
        decoded, mean, log_variance = given
        error = jnp.square(decoded - rows).sum(axis=1)
        kl = 0.5 * (jnp.exp(log_variance) + jnp.square(mean) - 1.0 - log_variance).sum(axis=1)
        return Costs(losses=error + kl_sign * kl, outputs=decoded, model_state=state, aux={"kl": kl.mean()})

    return Task(
        name="variational autoencoder",
        model=Model(lambda key, rows: (module.init(key, rows)["params"], {}), name="Vae"),
        objective=objective,
        optimizer=optax.adam(3e-3),
        train=(x, None),
        test=(x_test, None),
    )


def diffusion(seed: int) -> Task:
    """A model of the noise in rows of the table; time and noise are drawn inside of the objective."""
    (x, _), (x_test, _) = real_data.table(seed)
    model = linen(models.Dense(features=(128, 128), outputs=x.shape[1]))

    def objective(params: Any, state: Any, rows: Any, _: Any, *, train: bool, key: Any) -> Costs:
        times, noises, dropout = jax.random.split(key, 3)
        angle = jax.random.uniform(times, (rows.shape[0], 1)) * (jnp.pi / 2)
        noise = jax.random.normal(noises, rows.shape)
        noisy = jnp.concatenate([jnp.cos(angle) * rows + jnp.sin(angle) * noise, jnp.sin(angle)], axis=1)
        found, state = model.apply(params, state, noisy, train=train, key=dropout)
        return Costs(losses=jnp.square(found - noise).mean(axis=1), model_state=state)

    def init(key: Any, rows: Any) -> Any:
        return model.init(key, jnp.concatenate([rows, rows[:, :1]], axis=1))

    return Task(
        name="diffusion",
        model=Model(init, name="noise"),
        objective=objective,
        optimizer=optax.adam(2e-3),
        train=(x, None),
        test=(x_test, None),
        batch_size=64,
    )


def two_views(seed: int) -> Task:
    """Two noisy views of each row must find each other in the batch; the views are drawn inside of the objective."""
    (x, _), (x_test, _) = real_data.table(seed)
    model = linen(models.Dense(features=(64,), outputs=16))

    def objective(params: Any, state: Any, rows: Any, _: Any, *, train: bool, key: Any) -> Costs:
        views = [rows + 0.3 * jax.random.normal(one, rows.shape) for one in jax.random.split(key)]
        codes = [model.apply(params, state, view, train=train, key=None)[0] for view in views]
        one, other = (code / jnp.linalg.norm(code, axis=1, keepdims=True) for code in codes)
        pairs = one @ other.T / 0.2
        return Costs(losses=cross_entropy(pairs, jnp.arange(rows.shape[0])), outputs=one, model_state=state)

    return Task(
        name="two views",
        model=model,
        objective=objective,
        optimizer=optax.adam(2e-3),
        train=(x, None),
        test=(x_test, None),
        mixes_examples=True,
    )


def policy_gradient(seed: int) -> Task:
    """One action for each row, logged at random with its reward: the policy gradient with a constant baseline."""
    (x, y), (x_test, y_test) = real_data.table(seed)
    model = linen(models.Dense(features=(64,), outputs=3))

    def logged(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        actions = np.random.default_rng(seed).integers(0, 3, len(labels)).astype(np.int32)
        return {"action": actions, "reward": (actions == labels % 3).astype(np.float32)}

    def objective(params: Any, state: Any, rows: Any, taken: Any, *, train: bool, key: Any) -> Costs:
        logits, state = model.apply(params, state, rows, train=train, key=key)
        log_policy = -cross_entropy(logits, taken["action"])
        ratio = jnp.exp(jnp.clip(log_policy - jnp.log(1.0 / 3.0), -2.0, 1.0))
        return Costs(losses=-ratio * (taken["reward"] - 1.0 / 3.0), outputs=logits, model_state=state)

    return Task(
        name="policy gradient",
        model=model,
        objective=objective,
        optimizer=optax.adam(2e-3),
        train=(x, logged(y, seed)),
        test=(x_test, logged(y_test, seed + 1)),
        target=Unspecified(),
    )


def penalty_in_loss(seed: int) -> Task:
    """Cross entropy, and a penalty of the weights as a term of no example."""
    task = bases.table_mlp(seed)
    apply = task.model.apply

    def objective(params: Any, state: Any, rows: Any, labels: Any, *, train: bool, key: Any) -> Costs:
        logits, state = apply(params, state, rows, train=train, key=key)
        squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params))
        losses, extra = cross_entropy(logits, labels), {"penalty": 1e-4 * squares}
        return Costs(losses=losses, extra=extra, outputs=logits, model_state=state)

    return task.replace(loss=NO_LOSS, name="penalty in the loss", objective=objective)


def physics_informed(seed: int) -> Task:
    """The oscillation u'' = -u with u(0) = 0 and u'(0) = 1, by its residual: derivatives with respect to the inputs."""
    model = linen(models.Dense(features=(32, 32), outputs=1, activation=jnp.tanh))
    rng = np.random.default_rng(seed)
    times, more = (rng.uniform(0.0, 3.0, (size, 1)).astype(np.float32) for size in (512, 128))

    def objective(params: Any, state: Any, times: Any, _: Any, *, train: bool, key: Any) -> Costs:
        def position(time: Any) -> Any:
            return time + time**2 * model.apply(params, state, time[None, None], train=train, key=key)[0][0, 0]

        acceleration = jax.vmap(jax.grad(jax.grad(position)))(times[:, 0])
        found = jax.vmap(position)(times[:, 0])
        return Costs(losses=jnp.square(acceleration + found), outputs=found, model_state=state)

    return Task(
        name="physics-informed",
        model=model,
        objective=objective,
        optimizer=optax.adam(3e-3),
        train=(times, None),
        test=(more, None),
    )


def token_weighted(seed: int) -> Task:
    """The language model on padded phrases, whose cost is the mean over all tokens of a batch."""
    task = bases.padded_transformer(seed)
    apply = task.model.apply

    def objective(params: Any, state: Any, tokens: Any, following: Any, *, train: bool, key: Any) -> Costs:
        logits, state = apply(params, state, tokens, train=train, key=key)
        mask = (following != 0).astype(jnp.float32)
        count = mask.sum(axis=1)
        losses = (cross_entropy(logits, following) * mask).sum(axis=1) / jnp.maximum(count, 1.0)
        return Costs(losses=losses, weights=count, outputs=logits, model_state=state)

    return task.replace(loss=NO_LOSS, name="mean over tokens", objective=objective)
