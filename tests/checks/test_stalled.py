"""What a run that does not learn a few examples by heart is put down to, and batches of one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import SINGLES, learn, relative_change
from jaxrecipe.report.result import Result, Status
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.broken import after_model
from tests.zoo.healthy import dense, digits_task, flat, language_model_task, linear, regression_task, stateless


def deep_sigmoids() -> Task:
    """Eleven layers, sigmoids between them, small weights: all examples look alike at the end."""

    def init(key: jax.Array) -> dict:
        return {f"layer_{i}": dense(jax.random.fold_in(key, i), 64, 64 if i < 10 else 10) for i in range(11)}

    def forward(params: dict, x: jax.Array) -> jax.Array:
        x = flat(x)
        for i in range(10):
            x = jax.nn.sigmoid(linear(params[f"layer_{i}"], x))
        return linear(params["layer_10"], x)

    return digits_task().replace(model=stateless(init, forward))


def class_numbers() -> Task:
    """Squared error between every logit and the number of the class."""
    return digits_task().replace(
        loss=lambda logits, labels: jnp.square(logits - labels[:, None].astype(jnp.float32)).mean(axis=-1)
    )


def swamped() -> Task:
    return digits_task().replace(optimizer=optax.adamw(2e-3, weight_decay=40.0))


def run_down() -> Task:
    """A cosine decay over 15 steps, where 15 epochs were meant."""
    return digits_task().replace(optimizer=optax.adam(optax.cosine_decay_schedule(1e-3, 15)))


def noisy_steps() -> Task:
    """The optimizer adds noise that swamps the gradient; model and loss are sound."""
    return digits_task().replace(optimizer=optax.chain(optax.scale(-1e-3), optax.add_noise(4e-5, 0.0, 0)))


def tanh_on_logits() -> Task:
    return after_model(digits_task(), jnp.tanh)


def softplus_on_values() -> Task:
    return after_model(regression_task(), jax.nn.softplus)


BROKEN = [
    (tanh_on_logits, "cannot leave [-1, 1]"),
    (softplus_on_values, "and above"),
    (deep_sigmoids, "A sigmoid stands in mid-network"),
    (class_numbers, "number of the class"),
    (swamped, "Weight decay swamps"),
    (run_down, "counted in epochs"),
    (noisy_steps, "Plain Adam learns the same examples"),
]


@pytest.mark.parametrize(("make", "told"), BROKEN, ids=[make.__name__ for make, _ in BROKEN])
def test_the_cause_is_named(run: Callable[..., Result], make: Callable[[], Task], told: str) -> None:
    result = run(overfit_one_batch, make())
    assert result.status is Status.FAIL, result.headline
    assert told in result.hint, result.hint


@pytest.mark.parametrize("make", [digits_task, language_model_task], ids=["digits", "language model"])
def test_a_batch_of_one_is_learnt_in_turn(run: Callable[..., Result], make: Callable[[], Task]) -> None:
    """With a single example a constant output is perfect, and there would be no gap to close."""
    result = run(overfit_one_batch, make().replace(batch_size=1))
    assert result.status is Status.PASS, f"{result.headline} {result.hint}"


def test_a_batch_of_one_at_too_high_a_rate_is_told_from_a_model_that_cannot_learn(run: Callable[..., Result]) -> None:
    """Each step drives out what the others have learnt: only the batch is at fault."""
    task = regression_task().replace(batch_size=1, optimizer=optax.sgd(0.3))
    result = run(overfit_one_batch, task, steps=300)
    assert result.status is Status.FAIL
    assert "larger batch" in result.hint or "learning rate is too high" in result.hint, result.hint


def test_the_examples_of_single_batches_differ_and_are_all_measured() -> None:
    setup = make_setup(digits_task().replace(batch_size=1))
    run = learn(setup, jax.random.key(0), examples=8, closed=0.95, steps=3, patience=200, seconds=5.0)
    assert len(run.batches) == SINGLES == len(run.inputs) == len(run.outputs)
    assert all(len(inputs) == 1 for inputs, _ in run.batches)
    assert np.array_equal(np.concatenate([inputs for inputs, _ in run.batches]), run.inputs)
    assert len(run.moved) == 3 == len(run.steps) - 1


def test_relative_change_against_numpy() -> None:
    before = {"a": jnp.asarray([3.0, 4.0]), "b": jnp.zeros((2, 2))}
    after = {"a": jnp.asarray([3.0, 4.5]), "b": jnp.full((2, 2), 0.25)}
    assert relative_change(before, after) == pytest.approx(np.sqrt(0.25 + 4 * 0.0625) / 5.0)
    assert relative_change(before, before) == 0.0


def test_a_model_that_cannot_express_the_targets_is_not_blamed_on_the_optimizer(run: Callable[..., Result]) -> None:
    """All inputs enter as zeros but for a speck: only a constant can be learnt."""

    def init(key: jax.Array) -> dict:
        return {"logits": dense(key, 1, 10)}

    def forward(params: dict, x: jax.Array) -> jax.Array:
        return linear(params["logits"], jnp.tanh(flat(x).sum(axis=1, keepdims=True) / 300.0))

    task = digits_task().replace(model=stateless(init, forward))
    result = run(overfit_one_batch, task, steps=400)
    assert result.status is not Status.PASS
    assert "Plain Adam does not learn them either" in result.hint or "learning rate" in result.hint, result.hint
