"""simplify: what is on is listed, what acts at evaluation fails."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxrecipe.checks.skeleton.simplify import simplify
from jaxrecipe.parts import Model
from jaxrecipe.precision.loss_scale import dynamic_loss_scale
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.task import Task
from tests.zoo.broken import reshape_for_transpose
from tests.zoo.healthy import batch_norm_task, contrastive_task, digits_task, dropout_task
from tests.zoo.loops import evaluating, loop_with

F, W, P = Status.FAIL, Status.WARN, Status.PASS
EPOCH = 45


def rolled(key: Any, inputs: Any, targets: Any) -> Any:
    shift = jax.random.randint(key, (inputs.shape[0],), 2, 6)
    return jax.vmap(lambda image, by: jnp.roll(image, by, axis=1))(inputs, shift), targets


def schedule_task(schedule: Any) -> Task:
    return digits_task(optimizer=optax.adam(schedule))


def everything_task() -> Task:
    schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, EPOCH, 50 * EPOCH)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2))
    return dropout_task().replace(
        optimizer=optimizer, augment=rolled, policy="float16", loss_scale=dynamic_loss_scale()
    )


def augmenting_prepare_task() -> Task:
    def prepare(inputs: Any, targets: Any) -> Any:
        return rolled(jax.random.key(3), (inputs.astype(jnp.float32) - 4.9) / 6.0, targets)

    return digits_task(prepare=prepare)


def strong_dropout_task() -> Task:
    task = digits_task()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, state = task.model.apply(params, state, inputs, train=train, key=key)
        if train:
            outputs = jnp.where(jax.random.bernoulli(key, 0.03, outputs.shape), outputs / 0.03, 0.0)
        return outputs, state

    return task.replace(model=Model(task.model.init, apply))


def fixed_noise_task() -> Task:
    """Dropout with a key of its own, never off."""
    task = digits_task()

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        keep = jax.random.bernoulli(jax.random.key(1), 0.5, inputs.shape)
        return task.model.apply(params, state, jnp.where(keep, inputs, 0.0), train=train, key=key)

    return task.replace(model=Model(task.model.init, apply))


def predicting(task: Task, change: Callable[[Any], Any]) -> Task:
    """The task with a loop whose predict does something to its inputs."""
    task = loop_with(task)
    if task.loop is None:
        raise TypeError("the task has a loop")

    def predict(state: Any, inputs: Any) -> Any:
        return task.model.apply(state["params"], state["stats"], change(inputs), train=False, key=None)[0]

    return task.replace(loop=replace(task.loop, predict=predict))


draws = iter(range(1000))
CASES: list[tuple[Callable[[], Task], Status, str]] = [
    (digits_task, P, ""),
    (batch_norm_task, P, ""),
    (contrastive_task, P, ""),
    (dropout_task, P, "dropout or other noise"),
    (lambda: digits_task(augment=rolled), P, "augmentation"),
    (lambda: digits_task(augment=lambda _key, inputs, targets: (inputs, targets)), P, ""),
    (lambda: digits_task(optimizer=optax.adamw(1e-3)), P, "weight decay"),
    (
        lambda: digits_task(optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))),
        P,
        "gradient clipping",
    ),
    (
        lambda: digits_task(optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))),
        P,
        "gradient clipping",
    ),
    (lambda: digits_task(optimizer=optax.lion(1e-4, weight_decay=0.0)), P, ""),
    (lambda: digits_task(optimizer=optax.sgd(0.1, momentum=0.9)), P, ""),
    (lambda: schedule_task(optax.cosine_decay_schedule(2e-3, 20 * EPOCH)), P, "learning-rate schedule"),
    (lambda: schedule_task(optax.linear_schedule(0.0, 2e-3, EPOCH)), P, "learning-rate schedule"),
    (lambda: predicting(digits_task(), lambda inputs: inputs), P, "averaged parameters"),
    (lambda: evaluating(digits_task(augment=rolled)), P, "augmentation"),
    (reshape_for_transpose, P, ""),
    (everything_task, W, "step/too-much-switched-on"),
    (lambda: schedule_task(optax.cosine_decay_schedule(2e-3, 60)), W, "optimizer/schedule-run-down"),
    (lambda: schedule_task(lambda step: 2e-3 * jnp.minimum(step // EPOCH, 5) / 5), W, "optimizer/warm-up-too-long"),
    (lambda: schedule_task(optax.linear_schedule(0.0, 2e-3, 300 * 1438)), W, "optimizer/warm-up-too-long"),
    (lambda: schedule_task(optax.linear_schedule(0.0, 2e-3, 1000)), P, "learning-rate schedule"),
    (lambda: digits_task(optimizer=optax.adamw(2e-3, weight_decay=100.0)), W, "optimizer/weight-decay-too-strong"),
    (lambda: digits_task(optimizer=optax.adamw(2e-3, weight_decay=0.1)), P, "weight decay"),
    (strong_dropout_task, W, "model/dropout-too-strong"),
    (augmenting_prepare_task, F, "evaluation/augmented"),
    (fixed_noise_task, F, "evaluation/random"),
    (lambda: evaluating(digits_task(augment=rolled), "augments"), F, "evaluation/augmented"),
    (lambda: evaluating(dropout_task(), "random"), F, "evaluation/random"),
    (
        lambda: predicting(digits_task(augment=rolled), lambda inputs: rolled(jax.random.key(8), inputs, None)[0]),
        F,
        "evaluation/augmented",
    ),
    (
        lambda: predicting(digits_task(), lambda inputs: rolled(jax.random.key(next(draws)), inputs, None)[0]),
        F,
        "evaluation/random",
    ),
]


@pytest.mark.parametrize(("make", "status", "told"), CASES, ids=range(len(CASES)))
def test_the_status_and_what_is_on(
    run: Callable[..., Result], make: Callable[[], Task], status: Status, told: str
) -> None:
    """On PASS `told` is what is on, otherwise the code of the worst finding."""
    result = run(simplify, make())
    assert result.status is status, f"{result.headline}"
    if status is not P:
        assert result.codes[0] == told
    on = [row[0] for table in result.evidence if isinstance(table, Table) for row in table.rows]
    assert status is not P or (
        told in on if told else make is reshape_for_transpose or not on or on[0] == "augmentation"
    )


def test_everything_is_listed(run: Callable[..., Result]) -> None:
    names = set(run(simplify, everything_task()).measured)
    assert names >= {
        "augmentation",
        "dropout or other noise",
        "learning-rate schedule",
        "weight decay",
        "gradient clipping",
        "reduced precision",
        "loss scale",
    }


def test_the_threshold_moves_the_verdict(run: Callable[..., Result]) -> None:
    assert run(simplify, dropout_task(), most=0).status is W
