"""A batch against its examples one by one: model, loss, metrics, prepare, augment, and the weights of the classes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.skeleton.generalize_a_special_case import generalize_a_special_case
from jaxrecipe.parts import Loop, Model
from jaxrecipe.report.result import Result, Status
from jaxrecipe.targets import Classes
from jaxrecipe.task import Task
from tests.zoo import broken, modes
from tests.zoo import sequences as s
from tests.zoo.healthy import (
    HEALTHY,
    binary_task,
    cross_entropy,
    dense,
    digits_task,
    linear,
    mlp_model,
    regression_task,
    stateless,
    three_parameters_task,
)

F, W, P = Status.FAIL, Status.WARN, Status.PASS


def imbalanced(order: Any = None, *, power: float = 1.0, weighted: bool = True) -> Task:
    """Four classes, each half as frequent as the one before; the loss weighs them by a power of their counts, in some
    order."""
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


def in_a_mapping(task: Task) -> Task:
    """The same task with targets, outputs and declaration under one name."""
    model, loss, named = task.model, task.loss, lambda pair: (pair[0], {"it": pair[1]})
    prepare = task.prepare

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        outputs, state = model.apply(params, state, inputs, train=train, key=key)
        return {"it": outputs}, state

    return task.replace(
        model=Model(model.init, apply),
        loss=lambda outputs, targets: loss(outputs["it"], targets["it"]),
        train=named(task.train),
        test=None,
        prepare=None if prepare is None else lambda x, y: named(prepare(x, y["it"])),
        target={"it": task.target},
    )


def half_precision() -> Task:
    """A model that computes in bfloat16 whatever the policy says, wide enough that a batch of one rounds otherwise."""
    task = digits_task(model=mlp_model(width=512))
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> Any:
        half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, inputs))
        outputs, state = model.apply(half[0], state, half[1], train=train, key=key)
        return outputs.astype(jnp.float32), state

    return task.replace(model=Model(model.init, apply))


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
    "prepare by the batch": (lambda: digits_task(prepare=scaled_by_batch), F, "model/prepare-mixes-examples"),
    "model": (
        lambda: broken.before_model(three_parameters_task(), lambda x: x - x.mean(axis=0)),
        F,
        "model/normalizes-over-batch",
    ),
    "reversed": (
        lambda: broken.after_model(three_parameters_task(), lambda x: x[::-1]),
        F,
        "model/reshape-for-transpose",
    ),
    "squeeze": (lambda: broken.after_model(HEALTHY["multi_label"](0), jnp.squeeze), F, "model/batch-size-fixed"),
    "sum": (
        lambda: three_parameters_task().replace(loss=lambda o, y: squared(o, y) * len(y)),
        F,
        "loss/sum-instead-of-mean",
    ),
    "divided twice": (
        lambda: three_parameters_task().replace(loss=lambda o, y: squared(o, y) / len(y)),
        F,
        "loss/divided-twice",
    ),
    "reduced": (
        lambda: three_parameters_task().replace(loss=lambda o, y: jnp.full(len(y), squared(o, y).mean())),
        F,
        "loss/wrong-axis",
    ),
    "broadcast": (broken.column_against_row, F, "loss/broadcast"),
    "batch softmax": (broken.batch_softmax, F, "loss/softmax-over-batch"),
    "softmax over time": (lambda: s.transformer_task(loss=softmax_over_time), F, "loss/softmax-over-batch"),
    "softmax over time in the model": (
        lambda: broken.after_model(s.transformer_task(), lambda x: jax.nn.log_softmax(x, axis=1)),
        F,
        "loss/softmax-over-batch",
    ),
    "metric": (
        lambda: three_parameters_task().replace(metrics={"error": lambda o, y: jnp.full(len(y), squared(o, y).mean())}),
        F,
        "loss/metric-mixes-examples",
    ),
    "inputs shuffled": (
        lambda: augmented(lambda key, x, y: (jnp.roll(x, 1, axis=0), y)),
        F,
        "step/augmentation-misaligns",
    ),
    "both shuffled": (lambda: augmented(lambda key, x, y: (jnp.roll(x, 1, axis=0), jnp.roll(y, 1))), P, ""),
    "mixup, not declared": (lambda: augmented(mixup), W, "step/augmentation-mixes-examples"),
    "inputs mixed": (
        lambda: augmented(lambda key, x, y: mixup(key, x, y, targets=False)),
        W,
        "step/augmentation-mixes-inputs",
    ),
    "the step sums": (lambda: summing_loop(digits_task()), F, "step/reports-sum"),
    "softmax over labels": (competing_labels, W, "loss/softmax-over-multilabel"),
    "weights by place": (by_place, F, "loss/weights-by-place"),
    "dropout at evaluation": (modes.dropout_at_eval, F, "evaluation/training-mode"),
    "half precision": (half_precision, P, ""),
    "half precision mixes": (
        lambda: broken.before_model(half_precision(), lambda x: x - x.mean(axis=0)),
        F,
        "model/normalizes-over-batch",
    ),
    "weights reversed, one target in a mapping": (
        lambda: in_a_mapping(imbalanced([3, 2, 1, 0])),
        F,
        "loss/class-weights-misordered",
    ),
    "batch softmax in a mapping": (lambda: in_a_mapping(broken.batch_softmax()), F, "loss/softmax-over-batch"),
    "the library's own step under a loss that sums": (
        lambda: three_parameters_task().replace(loss=lambda o, y: squared(o, y) * len(y)),
        F,
        "loss/sum-instead-of-mean",
    ),
    "weights reversed": (lambda: imbalanced([3, 2, 1, 0]), F, "loss/class-weights-misordered"),
    "weights shifted": (lambda: imbalanced([1, 2, 3, 0]), F, "loss/class-weights-misordered"),
    "weights by counts": (lambda: imbalanced(power=-1.5), W, "loss/class-weights-inverted"),
    "rare positives weigh less": (lambda: rare_positives((30.0, 1.0)), W, "loss/class-weights-inverted"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_and_the_named_cause(run: Callable[..., Result], case: str) -> None:
    make, status, code = CASES[case]
    result = run(generalize_a_special_case, make())
    assert result.status is status, f"{result.headline} {result.measured}"
    assert result.codes[:1] == ((code,) if code else ())
    assert not code or result.findings[0].causes[0].code == code


def test_a_looser_tolerance_lets_a_small_difference_pass(run: Callable[..., Result]) -> None:
    task = broken.before_model(regression_task(), lambda x: x + 1e-3 * x.mean(axis=0))
    assert run(generalize_a_special_case, task, tolerance=1e-6).status is F
    assert run(generalize_a_special_case, task, tolerance=1.0).status is P


def test_all_that_differs_is_kept(run: Callable[..., Result]) -> None:
    """A model and a metric that mix examples."""
    task = broken.before_model(three_parameters_task(), lambda x: x - x.mean(axis=0))
    task = task.replace(metrics={"error": lambda o, y: jnp.full(len(y), squared(o, y).mean())})
    result = run(generalize_a_special_case, task)
    assert set(result.codes) == {"model/normalizes-over-batch", "loss/metric-mixes-examples"}


def test_the_loss_that_a_step_reports_is_measured_whoever_wrote_it(run: Callable[..., Result]) -> None:
    for task in (three_parameters_task(), modes.hand_loop(digits_task())):
        measured = run(generalize_a_special_case, task).measured
        assert measured["reported loss over the mean loss"] == pytest.approx(1.0, rel=1e-5)
