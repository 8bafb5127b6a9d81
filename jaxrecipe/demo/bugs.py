"""Silent bugs to plant in the demonstration: each trains without an error, each is one small change to a healthy task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe.demo.loops import plain_loop
from jaxrecipe.task import Model, Task


@dataclass(frozen=True)
class Bug:
    """A fault and the checks that should catch it.

    Attributes:
        plant: `plant(task) -> task` with the fault in it; its docstring says in a sentence what it breaks.
        caught_by: names of checks, at least one of which should fail.
    """

    plant: Callable[[Task], Task]
    caught_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """What `jaxrecipe demo --bug` calls it."""
        return self.plant.__name__

    @property
    def breaks(self) -> str:
        """One sentence: what is wrong."""
        return " ".join((self.plant.__doc__ or "").split())


def reshape_for_transpose(task: Task) -> Task:
    """The model brings the rows to the front by a transpose and back by a reshape, which makes each image of rows of others."""

    def mixed(images: Array) -> Array:
        return images.transpose(1, 0, 2, 3).reshape(images.shape)

    return _with_inputs(task, lambda images, _train, _key: mixed(images))


def softmax_twice(task: Task) -> Task:
    """The model ends in a softmax, and the loss takes the softmax of that again."""
    return _with_outputs(task, jax.nn.softmax)


def relu_on_logits(task: Task) -> Task:
    """The model ends in a ReLU, so no class can be argued against and a logit that is negative for all gets no gradient."""
    return _with_outputs(task, jax.nn.relu)


def batch_mean_leaks(task: Task) -> Task:
    """The model subtracts the mean of the batch from its outputs, so each prediction depends on who is beside it."""
    return _with_outputs(task, lambda logits: logits - logits.mean(axis=0, keepdims=True))


def dropout_at_eval(task: Task) -> Task:
    """A dropout of one half on the pixels is never switched off, so evaluation is random too."""

    def drop(images: Array, _train: bool, key: PRNGKeyArray | None) -> Array:
        kept = jax.random.bernoulli(jax.random.key(0) if key is None else key, 0.5, images.shape)
        return jnp.where(kept, images * 2.0, 0.0)

    return _with_inputs(task, drop)


def batch_statistics_thrown_away(task: Task) -> Task:
    """The running statistics of BatchNorm are never stored, so evaluation normalises with their initial values."""
    apply = task.model.apply

    def forgetful(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, _ = apply(params, state, inputs, train=train, key=key)
        return outputs, state

    return task.replace(model=replace(task.model, apply=forgetful))


def wrong_final_bias(task: Task) -> Task:
    """The final bias of the digit 0 starts at 20, left over from another task, so the untrained model is sure of it."""
    return _with_params(task, lambda name, leaf: leaf.at[0].set(20.0) if name == "Dense_0/bias" else leaf)


def zero_init(task: Task) -> Task:
    """Every kernel starts at zero, so no signal gets through and only the final bias can learn."""
    return _with_params(task, lambda name, leaf: jnp.zeros_like(leaf) if name.endswith("kernel") else leaf)


def unseeded(task: Task) -> Task:
    """The initial parameters come from the operating system's randomness and not from the key, so no run can be repeated."""
    init = task.model.init

    def random_init(_key: PRNGKeyArray, inputs: Any) -> tuple[Any, Any]:
        return init(jax.random.key(int(np.random.default_rng().integers(2**31))), inputs)

    return task.replace(model=replace(task.model, init=random_init))


def sign_flipped(task: Task) -> Task:
    """The loss has the wrong sign, so training makes it worse on purpose."""
    loss = task.loss
    return task.replace(loss=lambda outputs, targets: -loss(outputs, targets))


def labels_shuffled(task: Task) -> Task:
    """The training images were shuffled and their labels were not: nothing but the training examples can be learnt."""
    images, labels = task.train
    return task.replace(train=(images, np.random.default_rng(0).permutation(labels)))


def test_labels_off_by_one(task: Task) -> Task:
    """The labels of the test set count from 1 (and 10 is written 0) where those of the training set count from 0."""
    images, labels = task.test
    return task.replace(test=(images, (labels + 1) % 10))


def test_in_train(task: Task) -> Task:
    """A hundred examples of the test set are in the training set too, so the test flatters the model."""
    images, labels = (np.concatenate([a, b[:100]]) for a, b in zip(task.train, task.test, strict=True))
    return task.replace(train=(images, labels))


def label_in_a_pixel(task: Task) -> Task:
    """A corner pixel gives the label away, in training and test data, so the score says nothing of digits."""

    def leaking(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        marked = images.copy()
        marked[:, 0, 0, 0] = labels
        return marked, labels

    return task.replace(train=leaking(*task.train), test=leaking(*task.test))


def double_scaling(task: Task) -> Task:
    """The pixels, already scaled to [0, 1], are divided by 255 once more."""
    prepare = task.prepare or (lambda inputs, targets: (inputs, targets))

    def twice(inputs: Any, targets: Any) -> tuple[Any, Any]:
        inputs, targets = prepare(inputs, targets)
        return inputs / 255.0, targets

    return task.replace(prepare=twice)


def frozen_layer(task: Task) -> Task:
    """The updates of the first convolution are set to zero, left over from a fine-tuning script."""

    def first_convolution(params: Any) -> Any:
        return {
            layer: jax.tree.map(lambda _, frozen=layer == "Conv_0": frozen, leaves) for layer, leaves in params.items()
        }

    frozen = optax.masked(optax.set_to_zero(), first_convolution)
    return task.replace(optimizer=optax.chain(task.optimizer, frozen))


def learning_rate_100_times_too_small(task: Task) -> Task:
    """The learning rate is a hundredth of what it should be, so the loss goes down nicely and far too slowly."""
    return task.replace(optimizer=optax.chain(task.optimizer, optax.scale(0.01)))


def same_key_every_step(task: Task) -> Task:
    """The augmentation draws with one constant key, so every batch is shifted in the same way at every step."""
    augment = task.augment or (lambda _key, inputs, targets: (inputs, targets))
    return task.replace(augment=lambda _key, inputs, targets: augment(jax.random.key(0), inputs, targets))


def updates_thrown_away(task: Task) -> Task:
    """A training loop of one's own computes the updates, keeps the optimizer's state and forgets to apply them."""
    return task.replace(loop=plain_loop(task, apply_updates=lambda params, _updates: params))


def last_batch_dropped(task: Task) -> Task:
    """An evaluation of one's own leaves out the last batch when it is not full, so some examples never count."""
    return task.replace(loop=plain_loop(task, drop_last=True))


def parameters_in_float16(task: Task) -> Task:
    """All parameters are kept in float16 to save memory, and with them AdamW's state, in which its epsilon of 1e-8 is zero."""
    return task.replace(policy="params=float16,compute=float16,output=float32")


BUGS: tuple[Bug, ...] = (
    Bug(reshape_for_transpose, ("chart_dependencies", "generalize_a_special_case")),
    Bug(softmax_twice, ("overfit_one_batch",)),
    Bug(relu_on_logits, ("overfit_one_batch", "updates")),
    Bug(batch_mean_leaks, ("chart_dependencies", "generalize_a_special_case")),
    Bug(dropout_at_eval, ("mode_consistency", "exact_eval")),
    Bug(batch_statistics_thrown_away, ("mode_consistency",)),
    Bug(wrong_final_bias, ("init_well", "loss_at_init")),
    Bug(zero_init, ("overfit_one_batch", "updates")),
    Bug(unseeded, ("fix_random_seed",)),
    Bug(sign_flipped, ("overfit_one_batch", "loss_at_init")),
    Bug(labels_shuffled, ("label_noise", "input_independent_baseline")),
    Bug(test_labels_off_by_one, ("split_shift", "input_independent_baseline")),
    Bug(test_in_train, ("split_leakage",)),
    Bug(label_in_a_pixel, ("leaked_label",)),
    Bug(double_scaling, ("visualize_just_before_the_net",)),
    Bug(frozen_layer, ("updates",)),
    Bug(learning_rate_100_times_too_small, ("overfit_one_batch", "updates")),
    Bug(same_key_every_step, ("fix_random_seed",)),
    Bug(updates_thrown_away, ("overfit_one_batch", "updates")),
    Bug(last_batch_dropped, ("exact_eval",)),
    Bug(parameters_in_float16, ("half_precision_updates",)),
)
"""Every bug that can be planted, in the order in which they are listed."""


def find_bug(name: str, bugs: Sequence[Bug] = BUGS) -> Bug:
    """The bug of that name; dashes may stand for underscores.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    for bug in bugs:
        if bug.name == name.replace("-", "_"):
            return bug
    raise ValueError(f"no bug is called {name!r}; the names are {', '.join(bug.name for bug in bugs)}")


def _with_inputs(task: Task, change: Callable[[Any, bool, PRNGKeyArray | None], Any]) -> Task:
    """The task with a model that changes its inputs first."""
    apply = task.model.apply

    def changed(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return apply(params, state, change(inputs, train, key), train=train, key=key)

    return task.replace(model=replace(task.model, apply=changed))


def _with_outputs(task: Task, change: Callable[[Float[Array, "batch n"]], Float[Array, "batch n"]]) -> Task:
    """The task with a model that changes its outputs last."""
    apply = task.model.apply

    def changed(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        outputs, state = apply(params, state, inputs, train=train, key=key)
        return change(outputs), state

    return task.replace(model=replace(task.model, apply=changed))


def _with_params(task: Task, change: Callable[[str, Array], Array]) -> Task:
    """The task with a model whose initial parameters are changed, leaf by leaf, each given its path."""
    model: Model = task.model

    def init(key: PRNGKeyArray, inputs: Any) -> tuple[Any, Any]:
        params, state = model.init(key, inputs)
        named = jax.tree_util.tree_map_with_path(
            lambda path, leaf: change(jax.tree_util.keystr(path, simple=True, separator="/"), leaf), params
        )
        return named, state

    return task.replace(model=replace(model, init=init))
