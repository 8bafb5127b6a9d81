"""Faults 56 to 64: in evaluation, in checkpoints and in precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import bases, models
from jaxrecipe.catalogue.bases.preparing import shifted
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.own_loop import Evaluate, Predict, State, batches, exact_evaluation, scores, with_own_loop
from jaxrecipe.parts import Model
from jaxrecipe.precision.loss_scale import no_loss_scale, static_loss_scale
from jaxrecipe.task import Task


def dropout_at_eval(task: Task) -> Task:
    """The model is never told that it is evaluated, so dropout stays on."""
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        del train
        key = jax.random.key(0) if key is None else key
        return model.apply(params, state, inputs, train=True, key=key)

    return task.replace(model=Model(model.init, apply, model.name))


def predicts_in_training_mode(task: Task) -> Task:
    """A loop of one's own evaluates with the model in training mode: dropout is on."""
    return with_own_loop(task, train_at_eval=True)


def statistics_thrown_away(task: Task) -> Task:
    """A loop of one's own does not keep the batch statistics that the model returns."""
    return with_own_loop(task, after=lambda old, new: {**new, "stats": old["stats"]})


def statistics_moved_at_eval(task: Task) -> Task:
    """BatchNorm stays in training mode at evaluation: it uses the batch's own statistics and moves the running ones."""
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        del train
        return model.apply(params, state, inputs, train=True, key=key)

    return task.replace(model=Model(model.init, apply, model.name))


def last_batch_dropped(task: Task) -> Task:
    """The evaluation leaves out the last batch when it is not full."""

    def evaluation(task: Task, predict: Predict) -> Evaluate:
        def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
            size = max(len(targets) // batch_size, 1) * batch_size
            few = jax.tree.map(lambda leaf: leaf[:size], (inputs, targets))
            return dict(exact_evaluation(task, predict)(state, few[0], few[1], batch_size))

        return evaluate

    return with_own_loop(task, evaluate=evaluation)


def mean_of_batch_means(task: Task) -> Task:
    """The evaluation averages the means of the batches, though the last one is smaller."""

    def evaluation(task: Task, predict: Predict) -> Evaluate:
        def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
            parts = [scores(task, predict(state, x), y) for x, y in batches(inputs, targets, batch_size)]
            return {name: float(np.mean([part[name].mean() for part in parts])) for name in parts[0]}

        return evaluate

    return with_own_loop(task, evaluate=evaluation)


def evaluates_training_split(task: Task) -> Task:
    """The evaluation runs over the training data, whatever it is given."""

    def evaluation(task: Task, predict: Predict) -> Evaluate:
        inputs, targets = jax.tree.map(jnp.asarray, task.train)
        prepared = task.prepare(inputs, targets) if task.prepare else (inputs, targets)

        def evaluate(state: State, _inputs: Any, _targets: Any, batch_size: int) -> dict[str, float]:
            return dict(exact_evaluation(task, predict)(state, *prepared, batch_size))

        return evaluate

    return with_own_loop(task, evaluate=evaluation)


def augmentation_at_eval(task: Task) -> Task:
    """The evaluation sends its pictures through the augmentation."""

    def evaluation(task: Task, predict: Predict) -> Evaluate:
        augment = task.augment or shifted

        def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
            moved = augment(jax.random.key(np.random.randint(2**31)), inputs, targets)
            return dict(exact_evaluation(task, predict)(state, *moved, batch_size))

        return evaluate

    return with_own_loop(task, evaluate=evaluation)


def metric_in_half_precision(task: Task) -> Task:
    """The evaluation adds up loss and hits in bfloat16."""

    def evaluation(task: Task, predict: Predict) -> Evaluate:
        def evaluate(state: State, inputs: Any, targets: Any, batch_size: int) -> dict[str, float]:
            totals: dict[str, Any] = {}
            for few, wanted in batches(inputs, targets, batch_size):
                for name, values in scores(task, predict(state, few), wanted).items():
                    part = jnp.asarray(values, jnp.float32).sum().astype(jnp.bfloat16)
                    totals[name] = totals.get(name, jnp.zeros((), jnp.bfloat16)) + part
            return {name: float(total) / len(targets) for name, total in totals.items()}

        return evaluate

    return with_own_loop(task, evaluate=evaluation)


def restored_without_optimizer(task: Task) -> Task:
    """A checkpoint holds the parameters but not the optimizer's state, which starts anew."""
    return with_own_loop(task, stored=lambda state: {name: state[name] for name in ("params", "stats", "step")})


def restored_without_statistics(task: Task) -> Task:
    """A checkpoint holds no batch statistics, which start anew."""
    return with_own_loop(task, stored=lambda state: {name: state[name] for name in ("params", "opt", "step")})


def loss_scale_overflows(task: Task) -> Task:
    """The static loss scale is so large that the gradients overflow in float16 and every step is skipped."""
    return task.replace(loss_scale=static_loss_scale(float(2**24)))


def gradients_underflow(task: Task) -> Task:
    """A loss with a small weight is trained in float16 without a loss scale: most gradients are zero before they
    arrive.
    """
    loss = task.loss
    return task.replace(
        loss=lambda outputs, targets: 1e-5 * loss(outputs, targets), loss_scale=no_loss_scale(), policy="float16"
    )


def activations_overflow(task: Task) -> Task:
    """The model divides its input by its norm, whose square overflows in float16, so that every input becomes zero."""
    module = models.Dense()
    inner = linen(module)

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        norm = jnp.sqrt(jnp.square(inputs).sum(axis=(1, 2, 3), keepdims=True, dtype=inputs.dtype))
        return inner.apply(params, state, 8.0 * inputs / norm, train=train, key=key)

    raw = lambda images, labels: (images.astype(jnp.float32), labels)  # noqa: E731
    return task.replace(model=Model(inner.init, apply, "normalized MLP"), prepare=raw)


FAULTS = (
    Fault(56, dropout_at_eval, bases.dropout, ("mode_consistency", "exact_eval"), ("evaluation/training-mode",), "a"),
    Fault(
        56,
        predicts_in_training_mode,
        bases.dropout,
        ("mode_consistency", "exact_eval"),
        ("evaluation/training-mode", "evaluation/other-predictions"),
        "b",
    ),
    Fault(
        57,
        statistics_thrown_away,
        bases.convnet,
        ("mode_consistency", "reference_step"),
        ("step/statistics-thrown-away",),
        "a",
    ),
    Fault(
        57,
        statistics_moved_at_eval,
        bases.convnet,
        ("mode_consistency",),
        ("model/batch-statistics-at-eval", "evaluation/training-mode", "evaluation/state-changed"),
        "b",
    ),
    Fault(58, last_batch_dropped, bases.convnet, ("exact_eval",), ("evaluation/last-batch-dropped",)),
    Fault(59, mean_of_batch_means, bases.convnet, ("exact_eval",), ("evaluation/mean-of-batch-means",)),
    Fault(60, evaluates_training_split, bases.convnet, ("exact_eval",), ("evaluation/training-split",)),
    Fault(61, augmentation_at_eval, bases.augmented_convnet, ("simplify", "exact_eval"), ("evaluation/augmented",)),
    Fault(62, metric_in_half_precision, bases.convnet, ("exact_eval",), ("evaluation/half-precision-sum",)),
    Fault(
        63,
        restored_without_optimizer,
        bases.resnet,
        ("checkpoint_round_trip",),
        ("evaluation/checkpoint-incomplete",),
        "a",
    ),
    Fault(
        63,
        restored_without_statistics,
        bases.convnet,
        ("checkpoint_round_trip",),
        ("evaluation/checkpoint-incomplete",),
        "b",
    ),
    Fault(
        64,
        loss_scale_overflows,
        bases.float16,
        ("loss_scale", "precision_parity", "updates"),
        ("precision/gradients-overflow", "precision/scale-misplaced"),
        "a",
    ),
    Fault(
        64,
        gradients_underflow,
        bases.picture_mlp,
        ("loss_scale", "precision_parity"),
        ("precision/gradients-underflow",),
        "b",
    ),
    Fault(64, activations_overflow, bases.float16, ("precision_parity",), ("precision/activations-overflow",), "c"),
)
