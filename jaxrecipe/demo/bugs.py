"""Silent bugs to plant in the demonstration: faults of the catalogue on the digits, and a few that only make sense
there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipe.catalogue import data, evaluation, loss, model, step
from jaxrecipe.catalogue.edits import frozen, on_both
from jaxrecipe.catalogue.fault import Plant, sentence
from jaxrecipe.task import Task


@dataclass(frozen=True)
class Bug:
    """A fault, the checks that should catch it, and how they should call it.

    Attributes:
        name: what `jaxrecipe demo --bug` calls it.
        plant: `plant(task) -> task` with the fault in it; its docstring says in a sentence what it breaks.
        caught_by: names of checks, at least one of which should fail.
        causes: the codes of the table of causes that truly name it, the right one first.
    """

    name: str
    plant: Plant
    caught_by: tuple[str, ...]
    causes: tuple[str, ...]

    @property
    def breaks(self) -> str:
        """One sentence: what is wrong."""
        return sentence(self.plant)


def dropout_on_pixels_at_eval(task: Task) -> Task:
    """A dropout of one half on the pixels is never switched off, so evaluation is random too."""
    apply = task.model.apply

    def dropped(params: Any, state: Any, images: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        kept = jax.random.bernoulli(jax.random.key(0) if key is None else key, 0.5, images.shape)
        return apply(params, state, jnp.where(kept, images * 2.0, 0.0), train=train, key=key)

    return task.replace(model=replace(task.model, apply=dropped))


def label_in_a_pixel(task: Task) -> Task:
    """A corner pixel gives the label away, in training and test data, so the score says nothing of digits."""

    def marked(images: Any, labels: Any) -> tuple[Any, Any]:
        images = np.array(images)
        images[:, 0, 0, 0] = labels
        return images, labels

    return on_both(task, marked)


def first_convolution_frozen(task: Task) -> Task:
    """The updates of the first convolution are set to zero, left over from a fine-tuning script."""
    return task.replace(optimizer=frozen(task.optimizer, "Conv_0"))


def learning_rate_1000_times_too_small(task: Task) -> Task:
    """The learning rate is a thousandth of what it should be, so the loss goes down nicely and far too slowly."""
    return task.replace(optimizer=optax.chain(task.optimizer, optax.scale(0.001)))


def parameters_in_float16(task: Task) -> Task:
    """All parameters are kept in float16 to save memory, and with them AdamW's state, in which its epsilon of 1e-8 is
    zero.
    """
    return task.replace(policy="params=float16,compute=float16,output=float32")


BUGS: tuple[Bug, ...] = (
    Bug(
        "reshape_for_transpose",
        model.reshape_for_transpose,
        ("chart_dependencies", "generalize_a_special_case"),
        ("model/reshape-for-transpose",),
    ),
    Bug("softmax_twice", loss.softmax_in_model, ("overfit_one_batch",), ("loss/softmax-twice",)),
    Bug("relu_on_logits", model.relu_on_logits, ("overfit_one_batch", "updates"), ("model/outputs-confined",)),
    Bug(
        "batch_mean_leaks",
        model.batch_mean_leaks,
        ("chart_dependencies", "generalize_a_special_case"),
        ("model/normalizes-over-batch",),
    ),
    Bug(
        "dropout_at_eval",
        dropout_on_pixels_at_eval,
        ("mode_consistency", "exact_eval"),
        ("evaluation/training-mode", "evaluation/random"),
    ),
    Bug(
        "batch_statistics_thrown_away",
        evaluation.statistics_thrown_away,
        ("mode_consistency",),
        ("step/statistics-thrown-away",),
    ),
    Bug(
        "zero_init",
        model.zero_init,
        ("overfit_one_batch", "updates"),
        ("model/zero-initialization", "model/identical-units"),
    ),
    Bug("unseeded", step.unseeded_init, ("fix_random_seed",), ("step/initialization-not-reproducible",)),
    Bug("sign_flipped", loss.sign_flipped, ("overfit_one_batch", "loss_at_init"), ("loss/sign-flipped",)),
    Bug(
        "labels_shuffled",
        data.targets_shuffled,
        ("label_noise", "input_independent_baseline"),
        ("data/labels-shuffled", "data/misaligned-targets"),
    ),
    Bug(
        "test_labels_off_by_one",
        data.test_labels_off_by_one,
        ("split_shift", "input_independent_baseline"),
        ("data/split-labels-mapped-differently",),
    ),
    Bug("test_in_train", data.test_in_training, ("split_leakage",), ("data/test-in-train",)),
    Bug(
        "label_in_a_pixel",
        label_in_a_pixel,
        ("leaked_label",),
        ("data/leaked-label", "data/single-feature-suffices"),
    ),
    Bug("double_scaling", data.scaled_twice, ("visualize_just_before_the_net",), ("data/scaled-twice",)),
    Bug("frozen_layer", first_convolution_frozen, ("updates",), ("optimizer/unintended-freeze",)),
    Bug(
        "learning_rate_1000_times_too_small",
        learning_rate_1000_times_too_small,
        ("visualize_prediction_dynamics",),
        ("optimizer/learning-rate-too-low",),
    ),
    Bug(
        "same_key_every_step",
        step.same_key_for_augmentation,
        ("fix_random_seed",),
        ("step/augmentation-key-reused", "step/key-reused"),
    ),
    Bug(
        "updates_thrown_away", step.updates_thrown_away, ("overfit_one_batch", "updates"), ("step/updates-thrown-away",)
    ),
    Bug("last_batch_dropped", evaluation.last_batch_dropped, ("exact_eval",), ("evaluation/last-batch-dropped",)),
    Bug(
        "parameters_in_float16",
        parameters_in_float16,
        ("half_precision_updates",),
        ("precision/epsilon-vanishes",),
    ),
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
