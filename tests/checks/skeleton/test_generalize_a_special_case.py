"""A batch against its examples one by one: model, loss, metrics, prepare, augment, and the weights of the classes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.generalize_a_special_case import generalize_a_special_case
from jaxrecipe.checks.skeleton.generalize_a_special_case.class_weights import ClassWeights
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Classes
from jaxrecipe.task import Loop, Task
from tests.zoo import broken, modes
from tests.zoo import sequences as s
from tests.zoo.healthy import (
    HEALTHY,
    binary_task,
    cross_entropy,
    dense,
    digits_task,
    linear,
    regression_task,
    stateless,
    three_parameters_task,
)

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def imbalanced(order: Any = None, *, power: float = 1.0, weighted: bool = True) -> Task:
    """Four classes, each half as frequent as the one before; the loss weighs them by a power of their counts, in some order."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), [320, 160, 80, 40])).astype(np.int32)
    x = (rng.normal(size=(600, 5)) + labels[:, None]).astype(np.float32)
    counts = np.bincount(labels)
    weights = counts**-power / np.mean(counts**-power) if weighted else np.ones(4)
    weights = jnp.asarray(weights if order is None else weights[np.asarray(order)], jnp.float32)
    return Task(
        model=stateless(lambda key: dense(key, 5, 4), linear),
        loss=lambda logits, y: weights[y] * cross_entropy(logits, y),
        optimizer=digits_task().optimizer,
        train=(x, labels),
        target=Classes(4),
        batch_size=40,
        name="imbalanced",
    )


def competing_labels() -> Task:
    task = HEALTHY["multi_label"](0)
    return task.replace(loss=lambda outputs, labels: -(labels * jax.nn.log_softmax(outputs)).sum(axis=-1))


def by_place() -> Task:
    """A table of weights that is indexed by the place in the batch instead of the label."""
    table = jnp.linspace(0.5, 1.5, 500, dtype=jnp.float32)
    return digits_task().replace(loss=lambda logits, y: table[: len(y)] * cross_entropy(logits, y))


def rare_positives(weights: tuple[float, float]) -> Task:
    task = binary_task()
    table = jnp.asarray(weights, jnp.float32)
    return task.replace(loss=lambda logits, y: table[y.astype(jnp.int32)] * task.loss(logits, y))


def augmented(change: Callable[[Any, Any, Any], Any]) -> Task:
    return three_parameters_task().replace(augment=change)


def flip(key: Any, x: Any, y: Any) -> Any:
    sign = jnp.where(jax.random.bernoulli(key, 0.5, (len(x), 1)), 1.0, -1.0)
    return x * sign, y


def mixup(key: Any, x: Any, y: Any, *, targets: bool = True) -> Any:
    order = jnp.roll(jnp.arange(len(x)), 1)
    return 0.7 * x + 0.3 * x[order], (0.7 * y + 0.3 * y[order] if targets else y)


def summing_loop(task: Task) -> Task:
    """A step of one's own that differentiates and reports the sum over the batch."""
    plain = modes.hand_loop(task).loop
    if plain is None:
        raise AssertionError("hand_loop gives a loop")

    def step(state: Any, inputs: Any, targets: Any, key: Any) -> Any:
        state, metrics = plain.step(state, inputs, targets, key)
        return state, {"loss": metrics["loss"] * len(targets)}

    return task.replace(loop=Loop(init=plain.init, step=step, variables=plain.variables))


def scaled_by_batch(x: Any, y: Any) -> Any:
    x = x.astype(jnp.float32)
    return (x - x.mean()) / x.std(), y


def softmax_over_time(logits: Any, tokens: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=1), tokens[..., None], axis=-1)
    return -chosen[..., 0].mean(axis=1)


def squared(outputs: Any, values: Any) -> Any:
    return jnp.square(outputs - values)


CASES = {
    "digits": (digits_task, P, ""),
    "heads": (HEALTHY["heads"], P, ""),
    "contrastive": (HEALTHY["contrastive"], Status.SKIP, ""),
    "tokens": (s.transformer_task, P, ""),
    "one by one augmentation": (lambda: augmented(flip), P, ""),
    "mixup, declared": (lambda: augmented(mixup).replace(mixes_examples=True), Status.SKIP, ""),
    "a hand-written loop": (lambda: modes.hand_loop(digits_task()), P, ""),
    "weights in order": (imbalanced, P, ""),
    "root weights in order": (lambda: imbalanced(power=0.5), P, ""),
    "no weights": (lambda: imbalanced(weighted=False), P, ""),
    "weights of one's own": (HEALTHY["class_weights"], P, ""),
    "rare positives weigh more": (lambda: rare_positives((1.0, 9.0)), P, ""),
    "prepare by the batch": (lambda: digits_task(prepare=scaled_by_batch), F, "once, over the training data"),
    "model": (lambda: broken.before_model(three_parameters_task(), lambda x: x - x.mean(axis=0)), F, "at evaluation"),
    "reversed": (lambda: broken.after_model(three_parameters_task(), lambda x: x[::-1]), F, "at evaluation"),
    "squeeze": (lambda: broken.after_model(HEALTHY["multi_label"](0), jnp.squeeze), F, "squeeze"),
    "sum": (lambda: three_parameters_task().replace(loss=lambda o, y: squared(o, y) * len(y)), F, "sum over the batch"),
    "divided twice": (
        lambda: three_parameters_task().replace(loss=lambda o, y: squared(o, y) / len(y)),
        F,
        "once more",
    ),
    "reduced": (
        lambda: three_parameters_task().replace(loss=lambda o, y: jnp.full(len(y), squared(o, y).mean())),
        F,
        "wrong axis",
    ),
    "broadcast": (broken.column_against_row, F, "(N, 1) against (N,)"),
    "batch softmax": (broken.batch_softmax, F, "axis"),
    "softmax over time": (lambda: s.transformer_task(loss=softmax_over_time), F, "axis 1"),
    "softmax over time in the model": (
        lambda: broken.after_model(s.transformer_task(), lambda x: jax.nn.log_softmax(x, axis=1)),
        F,
        "axis 1",
    ),
    "metric": (
        lambda: three_parameters_task().replace(metrics={"error": lambda o, y: jnp.full(len(y), squared(o, y).mean())}),
        F,
        "metric",
    ),
    "inputs shuffled": (lambda: augmented(lambda key, x, y: (jnp.roll(x, 1, axis=0), y)), F, "shuffle of the inputs"),
    "both shuffled": (lambda: augmented(lambda key, x, y: (jnp.roll(x, 1, axis=0), jnp.roll(y, 1))), P, ""),
    "mixup, not declared": (lambda: augmented(mixup), W, "mixup"),
    "inputs mixed": (lambda: augmented(lambda key, x, y: mixup(key, x, y, targets=False)), W, "not their targets"),
    "the step sums": (lambda: summing_loop(digits_task()), F, "sums over the batch"),
    "softmax over labels": (competing_labels, W, "do not exclude each other"),
    "weights by place": (by_place, F, "place in the batch"),
    "weights reversed": (lambda: imbalanced([3, 2, 1, 0]), F, "misordered"),
    "weights shifted": (lambda: imbalanced([1, 2, 3, 0]), F, "misordered"),
    "weights by counts": (lambda: imbalanced(power=-1.5), W, "favour frequent"),
    "rare positives weigh less": (lambda: rare_positives((30.0, 1.0)), W, "favour frequent"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, hint = CASES[case]
    result = run(generalize_a_special_case, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert hint in result.hint


def test_a_looser_tolerance_lets_a_small_difference_pass(run: Callable[..., Result]) -> None:
    task = broken.before_model(regression_task(), lambda x: x + 1e-3 * x.mean(axis=0))
    assert run(generalize_a_special_case, task, tolerance=1e-6).status is F
    assert run(generalize_a_special_case, task, tolerance=1.0).status is P


@pytest.mark.parametrize("seed", range(5))
def test_weights_of_any_kind_are_not_called_misordered(seed: int) -> None:
    """Weights that have nothing to do with the counts are the user's affair; inverse counts of a noisy sample are in order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 2000, size=10)
    by_taste = rng.uniform(0.5, 2.0, size=10)
    in_order = 1 / (counts * rng.uniform(0.98, 1.02, size=10))
    assert not ClassWeights(by_taste / by_taste.mean(), counts).misordered
    assert not ClassWeights(in_order / in_order.mean(), counts).misordered
    assert not ClassWeights(in_order / in_order.mean(), counts).inverted
    permuted = rng.permutation(1 / counts)
    assert ClassWeights(permuted / permuted.mean(), counts).misordered
