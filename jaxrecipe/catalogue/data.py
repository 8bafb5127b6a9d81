"""Faults 1 to 16: in the data and in the code that reads and prepares them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrecipe.catalogue import bases
from jaxrecipe.catalogue.bases.preparing import PIXEL_MEAN, PIXEL_STD
from jaxrecipe.catalogue.edits import on_both, on_test, on_train
from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.catalogue.own_loop import with_own_loop
from jaxrecipe.task import Task


def rng() -> np.random.Generator:
    """The same random numbers for each fault, whatever the seed of the run."""
    return np.random.default_rng(11)


def features_shuffled(task: Task) -> Task:
    """The training inputs are shuffled and their labels are not."""
    return on_train(task, lambda x, y: (x[rng().permutation(len(y))], y))


def targets_shuffled(task: Task) -> Task:
    """The training targets are in another order than the inputs."""
    return on_train(task, lambda x, y: (x, y[rng().permutation(len(y))]))


def test_labels_off_by_one(task: Task) -> Task:
    """The labels of the test set count from another class than those of the training set."""
    return on_test(task, lambda x, y: (x, (y + 1) % 10))


def third_of_labels_random(task: Task) -> Task:
    """Three in ten training labels are random."""
    return on_train(task, lambda x, y: (x, _random_labels(y, 0.3)))


def tenth_of_labels_random(task: Task) -> Task:
    """One in ten training labels is random."""
    return on_train(task, lambda x, y: (x, _random_labels(y, 0.1)))


def _random_labels(labels: np.ndarray, share: float) -> np.ndarray:
    draw = rng()
    wrong = (labels + draw.integers(1, 10, len(labels))) % 10
    return np.where(draw.random(len(labels)) < share, wrong, labels).astype(np.int32)


def labels_divided(task: Task) -> Task:
    """The labels are divided by 255 together with the pixels and cast back, so that all are 0."""
    return on_both(task, lambda x, y: (x, (y / 255).astype(np.int32)))


def labels_divided_to_fractions(task: Task) -> Task:
    """The class labels are divided by 255 together with the pixels and stay fractions."""
    return on_both(task, lambda x, y: (x, (y / 255).astype(np.float32)))


def inputs_not_scaled(task: Task) -> Task:
    """The pixels enter the model as 0 to 255."""
    return task.replace(prepare=lambda x, y: (x.astype(jnp.float32), y))


def scaled_twice(task: Task) -> Task:
    """The pixels, already scaled to [0, 1], are divided by 255 once more."""
    prepare = task.prepare or (lambda inputs, targets: (inputs, targets))

    def twice(inputs: Any, targets: Any) -> tuple[Any, Any]:
        inputs, targets = prepare(inputs, targets)
        return inputs / 255.0, targets

    return task.replace(prepare=twice)


def scaled_twice_then_standardized(task: Task) -> Task:
    """The pixels are divided by 255 twice, and then mean and deviation of the right scale are taken off."""
    return task.replace(prepare=lambda x, y: ((x.astype(jnp.float32) / 255.0 / 255.0 - PIXEL_MEAN) / PIXEL_STD, y))


def test_not_scaled(task: Task) -> Task:
    """The training pixels are scaled to [0, 1] when they are loaded, the test pixels are not."""
    task = on_train(task, lambda x, y: (x.astype(np.float32) / 255.0, y))
    return on_test(task, lambda x, y: (x.astype(np.float32), y)).replace(prepare=None)


def nan_in_inputs(task: Task) -> Task:
    """A hundredth of the rows of the table have a missing value, which became NaN."""

    def missing(x: Any, y: Any) -> tuple[Any, Any]:
        x, draw = x.copy(), rng()
        x[np.flatnonzero(draw.random(len(x)) < 0.01), 7] = np.nan
        return x, y

    return on_train(task, missing)


def blank_inputs(task: Task) -> Task:
    """The reader returns an empty picture for every file."""
    return on_both(task, lambda x, y: (np.zeros_like(x), y))


def test_axes_swapped(task: Task) -> Task:
    """The test pictures were stored by columns, the training pictures by rows."""
    return on_test(task, lambda x, y: (np.ascontiguousarray(x.swapaxes(1, 2)), y))


def test_channels_swapped(task: Task) -> Task:
    """Colored ink: the training pictures are RGB, the test pictures BGR."""
    tint = np.array([1.0, 0.6, 0.15])
    color = lambda x: (x * tint).astype(np.uint8)  # noqa: E731
    return on_test(on_train(task, lambda x, y: (color(x), y)), lambda x, y: (color(x)[..., ::-1].copy(), y))


def class_missing(task: Task) -> Task:
    """There is no example of one of the ten classes in the training data."""
    return on_train(task, lambda x, y: (x[y != 7], y[y != 7]))


def rare_class_without_prior(task: Task) -> Task:
    """One example in a hundred is positive, and the model starts at one in two."""

    def thin(x: Any, y: Any) -> tuple[Any, Any]:
        kept = (y == 0) | (np.cumsum(y) <= len(y) // 100)
        return x[kept], y[kept]

    return on_both(task, thin)


def conflicting_duplicates(task: Task) -> Task:
    """One training example in seven is there a second time with another label."""

    def repeat(x: Any, y: Any) -> tuple[Any, Any]:
        draw = rng()
        chosen = draw.permutation(len(y))[: len(y) // 7]
        other = (y[chosen] + draw.integers(1, 10, len(chosen))) % 10
        return np.concatenate([x, x[chosen]]), np.concatenate([y, other.astype(y.dtype)])

    return on_train(task, repeat)


def test_in_training(task: Task) -> Task:
    """Half of the test examples are among the training examples."""
    x_test, y_test = task.test
    half = len(y_test) // 2
    return on_train(task, lambda x, y: (np.concatenate([x, x_test[:half]]), np.concatenate([y, y_test[:half]])))


def label_as_column(task: Task) -> Task:
    """The table has a column that was made from the label."""
    made = lambda x, y: (np.concatenate([x, ((y[:, None] - 4.5) / 2.9).astype(np.float32)], axis=1), y)  # noqa: E731
    return on_both(task, made)


def label_stamped(task: Task) -> Task:
    """Each picture has a mark at its edge whose place is the label, as burnt-in annotations have."""

    def stamp(x: Any, y: Any) -> tuple[Any, Any]:
        x = x.copy()
        x[np.arange(len(y)), y % 8, 7 * (y // 8), 0] = 255
        return x, y

    return on_both(task, stamp)


def sorted_by_label(task: Task) -> Task:
    """The training data lie sorted by label, and a loop of one's own takes them in this order."""
    order = np.argsort(task.train[1], kind="stable")
    task = on_train(task, lambda x, y: (x[order], y[order]))
    return with_own_loop(task, order=lambda _epoch, size: np.arange(size))


def split_of_sorted_data(task: Task) -> Task:
    """The data were sorted by label when the last fifth was taken as the test set."""
    (x, y), (x_test, y_test) = task.train, task.test
    images, labels = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    order = np.argsort(labels, kind="stable")
    train, test = order[: len(y)], order[len(y) :]
    mixed = rng().permutation(train)
    return task.replace(train=(images[mixed], labels[mixed]), test=(images[test], labels[test]))


def target_not_scaled(task: Task) -> Task:
    """A regression target of about 300 goes as it is to a model that starts at 0."""
    return task


SPLITS = ("split_shift", "input_independent_baseline")
FAULTS = (
    Fault(
        1,
        features_shuffled,
        bases.picture_mlp,
        ("input_independent_baseline",),
        ("data/labels-shuffled", "data/misaligned-targets"),
        "a",
    ),
    Fault(
        1,
        targets_shuffled,
        bases.regression,
        ("input_independent_baseline",),
        ("data/labels-shuffled", "data/misaligned-targets"),
        "b",
    ),
    Fault(2, test_labels_off_by_one, bases.picture_mlp, ("labels", *SPLITS), ("data/split-labels-mapped-differently",)),
    Fault(3, third_of_labels_random, bases.picture_mlp, ("label_noise",), ("data/label-noise",), "a"),
    Fault(3, tenth_of_labels_random, bases.convnet, ("label_noise",), ("data/label-noise",), "b"),
    Fault(
        4,
        labels_divided,
        bases.picture_mlp,
        ("labels", "class_balance"),
        ("data/labels-scaled", "data/constant-labels"),
        "a",
    ),
    Fault(4, labels_divided_to_fractions, bases.picture_mlp, ("labels", "validate"), ("data/labels-scaled",), "b"),
    Fault(
        5,
        inputs_not_scaled,
        bases.picture_mlp,
        ("visualize_just_before_the_net", "loss_at_init"),
        ("data/inputs-not-scaled",),
    ),
    Fault(6, scaled_twice, bases.convnet, ("visualize_just_before_the_net",), ("data/scaled-twice",), "a"),
    Fault(
        6,
        scaled_twice_then_standardized,
        bases.picture_mlp,
        ("visualize_just_before_the_net",),
        ("data/scaled-twice",),
        "b",
    ),
    Fault(7, test_not_scaled, bases.convnet, SPLITS, ("data/split-scaled-differently",)),
    Fault(8, nan_in_inputs, bases.table_mlp, ("finite_inputs", "validate"), ("data/not-finite",)),
    Fault(
        9,
        blank_inputs,
        bases.convnet,
        ("finite_inputs", "input_independent_baseline", "visualize_just_before_the_net"),
        ("data/constant-inputs", "data/blank-examples"),
    ),
    Fault(10, test_axes_swapped, bases.convnet, SPLITS, ("data/split-axes-swapped",), "a"),
    Fault(10, test_channels_swapped, bases.convnet, SPLITS, ("data/split-axes-swapped",), "b"),
    Fault(11, class_missing, bases.picture_mlp, ("class_balance", "labels"), ("data/class-missing",), "a"),
    Fault(
        11,
        rare_class_without_prior,
        bases.zero_bias_binary,
        ("class_balance", "init_well"),
        ("model/final-bias-ignores-prior", "data/imbalance"),
        "b",
    ),
    Fault(12, conflicting_duplicates, bases.picture_mlp, ("duplicates",), ("data/conflicting-duplicates",)),
    Fault(13, test_in_training, bases.convnet, ("split_leakage",), ("data/test-in-train",)),
    Fault(
        14,
        label_as_column,
        bases.table_mlp,
        ("leaked_label",),
        ("data/leaked-label", "data/single-feature-suffices"),
        "a",
    ),
    Fault(14, label_stamped, bases.convnet, ("leaked_label",), ("data/leaked-label",), "b"),
    Fault(15, sorted_by_label, bases.convnet, ("data_order",), ("data/sorted",), "a"),
    Fault(
        15,
        split_of_sorted_data,
        bases.convnet,
        ("split_shift", "class_balance", "data_order"),
        ("data/class-balance-shift", "data/class-missing", "data/sorted"),
        "b",
    ),
    Fault(
        16,
        target_not_scaled,
        bases.total_ink_from_zero,
        ("loss_at_init", "init_well"),
        ("data/targets-not-scaled", "model/final-bias-ignores-prior"),
    ),
)
