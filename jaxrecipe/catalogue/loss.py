"""Faults 17 to 28: in the loss and in what it is given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import bases, models
from jaxrecipe.catalogue.bases.pictures import weighted
from jaxrecipe.catalogue.bases.preparing import cross_entropy
from jaxrecipe.catalogue.edits import on_both, on_outputs
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.own_loop import with_own_loop
from jaxrecipe.task import Task


def softmax_in_model(task: Task) -> Task:
    """The model ends in a softmax, and the loss takes the softmax of that again."""
    return on_outputs(task, jax.nn.softmax)


def softmax_in_loss(task: Task) -> Task:
    """The loss takes the softmax of the logits and gives it to a cross entropy that wants logits."""
    return task.replace(loss=lambda logits, labels: cross_entropy(jax.nn.softmax(logits), labels))


def sigmoid_twice(task: Task) -> Task:
    """The model ends in a sigmoid, and the loss takes the sigmoid of that again."""
    return on_outputs(task, jax.nn.sigmoid)


def logits_as_probabilities(task: Task) -> Task:
    """The loss wants probabilities, and is given logits."""

    def loss(probabilities: Any, labels: Any) -> Any:
        picked = jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        return -jnp.log(jnp.clip(picked, 1e-7, 1.0))

    return task.replace(loss=loss)


def logits_as_yes_no_probabilities(task: Task) -> Task:
    """The binary cross entropy wants probabilities, and is given logits."""

    def loss(probabilities: Any, labels: Any) -> Any:
        p = jnp.clip(probabilities, 1e-7, 1.0 - 1e-7)
        return -(labels * jnp.log(p) + (1.0 - labels) * jnp.log(1.0 - p)).mean(axis=1)

    return task.replace(loss=loss)


def softmax_over_batch(task: Task) -> Task:
    """The softmax in the loss is taken over the batch instead of the classes."""

    def loss(logits: Any, labels: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=0), labels[:, None], axis=1)[:, 0]

    return task.replace(loss=loss)


def sum_for_mean(task: Task) -> Task:
    """A loop of one's own sums the losses of a batch instead of taking their mean, at the same learning rate."""
    return with_own_loop(task, reduce=jnp.sum)


def mean_over_batch_axis(task: Task) -> Task:
    """The loss takes the mean over axis 0, the batch, where the columns were meant; both happen to have one size."""
    columns = task.train[0].shape[1]
    return task.replace(loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=0), batch_size=columns)


def labels_reduced_over_batch(task: Task) -> Task:
    """The loss takes the mean over the batch and leaves one number a label."""
    loss = task.loss
    return task.replace(
        loss=lambda logits, labels: jnp.stack(
            [loss(logits[:, i : i + 1], labels[:, i : i + 1]).mean() for i in range(5)]
        )
    )


def column_against_row(task: Task) -> Task:
    """Outputs (N, 1) are compared with targets (N,): each output with every target."""
    return task.replace(
        model=linen(models.Dense(features=(), outputs=1)),
        loss=lambda outputs, values: jnp.square(outputs - values).mean(axis=1),
    )


def squared_error_of_logits(task: Task) -> Task:
    """Classes are learned by the squared error between logits and one-hot labels scaled as they come, summed over a
    softmax.
    """

    def loss(logits: Any, labels: Any) -> Any:
        return jnp.square(jax.nn.softmax(logits) - jax.nn.one_hot(labels, 10, dtype=jnp.float32)).mean(axis=1)

    return task.replace(loss=loss)


def squared_error_of_class_number(task: Task) -> Task:
    """The number of the class is learned as if it were a quantity: squared error between every logit and the number."""
    return task.replace(
        loss=lambda logits, labels: jnp.square(logits - labels[:, None].astype(jnp.float32)).mean(axis=1)
    )


def cross_entropy_of_values(task: Task) -> Task:
    """A regression is given the cross entropy of a sigmoid."""

    def loss(outputs: Any, values: Any) -> Any:
        log_p, log_q = jax.nn.log_sigmoid(outputs), jax.nn.log_sigmoid(-outputs)
        return -(values * log_p + (1.0 - values) * log_q).mean(axis=1)

    return task.replace(loss=loss)


def sign_flipped(task: Task) -> Task:
    """The log-likelihood is minimized instead of its negative."""
    loss = task.loss
    return task.replace(loss=lambda outputs, targets: -loss(outputs, targets))


def error_sign_flipped(task: Task) -> Task:
    """The squared error is maximized."""
    loss = task.loss
    return task.replace(loss=lambda outputs, targets: -loss(outputs, targets))


def targets_are_inputs(task: Task) -> Task:
    """The targets are not shifted: the model is asked for the token that it has just been given."""
    return on_both(task, lambda tokens, _: (tokens, tokens))


def targets_shifted_back(task: Task) -> Task:
    """The targets are shifted the wrong way: the model is asked for the token before."""
    return on_both(task, lambda tokens, _: (tokens[:, 1:], tokens[:, :-1]))


def padding_counted(task: Task) -> Task:
    """The loss counts the padding like any other token."""
    return task.replace(loss=lambda logits, tokens: cross_entropy(logits, tokens).mean(axis=1))


def loss_clipped(task: Task) -> Task:
    """The loss is clipped where the gradients were meant to be, so examples above the limit teach nothing."""
    loss = task.loss
    return task.replace(loss=lambda outputs, targets: jnp.clip(loss(outputs, targets), 0.0, 1.0))


def weights_in_wrong_order(task: Task) -> Task:
    """The weights that should make up for rare classes are given in the opposite order of the classes."""
    counts = np.bincount(task.train[1], minlength=10)
    return weighted(task, (counts.mean() / counts)[::-1])


def weights_by_place(task: Task) -> Task:
    """The weights of the classes are applied by an example's place in the batch instead of its label."""
    counts = np.bincount(task.train[1], minlength=10)
    table = jnp.asarray(counts.mean() / counts, jnp.float32)

    def loss(logits: Any, labels: Any) -> Any:
        return table[jnp.arange(labels.shape[0]) % 10] * cross_entropy(logits, labels)

    return task.replace(loss=loss)


FAULTS = (
    Fault(17, softmax_in_model, bases.picture_mlp, ("loss_at_init", "overfit_one_batch"), ("loss/softmax-twice",), "a"),
    Fault(17, softmax_in_loss, bases.convnet, ("loss_at_init", "overfit_one_batch"), ("loss/softmax-twice",), "b"),
    Fault(17, sigmoid_twice, bases.multi_label, ("loss_at_init", "overfit_one_batch"), ("loss/softmax-twice",), "c"),
    Fault(18, logits_as_probabilities, bases.convnet, ("loss_at_init",), ("loss/logits-as-probabilities",), "a"),
    Fault(
        18, logits_as_yes_no_probabilities, bases.multi_label, ("loss_at_init",), ("loss/logits-as-probabilities",), "b"
    ),
    Fault(19, softmax_over_batch, bases.resnet, ("chart_dependencies",), ("loss/softmax-over-batch",)),
    Fault(20, sum_for_mean, bases.resnet, ("loss_at_init", "reference_step"), ("loss/sum-instead-of-mean",)),
    Fault(
        21,
        mean_over_batch_axis,
        bases.autoencoder,
        ("generalize_a_special_case", "validate"),
        ("loss/wrong-axis",),
        "a",
    ),
    Fault(
        21,
        labels_reduced_over_batch,
        bases.multi_label,
        ("generalize_a_special_case", "validate"),
        ("loss/wrong-axis",),
        "b",
    ),
    Fault(22, column_against_row, bases.three_parameters, ("chart_dependencies",), ("loss/broadcast",)),
    Fault(
        23,
        squared_error_of_class_number,
        bases.picture_mlp,
        ("loss_at_init",),
        ("loss/squared-error-for-classes",),
        "a",
    ),
    Fault(23, squared_error_of_logits, bases.picture_mlp, ("loss_at_init",), ("loss/squared-error-for-classes",), "b"),
    Fault(23, cross_entropy_of_values, bases.regression, ("loss_at_init",), ("loss/cross-entropy-for-values",), "c"),
    Fault(24, sign_flipped, bases.convnet, ("overfit_one_batch", "loss_at_init"), ("loss/sign-flipped",), "a"),
    Fault(24, error_sign_flipped, bases.regression, ("overfit_one_batch", "loss_at_init"), ("loss/sign-flipped",), "b"),
    Fault(
        25,
        targets_are_inputs,
        bases.transformer,
        ("chart_time_dependencies", "leaked_label"),
        ("loss/target-not-shifted",),
        "a",
    ),
    Fault(
        25,
        targets_shifted_back,
        bases.transformer,
        ("chart_time_dependencies", "leaked_label"),
        ("loss/target-shifted-backwards",),
        "b",
    ),
    Fault(26, padding_counted, bases.padded_transformer, ("chart_input_dependencies",), ("loss/padding-counted",)),
    Fault(27, loss_clipped, bases.convnet, ("updates", "overfit_one_batch"), ("loss/clipped",)),
    Fault(
        28,
        weights_in_wrong_order,
        bases.class_weights,
        ("generalize_a_special_case", "class_balance"),
        ("loss/class-weights-misordered",),
        "a",
    ),
    Fault(28, weights_by_place, bases.class_weights, ("generalize_a_special_case",), ("loss/weights-by-place",), "b"),
)
