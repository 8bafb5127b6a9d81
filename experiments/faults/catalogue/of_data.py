"""Faults 1 to 16: in the data and in the code that reads and prepares them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxrecipe as jr
from experiments.faults import bases
from experiments.faults.catalogue.fault import Fault, on_both, on_test, on_train
from experiments.faults.own_loop import with_own_loop


def rng() -> np.random.Generator:
    """The same random numbers for each fault, whatever the seed of the run."""
    return np.random.default_rng(11)


def features_shuffled(task: jr.Task) -> jr.Task:
    """The training inputs are shuffled and their labels are not."""
    return on_train(task, lambda x, y: (x[rng().permutation(len(y))], y))


def targets_shuffled(task: jr.Task) -> jr.Task:
    """The training targets of a regression are in another order than the inputs."""
    return on_train(task, lambda x, y: (x, y[rng().permutation(len(y))]))


def test_labels_off_by_one(task: jr.Task) -> jr.Task:
    """The labels of the test set count from another class than those of the training set."""
    return on_test(task, lambda x, y: (x, (y + 1) % 10))


def third_of_labels_random(task: jr.Task) -> jr.Task:
    """Three in ten training labels are random."""
    return on_train(task, lambda x, y: (x, _random_labels(y, 0.3)))


def tenth_of_labels_random(task: jr.Task) -> jr.Task:
    """One in ten training labels is random."""
    return on_train(task, lambda x, y: (x, _random_labels(y, 0.1)))


def _random_labels(labels: np.ndarray, share: float) -> np.ndarray:
    draw = rng()
    wrong = (labels + draw.integers(1, 10, len(labels))) % 10
    return np.where(draw.random(len(labels)) < share, wrong, labels).astype(np.int32)


def labels_divided(task: jr.Task) -> jr.Task:
    """The labels are divided by 255 together with the pixels and cast back, so that all are 0."""
    return on_both(task, lambda x, y: (x, (y / 255).astype(np.int32)))


def labels_divided_to_fractions(task: jr.Task) -> jr.Task:
    """The class labels are divided by 255 together with the pixels and stay fractions."""
    return on_both(task, lambda x, y: (x, (y / 255).astype(np.float32)))


def inputs_not_scaled(task: jr.Task) -> jr.Task:
    """The pixels enter the model as 0 to 255."""
    return task.replace(prepare=lambda x, y: (x.astype(jnp.float32), y))


def scaled_twice(task: jr.Task) -> jr.Task:
    """The pixels are divided by 255 twice."""
    return task.replace(prepare=lambda x, y: (x.astype(jnp.float32) / 255.0 / 255.0, y))


def scaled_twice_then_standardised(task: jr.Task) -> jr.Task:
    """The pixels are divided by 255 twice, and then mean and deviation of the right scale are taken off."""
    return task.replace(prepare=lambda x, y: ((x.astype(jnp.float32) / 255.0 / 255.0 - 0.305) / 0.376, y))


def test_not_scaled(task: jr.Task) -> jr.Task:
    """The training pixels are scaled to [0, 1] when they are loaded, the test pixels are not."""
    task = on_train(task, lambda x, y: (x.astype(np.float32) / 255.0, y))
    return on_test(task, lambda x, y: (x.astype(np.float32), y)).replace(prepare=None)


def nan_in_inputs(task: jr.Task) -> jr.Task:
    """A hundredth of the rows of the table have a missing value, which became NaN."""

    def missing(x: Any, y: Any) -> tuple[Any, Any]:
        x, draw = x.copy(), rng()
        x[np.flatnonzero(draw.random(len(x)) < 0.01), 7] = np.nan
        return x, y

    return on_train(task, missing)


def blank_inputs(task: jr.Task) -> jr.Task:
    """The reader returns an empty picture for every file."""
    return on_both(task, lambda x, y: (np.zeros_like(x), y))


def test_axes_swapped(task: jr.Task) -> jr.Task:
    """The test pictures were stored by columns, the training pictures by rows."""
    return on_test(task, lambda x, y: (np.ascontiguousarray(x.swapaxes(1, 2)), y))


def test_channels_swapped(task: jr.Task) -> jr.Task:
    """Coloured ink: the training pictures are RGB, the test pictures BGR."""
    tint = np.array([1.0, 0.6, 0.15])
    colour = lambda x: (x * tint).astype(np.uint8)  # noqa: E731
    return on_test(on_train(task, lambda x, y: (colour(x), y)), lambda x, y: (colour(x)[..., ::-1].copy(), y))


def class_missing(task: jr.Task) -> jr.Task:
    """There is no example of one of the ten classes in the training data."""
    return on_train(task, lambda x, y: (x[y != 7], y[y != 7]))


def rare_class_without_prior(task: jr.Task) -> jr.Task:
    """One example in a hundred is positive, and the model starts at one in two."""

    def thin(x: Any, y: Any) -> tuple[Any, Any]:
        kept = (y == 0) | (np.cumsum(y) <= len(y) // 100)
        return x[kept], y[kept]

    return on_both(task, thin)


def conflicting_duplicates(task: jr.Task) -> jr.Task:
    """One training example in seven is there a second time with another label."""

    def repeat(x: Any, y: Any) -> tuple[Any, Any]:
        draw = rng()
        chosen = draw.permutation(len(y))[: len(y) // 7]
        other = (y[chosen] + draw.integers(1, 10, len(chosen))) % 10
        return np.concatenate([x, x[chosen]]), np.concatenate([y, other.astype(y.dtype)])

    return on_train(task, repeat)


def test_in_training(task: jr.Task) -> jr.Task:
    """Half of the test examples are among the training examples."""
    x_test, y_test = task.test
    half = len(y_test) // 2
    return on_train(task, lambda x, y: (np.concatenate([x, x_test[:half]]), np.concatenate([y, y_test[:half]])))


def label_as_column(task: jr.Task) -> jr.Task:
    """The table has a column that was made from the label."""
    made = lambda x, y: (np.concatenate([x, ((y[:, None] - 4.5) / 2.9).astype(np.float32)], axis=1), y)  # noqa: E731
    return on_both(task, made)


def label_stamped(task: jr.Task) -> jr.Task:
    """Each picture has a mark at its edge whose place is the label, as burnt-in annotations have."""

    def stamp(x: Any, y: Any) -> tuple[Any, Any]:
        x = x.copy()
        x[np.arange(len(y)), y % 8, 7 * (y // 8), 0] = 255
        return x, y

    return on_both(task, stamp)


def sorted_by_label(task: jr.Task) -> jr.Task:
    """The training data lie sorted by label, and a loop of one's own takes them in this order."""
    order = np.argsort(task.train[1], kind="stable")
    task = on_train(task, lambda x, y: (x[order], y[order]))
    return with_own_loop(task, order=lambda _epoch, size: np.arange(size))


def split_of_sorted_data(task: jr.Task) -> jr.Task:
    """The data were sorted by label when the last fifth was taken as the test set."""
    (x, y), (x_test, y_test) = task.train, task.test
    images, labels = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    order = np.argsort(labels, kind="stable")
    train, test = order[: len(y)], order[len(y) :]
    mixed = rng().permutation(train)
    return task.replace(train=(images[mixed], labels[mixed]), test=(images[test], labels[test]))


def target_not_scaled(task: jr.Task) -> jr.Task:
    """A regression target of about 300 goes as it is to a model that starts at 0."""
    return task


SPLITS = ("split_shift", "input_independent_baseline")
FAULTS = (
    Fault(
        1,
        features_shuffled,
        bases.picture_mlp,
        ("input_independent_baseline",),
        (r"do not belong", r"shuffled", r"do not match", r"belong together", r"another order"),
        "a",
    ),
    Fault(
        1,
        targets_shuffled,
        bases.regression,
        ("input_independent_baseline",),
        (r"do not belong", r"shuffled", r"do not match", r"belong together", r"another order"),
        "b",
    ),
    Fault(
        2,
        test_labels_off_by_one,
        bases.picture_mlp,
        ("labels", *SPLITS),
        (r"label map", r"map of (the )?labels", r"off by one", r"labels? .{0,60}(shifted|mapped|permuted|order)"),
    ),
    Fault(
        3,
        third_of_labels_random,
        bases.picture_mlp,
        ("label_noise",),
        (r"label noise", r"noisy label", r"wrong label", r"mislabel", r"labels? .{0,30}(wrong|random|noise)"),
        "a",
    ),
    Fault(
        3,
        tenth_of_labels_random,
        bases.convnet,
        ("label_noise",),
        (r"label noise", r"noisy label", r"wrong label", r"mislabel", r"labels? .{0,30}(wrong|random|noise)"),
        "b",
    ),
    Fault(
        4,
        labels_divided,
        bases.picture_mlp,
        ("labels", "class_balance"),
        (
            r"divided",
            r"one (class|label|value)\b",
            r"single (class|label|value)",
            r"same (class|label)",
            r"only (class|label)",
        ),
        "a",
    ),
    Fault(
        4,
        labels_divided_to_fractions,
        bases.picture_mlp,
        ("labels", "validate"),
        (r"divided", r"fraction", r"integer class"),
        "b",
    ),
    Fault(
        5,
        inputs_not_scaled,
        bases.picture_mlp,
        ("visualize_just_before_the_net", "loss_at_init"),
        (r"not scaled", r"inputs are scaled", r"scale the inputs", r"unscaled", r"standardi[sz]e the inputs"),
    ),
    Fault(
        6,
        scaled_twice,
        bases.convnet,
        ("visualize_just_before_the_net",),
        (r"scaled twice", r"divided .{0,20}twice", r"twice"),
        "a",
    ),
    Fault(
        6,
        scaled_twice_then_standardised,
        bases.picture_mlp,
        ("visualize_just_before_the_net",),
        (r"twice", r"hardly (differ|var)", r"(nearly|almost) (constant|the same|equal)", r"tiny"),
        "b",
    ),
    Fault(
        7,
        test_not_scaled,
        bases.convnet,
        SPLITS,
        (r"scale", r"prepared differently", r"range"),
    ),
    Fault(
        8,
        nan_in_inputs,
        bases.table_mlp,
        ("finite_inputs", "validate"),
        (r"\bnan\b", r"not finite", r"non-finite", r"missing value"),
    ),
    Fault(
        9,
        blank_inputs,
        bases.convnet,
        ("finite_inputs", "input_independent_baseline", "visualize_just_before_the_net"),
        (r"blank", r"constant", r"same numbers", r"all .{0,40}(same|equal|zero)"),
    ),
    Fault(
        10,
        test_axes_swapped,
        bases.convnet,
        SPLITS,
        (r"axes", r"axis", r"transpos", r"layout", r"rotat", r"flip", r"orientation", r"height and width"),
        "a",
    ),
    Fault(10, test_channels_swapped, bases.convnet, SPLITS, (r"channel",), "b"),
    Fault(
        11,
        class_missing,
        bases.picture_mlp,
        ("class_balance", "labels"),
        (
            r"missing",
            r"no (training )?example",
            r"never (occur|appear)",
            r"absent",
            r"not (occur|appear|in the training)",
        ),
        "a",
    ),
    Fault(
        11,
        rare_class_without_prior,
        bases.zero_bias_binary,
        ("class_balance", "init_well"),
        (r"imbalanc", r"rare", r"prior", r"final bias", r"log frequenc"),
        "b",
    ),
    Fault(
        12,
        conflicting_duplicates,
        bases.picture_mlp,
        ("duplicates",),
        (r"conflict", r"different (labels|targets)", r"disagree", r"contradict"),
    ),
    Fault(
        13,
        test_in_training,
        bases.convnet,
        ("split_leakage",),
        (r"leak", r"both splits", r"in the training (data|set|split)", r"also .{0,30}train"),
    ),
    Fault(
        14,
        label_as_column,
        bases.table_mlp,
        ("leaked_label",),
        (
            r"leak",
            r"away",
            r"alone (predict|tell|determin)",
            r"made from the (label|target)",
            r"copy of the (label|target)",
        ),
        "a",
    ),
    Fault(
        14,
        label_stamped,
        bases.convnet,
        ("leaked_label",),
        (
            r"leak",
            r"away",
            r"alone (predict|tell|determin)",
            r"made from the (label|target)",
            r"copy of the (label|target)",
        ),
        "b",
    ),
    Fault(15, sorted_by_label, bases.convnet, ("data_order",), (r"sorted", r"shuffl", r"in order of"), "a"),
    Fault(
        15,
        split_of_sorted_data,
        bases.convnet,
        ("split_shift", "class_balance", "data_order"),
        (
            r"sorted",
            r"shuffl",
            r"not in the training",
            r"missing",
            r"no (training )?example",
            r"classes .{0,60}(split|test)",
        ),
        "b",
    ),
    Fault(
        16,
        target_not_scaled,
        bases.total_ink_from_zero,
        ("loss_at_init", "init_well"),
        (r"standardi[sz]e", r"targets? .{0,40}scale", r"final bias", r"mean of the targets", r"average of the targets"),
    ),
)
