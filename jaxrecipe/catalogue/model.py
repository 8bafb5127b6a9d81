"""Faults 29 to 42: in the model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.linen import initializers
from jaxtyping import Array

from jaxrecipe.adapters import linen
from jaxrecipe.catalogue import bases, models
from jaxrecipe.catalogue.edits import on_both, on_inputs, on_kernels, on_outputs
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.real_data import VOCABULARY
from jaxrecipe.task import Task


def softmax_of_one_unit(task: Task) -> Task:
    """The last layer has one unit and its softmax is taken, which is one whatever the unit says."""

    def loss(outputs: Any, labels: Any) -> Any:
        return jnp.square(jax.nn.softmax(outputs, axis=-1)[:, 0] - labels)

    return task.replace(model=linen(models.Dense(outputs=1)), loss=loss)


def cross_entropy_of_one_unit(task: Task) -> Task:
    """One output for a yes or no goes into the cross entropy of a softmax."""

    def loss(outputs: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy(outputs, labels[:, None])

    return task.replace(model=linen(models.Dense(outputs=1)), loss=loss)


def relu_on_logits(task: Task) -> Task:
    """The model ends in a ReLU."""
    return on_outputs(task, jax.nn.relu)


def softmax_in_the_middle(task: Task) -> Task:
    """The activation of the hidden layers is a softmax."""
    return task.replace(model=linen(models.Dense(features=(64, 64, 64), activation=jax.nn.softmax)))


def deep_sigmoids(task: Task) -> Task:
    """Six hidden layers with sigmoids, through which no signal gets."""
    return task.replace(model=linen(models.Dense(features=(64,) * 6, activation=jax.nn.sigmoid)))


def no_activation(task: Task) -> Task:
    """The activations between the layers were forgotten, so the network is one linear map."""
    return task.replace(model=linen(models.Dense(activation=models.same)))


def zero_init(task: Task) -> Task:
    """Every kernel starts at zero."""
    return on_kernels(task, jnp.zeros_like)


def constant_init(task: Task) -> Task:
    """Every kernel starts at one constant, so the units of a layer are copies of each other."""
    return on_kernels(task, lambda kernel: jnp.full_like(kernel, 0.05))


def unit_normal_init(task: Task) -> Task:
    """Every kernel is drawn with a standard deviation of one."""
    return task.replace(model=linen(models.Dense(kernel_init=initializers.normal(1.0))))


def dead_relus(task: Task) -> Task:
    """The biases of the hidden layers start so low that no ReLU ever opens."""
    return task.replace(model=linen(models.Dense(bias_init=initializers.constant(-10.0))))


def mostly_dead_relus(task: Task) -> Task:
    """The biases of all but eight units of each hidden layer start so low that they never open."""

    def low(_key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jnp.where(jnp.arange(shape[-1]) < 8, 0.0, -10.0).astype(dtype)

    return task.replace(model=linen(models.Dense(bias_init=low)))


def bias_ignores_prior(task: Task) -> Task:
    """One example in ten is positive, and the final bias starts at zero."""
    return task


def no_final_bias(task: Task) -> Task:
    """A regression target with a mean of 50 and a deviation of 1, and a last layer without a bias."""
    task = on_both(task, lambda x, y: (x, (y + 50.0).astype(np.float32)))
    return task.replace(model=linen(models.Dense(outputs=2, final_bias=False)))


def branch_cut_off(task: Task) -> Task:
    """A stop_gradient, left from an experiment, cuts off the branches of the residual blocks."""
    return task.replace(model=linen(models.ResNet(branch=jax.lax.stop_gradient)))


def reshape_for_transpose(task: Task) -> Task:
    """The rows are brought to the front by a transpose and back by a reshape, which makes pictures of rows of other
    pictures.
    """
    return on_inputs(task, lambda images: images.transpose(1, 0, 2, 3).reshape(images.shape))


def heads_merged_by_reshape(task: Task) -> Task:
    """The heads of the attention are merged by a reshape without the transpose, which mixes heads with positions."""

    def merge(x: Array) -> Array:
        batch, heads, time, depth = x.shape
        return x.reshape(batch, time, heads * depth)

    return task.replace(model=linen(models.Transformer(VOCABULARY, merge=merge)))


def batch_mean_leaks(task: Task) -> Task:
    """The model takes the mean over the batch off its outputs, in evaluation too."""
    return on_outputs(task, lambda logits: logits - logits.mean(axis=0, keepdims=True))


def no_causal_mask(task: Task) -> Task:
    """The attention has no causal mask, so each position sees the one that it should predict."""
    return task.replace(model=linen(models.Transformer(VOCABULARY, causal=False)))


def input_ignored(task: Task) -> Task:
    """The model joins the first input with itself, and never uses the second."""
    return task.replace(
        model=linen(models.TwoInputs(combine=lambda top, _bottom: jnp.concatenate([top, top], axis=-1)))
    )


def image_ignored(task: Task) -> Task:
    """The model overwrites its input with zeros of the same shape."""
    return on_inputs(task, jnp.zeros_like)


def strong_dropout(task: Task) -> Task:
    """Dropout drops 95 in a hundred units where it should keep them."""
    return task.replace(model=linen(models.Dense(features=(96, 96), dropout=0.95)))


FAULTS = (
    Fault(
        29,
        softmax_of_one_unit,
        bases.balanced_binary,
        ("updates", "overfit_one_batch"),
        ("loss/single-output-softmax",),
        "a",
    ),
    Fault(
        29,
        cross_entropy_of_one_unit,
        bases.balanced_binary,
        ("updates", "overfit_one_batch"),
        ("loss/single-output-softmax",),
        "b",
    ),
    Fault(30, relu_on_logits, bases.convnet, ("overfit_one_batch",), ("model/outputs-confined",)),
    Fault(
        31,
        softmax_in_the_middle,
        bases.picture_mlp,
        ("verify_decreasing_training_loss", "overfit_one_batch"),
        ("model/saturating-activation",),
        "a",
    ),
    Fault(
        31,
        deep_sigmoids,
        bases.picture_mlp,
        ("verify_decreasing_training_loss", "overfit_one_batch"),
        ("model/saturating-activation", "model/signal-fades"),
        "b",
    ),
    Fault(32, no_activation, bases.picture_mlp, ("verify_decreasing_training_loss",), ("model/no-activation",)),
    Fault(33, zero_init, bases.picture_mlp, ("updates",), ("model/zero-initialization", "model/identical-units"), "a"),
    Fault(33, constant_init, bases.picture_mlp, ("updates",), ("model/identical-units",), "b"),
    Fault(34, unit_normal_init, bases.picture_mlp, ("loss_at_init",), ("model/initialization-too-large",)),
    Fault(35, dead_relus, bases.picture_mlp, ("updates",), ("model/dead-units",), "a"),
    Fault(35, mostly_dead_relus, bases.picture_mlp, ("updates",), ("model/dead-units",), "b"),
    Fault(36, bias_ignores_prior, bases.zero_bias_binary, ("init_well",), ("model/final-bias-ignores-prior",), "a"),
    Fault(
        36,
        no_final_bias,
        bases.regression,
        ("init_well",),
        ("model/no-final-bias", "model/final-bias-ignores-prior", "data/targets-not-scaled"),
        "b",
    ),
    Fault(37, branch_cut_off, bases.resnet, ("updates",), ("model/unused-parameters",)),
    Fault(38, reshape_for_transpose, bases.recurrent, ("chart_dependencies",), ("model/reshape-for-transpose",), "a"),
    Fault(
        38, heads_merged_by_reshape, bases.transformer, ("chart_time_dependencies",), ("model/positions-mixed",), "b"
    ),
    Fault(39, batch_mean_leaks, bases.convnet, ("chart_dependencies",), ("model/normalizes-over-batch",)),
    Fault(40, no_causal_mask, bases.transformer, ("chart_time_dependencies",), ("model/causal-mask-missing",)),
    Fault(41, input_ignored, bases.two_inputs, ("chart_input_dependencies",), ("model/input-ignored",), "a"),
    Fault(
        41,
        image_ignored,
        bases.picture_mlp,
        ("chart_input_dependencies", "input_independent_baseline"),
        ("model/input-ignored",),
        "b",
    ),
    Fault(42, strong_dropout, bases.dropout, ("overfit_one_batch", "simplify"), ("model/dropout-too-strong",)),
)
