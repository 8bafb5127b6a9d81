"""Faults 29 to 42: in the model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.linen import initializers
from jaxtyping import Array

import jaxrecipe as jr
from experiments.faults import bases, models
from experiments.faults.catalogue.fault import Fault, on_both, on_outputs
from experiments.faults.real_data import VOCABULARY


def softmax_of_one_unit(task: jr.Task) -> jr.Task:
    """The last layer has one unit and its softmax is taken, which is one whatever the unit says."""

    def loss(outputs: Any, labels: Any) -> Any:
        return jnp.square(jax.nn.softmax(outputs, axis=-1)[:, 0] - labels)

    return task.replace(model=jr.linen(models.Dense(outputs=1)), loss=loss)


def cross_entropy_of_one_unit(task: jr.Task) -> jr.Task:
    """One output for a yes or no goes into the cross entropy of a softmax."""

    def loss(outputs: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy(outputs, labels[:, None])

    return task.replace(model=jr.linen(models.Dense(outputs=1)), loss=loss)


def relu_on_logits(task: jr.Task) -> jr.Task:
    """The model ends in a ReLU."""
    return on_outputs(task, jax.nn.relu)


def softmax_in_the_middle(task: jr.Task) -> jr.Task:
    """The activation of the hidden layers is a softmax."""
    return task.replace(model=jr.linen(models.Dense(features=(64, 64, 64), activation=jax.nn.softmax)))


def deep_sigmoids(task: jr.Task) -> jr.Task:
    """Six hidden layers with sigmoids, through which no signal gets."""
    return task.replace(model=jr.linen(models.Dense(features=(64,) * 6, activation=jax.nn.sigmoid)))


def no_activation(task: jr.Task) -> jr.Task:
    """The activations between the layers were forgotten, so the network is one linear map."""
    return task.replace(model=jr.linen(models.Dense(activation=models.same)))


def zero_init(task: jr.Task) -> jr.Task:
    """Every kernel starts at zero."""
    return task.replace(model=jr.linen(models.Dense(kernel_init=initializers.zeros)))


def constant_init(task: jr.Task) -> jr.Task:
    """Every kernel starts at one constant, so the units of a layer are copies of each other."""
    return task.replace(model=jr.linen(models.Dense(kernel_init=initializers.constant(0.05))))


def unit_normal_init(task: jr.Task) -> jr.Task:
    """Every kernel is drawn with a standard deviation of one."""
    return task.replace(model=jr.linen(models.Dense(kernel_init=initializers.normal(1.0))))


def dead_relus(task: jr.Task) -> jr.Task:
    """The biases of the hidden layers start so low that no ReLU ever opens."""
    return task.replace(model=jr.linen(models.Dense(bias_init=initializers.constant(-10.0))))


def mostly_dead_relus(task: jr.Task) -> jr.Task:
    """The biases of all but eight units of each hidden layer start so low that they never open."""

    def low(_key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jnp.where(jnp.arange(shape[-1]) < 8, 0.0, -10.0).astype(dtype)

    return task.replace(model=jr.linen(models.Dense(bias_init=low)))


def bias_ignores_prior(task: jr.Task) -> jr.Task:
    """One example in ten is positive, and the final bias starts at zero."""
    return task


def no_final_bias(task: jr.Task) -> jr.Task:
    """A regression target with a mean of 50 and a deviation of 1, and a last layer without a bias."""
    task = on_both(task, lambda x, y: (x, (y + 50.0).astype(np.float32)))
    return task.replace(model=jr.linen(models.Dense(outputs=2, final_bias=False)))


def branch_cut_off(task: jr.Task) -> jr.Task:
    """A stop_gradient, left from an experiment, cuts off the branches of the residual blocks."""
    return task.replace(model=jr.linen(models.ResNet(branch=jax.lax.stop_gradient)))


def reshape_for_transpose(task: jr.Task) -> jr.Task:
    """The rows are brought to the front by a transpose and back by a reshape, which makes pictures of rows of other pictures."""
    return task.replace(model=jr.linen(models.Recurrent(order=lambda x: x.transpose(1, 0, 2).reshape(x.shape))))


def heads_merged_by_reshape(task: jr.Task) -> jr.Task:
    """The heads of the attention are merged by a reshape without the transpose, which mixes heads with positions."""

    def merge(x: Array) -> Array:
        batch, heads, time, depth = x.shape
        return x.reshape(batch, time, heads * depth)

    return task.replace(model=jr.linen(models.Transformer(VOCABULARY, merge=merge)))


def batch_mean_leaks(task: jr.Task) -> jr.Task:
    """The model takes the mean over the batch off its outputs, in evaluation too."""
    return on_outputs(task, lambda logits: logits - logits.mean(axis=0, keepdims=True))


def no_causal_mask(task: jr.Task) -> jr.Task:
    """The attention has no causal mask, so each position sees the one that it should predict."""
    return task.replace(model=jr.linen(models.Transformer(VOCABULARY, causal=False)))


def input_ignored(task: jr.Task) -> jr.Task:
    """The model joins the first input with itself, and never uses the second."""
    return task.replace(
        model=jr.linen(models.TwoInputs(combine=lambda top, _bottom: jnp.concatenate([top, top], axis=-1)))
    )


def image_ignored(task: jr.Task) -> jr.Task:
    """The model overwrites its input with zeros of the same shape."""
    model = task.model

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return model.apply(params, state, jnp.zeros_like(inputs), train=train, key=key)

    return task.replace(model=jr.Model(model.init, apply, model.name))


def strong_dropout(task: jr.Task) -> jr.Task:
    """Dropout drops 95 in a hundred units where it should keep them."""
    return task.replace(model=jr.linen(models.Dense(features=(96, 96), dropout=0.95)))


ONE_UNIT = (r"one unit", r"single output", r"one output", r"softmax over (a|one)", r"whatever .{0,30}says")
RANDOM = (r"initiali[sz]e at random", r"constant", r"\bzeros?\b", r"copies", r"symmetr", r"identical", r"same weights")
FAULTS = (
    Fault(29, softmax_of_one_unit, bases.balanced_binary, ("updates", "overfit_one_batch"), ONE_UNIT, "a"),
    Fault(29, cross_entropy_of_one_unit, bases.balanced_binary, ("updates", "overfit_one_batch"), ONE_UNIT, "b"),
    Fault(
        30,
        relu_on_logits,
        bases.convnet,
        ("overfit_one_batch",),
        (r"\brelu\b", r"never negative", r"activation .{0,40}(final|last)", r"confine"),
    ),
    Fault(
        31,
        softmax_in_the_middle,
        bases.picture_mlp,
        ("verify_decreasing_training_loss", "overfit_one_batch"),
        (r"softmax", r"saturat", r"squash", r"activation"),
        "a",
    ),
    Fault(
        31,
        deep_sigmoids,
        bases.picture_mlp,
        ("verify_decreasing_training_loss", "overfit_one_batch"),
        (r"sigmoid", r"saturat", r"vanish", r"squash", r"activation"),
        "b",
    ),
    Fault(
        32,
        no_activation,
        bases.picture_mlp,
        ("verify_decreasing_training_loss",),
        (r"non-?linear", r"activation", r"linear (map|model|function)", r"is linear"),
    ),
    Fault(33, zero_init, bases.picture_mlp, ("updates",), RANDOM, "a"),
    Fault(33, constant_init, bases.picture_mlp, ("updates",), RANDOM, "b"),
    Fault(
        34,
        unit_normal_init,
        bases.picture_mlp,
        ("loss_at_init",),
        (r"initiali[sz]", r"starts? small", r"start(s|ing)? .{0,30}(large|scale)"),
    ),
    Fault(35, dead_relus, bases.picture_mlp, ("updates",), (r"\bdead\b",), "a"),
    Fault(35, mostly_dead_relus, bases.picture_mlp, ("updates",), (r"\bdead\b",), "b"),
    Fault(
        36,
        bias_ignores_prior,
        bases.zero_bias_binary,
        ("init_well",),
        (r"final bias", r"prior", r"average of the targets", r"log frequenc"),
        "a",
    ),
    Fault(
        36,
        no_final_bias,
        bases.regression,
        ("init_well",),
        (r"final (layer's )?bias", r"prior", r"average of the targets", r"mean of the targets"),
        "b",
    ),
    Fault(37, branch_cut_off, bases.resnet, ("updates",), (r"stop_gradient", r"no gradient")),
    Fault(38, reshape_for_transpose, bases.recurrent, ("chart_dependencies",), (r"reshape", r"transpose"), "a"),
    Fault(
        38,
        heads_merged_by_reshape,
        bases.transformer,
        ("chart_time_dependencies",),
        (r"reshape", r"transpose"),
        "b",
    ),
    Fault(
        39,
        batch_mean_leaks,
        bases.convnet,
        ("chart_dependencies",),
        (r"axis 0", r"over the batch", r"statistics? of the batch", r"mean .{0,30}batch"),
    ),
    Fault(
        40,
        no_causal_mask,
        bases.transformer,
        ("chart_time_dependencies",),
        (r"causal", r"\bmask\b", r"future", r"later (position|token|input)"),
    ),
    Fault(
        41,
        input_ignored,
        bases.two_inputs,
        ("chart_input_dependencies",),
        (r"ignore", r"not used", r"unused", r"no influence", r"never reach", r"does not (depend|reach|matter)"),
        "a",
    ),
    Fault(
        41,
        image_ignored,
        bases.picture_mlp,
        ("chart_input_dependencies", "input_independent_baseline"),
        (
            r"ignore",
            r"not used",
            r"unused",
            r"no influence",
            r"never reach",
            r"does not (depend|reach|matter)",
            r"overwritten",
        ),
        "b",
    ),
    Fault(42, strong_dropout, bases.dropout, ("overfit_one_batch", "simplify"), (r"dropout",)),
)
