"""Generalize a special case: what is written for a whole batch gives what it gives for one example at a time."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.generalize_a_special_case.class_weights import ClassWeights, class_weights
from jaxrecipe.data.batches import batch_indices
from jaxrecipe.probes.dependencies import awake, on_host, precision_of, replaced
from jaxrecipe.probes.unsorted_findings import Finding, concluded
from jaxrecipe.report.result import Curve, Evidence, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Classes, MultiLabel, Tokens

_result = partial(unsorted_result, name="generalize_a_special_case", stage="skeleton")


def generalize_a_special_case(setup: Setup, *, key: PRNGKeyArray, examples: int = 3, tolerance: float = 1e-3) -> Result:
    """A batch gives what its examples give one by one, in any order.

    What it does: computes model (in evaluation mode), loss, metrics and prepare for a batch, for some of its examples alone (a batch of one), and
    for the batch in reverse order, and compares. It looks along which axis the loss takes its softmax (and whether over labels that may hold at once), asks whether augment mixes examples or moves
    inputs to other targets, whether a step of your own reports a sum for a mean, and reads the weight of each class off the loss to
    compare it with how often the class occurs.

    Why it matters: code is written for one example and then vectorised, and that is where axes get lost: a reduction over the batch, a sum for a mean
    (so that the learning rate depends on the batch size), a squeeze that drops the batch axis when it is one, statistics of the
    batch in prepare that make a prediction depend on its neighbours, class weights in another order than the classes.

    What to do: write the part for one example, vectorise it with `jax.vmap`, and compare. Reduce over all axes but the first. If examples are
    meant to be compared or mixed, declare `mixes_examples=True`: then only prepare is looked at.

    Args:
        setup: the set-up.
        key: seeds augmentation.
        examples: how many examples are computed alone.
        tolerance: how far results may differ, as a share of the spread of the outputs over the batch; rounding stays far below, and what mixes
            examples far above. Eight times the rounding of the precision policy, if that is more.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "generalize a special case".
    """
    if setup.task.mixes_examples and setup.task.prepare is None:
        finding = (
            "The task declares that its examples mix (mixes_examples), and has no prepare, which must not mix them."
        )
        return _result(status=Status.SKIP, finding=finding)
    tolerance = max(tolerance, 8 * precision_of(setup))
    size = trees.leading_size(setup.batch[0])
    alone = np.unique(np.linspace(0, size - 1, min(examples, size)).astype(int))
    rows, findings = [], []
    for part in _parts(setup, key):
        compared = _compare(part, size, alone)
        off = compared.alone > tolerance or compared.reversed > tolerance or bool(compared.problem)
        rows.append((part.name, compared.alone, compared.reversed, compared.problem or ("differs" if off else "equal")))
        if off:
            moved = compared.reversed > tolerance and not compared.problem
            by_place = moved and _by_place(part, size, tolerance)
            findings.append(_finding(part, compared, size, by_place=by_place))
    weights = None
    if not setup.task.mixes_examples:
        findings += [
            *_of_axis(setup, key),
            *_of_labels(setup, key),
            *_of_augment(setup, key),
            *_of_reported_loss(setup, key),
        ]
        weights = class_weights(setup, _outputs(setup, key), setup.batch[1])
        findings += _of_weights(weights)
    columns = ("part", "largest difference, alone", "largest difference, reversed", "verdict")
    evidence: list[Evidence] = [Table(title="A batch against its examples", columns=columns, rows=rows)]
    evidence += [_curve(weights)] if weights is not None else []
    measured = {"parts compared": len(rows), "parts that differ": sum(row[3] != "equal" for row in rows)}
    passed = f"A batch equals its examples one by one: {', '.join(row[0] for row in rows)}."
    if setup.task.mixes_examples:
        passed += " Model, loss and augmentation may mix examples, as declared."
    expected = {"parts that differ": 0}
    return concluded(_result, findings, passed, measured=measured, expected=expected, evidence=evidence)


class Part(NamedTuple):
    """A part of the set-up: `run(arguments) -> a tree with a batch axis`, for arguments that are a tree with a batch axis."""

    name: str
    run: Callable[[Any], Any]
    arguments: Any


class Compared(NamedTuple):
    """How far a batch is from its examples, and from itself in reverse, as shares of its spread; what went wrong, in words."""

    alone: float
    reversed: float
    problem: str
    whole: np.ndarray
    singles: np.ndarray


MIXES = {
    "prepare": "prepare uses the other examples of the batch (their mean, standard deviation or largest value): compute such statistics once, over the training data, and apply them as constants.",
    "model": "The model mixes the examples of a batch at evaluation: look for a softmax, mean or normalisation over axis 0, a reshape where a transpose was meant, BatchNorm in training mode.",
    "loss": "The loss mixes the examples of a batch: look for a reduction over the wrong axis (axis 0, or none given), a softmax over the batch, or (N, 1) against (N,). Reduce over all axes but the first.",
}
METRIC = "The metric mixes the examples of a batch: look for a reduction over the wrong axis (axis 0, or none given). It must give one number an example."
BY_PLACE = "What {part} gives for an example depends on its place in the batch and not on the other examples: a weight, mask or table is indexed by position in the batch. Index it by the example's label or identity, or carry it along with the example."
SUMS = "The loss of every example is {ratio:.3g} times what it is alone, at a batch size of {size}: a sum over the batch where a mean was meant. Give one number an example, without any reduction over the batch."
DIVIDES = "The loss of every example is {ratio:.3g} times what it is alone, at a batch size of {size}: it is divided by the batch size once more. Give one number an example; the mean is taken later."
REDUCED = "Every example gets the same loss, the mean of the batch: the loss reduces over the batch axis as well (reduction over the wrong axis). Reduce over all axes but the first."
ALONE = "A batch of one does not come through: look for a squeeze without an axis, a fixed batch size in a reshape, or a reduction over the wrong axis."


def _parts(setup: Setup, key: PRNGKeyArray) -> Iterator[Part]:
    """Everything that takes a batch, with the arguments of the set-up's first batch."""
    task, batch = setup.task, on_host(setup.batch)
    if task.prepare is not None:
        indices, _ = batch_indices(setup.seed, 0, setup.train.size, setup.batch_size)
        prepare = jax.jit(task.prepare)
        yield Part("prepare", lambda raw: prepare(*raw), on_host(setup.train.gather(indices)))
    if task.mixes_examples:
        return
    params = awake(setup.params, key)
    yield Part(
        "model", lambda inputs: setup.forward(params, setup.model_state, inputs, train=False, key=key)[0], batch[0]
    )
    pair = (on_host(_outputs(setup, key)), batch[1])
    yield Part("loss", lambda pair: setup.losses(*pair), pair)
    for name, metric in task.all_metrics.items():
        compiled = jax.jit(metric)
        yield Part(name, lambda pair, compiled=compiled: compiled(*pair), pair)


def _outputs(setup: Setup, key: PRNGKeyArray) -> Any:
    """The model's outputs on the batch, with parameters that hide nothing."""
    return setup.forward(awake(setup.params, key), setup.model_state, setup.batch[0], train=False, key=key)[0]


def _compare(part: Part, size: int, alone: np.ndarray) -> Compared:
    """A part on the batch, on examples alone, and on the batch in reverse order."""
    whole = part.run(part.arguments)
    try:
        singles = [part.run(_rows(part.arguments, [i])) for i in alone]
    except Exception as error:  # the user's own function, on a batch of one: that it fails is the finding
        return Compared(0.0, 0.0, f"a batch of one fails: {type(error).__name__}", np.zeros(0), np.zeros(0))
    shapes = [[np.shape(leaf)[1:] for leaf in jax.tree.leaves(tree)] for tree in (whole, singles[0])]
    heads = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(singles[0])}
    if shapes[0] != shapes[1] or heads != {(1,)}:
        problem = f"a batch of one has shapes {[np.shape(leaf) for leaf in jax.tree.leaves(singles[0])]}"
        return Compared(0.0, 0.0, problem, np.zeros(0), np.zeros(0))
    backwards = [leaf[::-1] for leaf in _flat(part.run(_rows(part.arguments, np.arange(size)[::-1])))]
    flat = _flat(whole)
    flat_singles = [np.concatenate(leaves) for leaves in zip(*(_flat(single) for single in singles), strict=True)]
    return Compared(
        alone=_difference(flat, [leaf[alone] for leaf in flat], flat_singles),
        reversed=_difference(flat, flat, backwards),
        problem="",
        whole=flat[0][alone],
        singles=flat_singles[0],
    )


def _rows(tree: Any, which: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[np.asarray(which)], tree)


def _flat(tree: Any) -> list[np.ndarray]:
    """Each leaf with one row an example, float64."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf.astype(np.float64).reshape(len(leaf), -1) for leaf in leaves]


def _difference(whole: list[np.ndarray], a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Largest difference of two results over all leaves, each as a share of the spread of the whole one; NaN equals NaN."""
    worst = 0.0
    for reference, one, other in zip(whole, a, b, strict=True):
        scale = max(float(np.nanstd(reference)), 1e-3 * float(np.nanmax(np.abs(reference), initial=0.0)), 1e-30)
        with np.errstate(invalid="ignore"):
            off = np.abs(one - other)
        off[(np.isnan(one) & np.isnan(other)) | (one == other)] = 0.0
        worst = max(worst, float(np.nan_to_num(off, nan=np.inf).max(initial=0.0)) / scale)
    return min(worst, 1e9)


def _by_place(part: Part, size: int, tolerance: float) -> bool:
    """Whether an example's result depends on its place and not on the others: the first stays, and all the rest become one of them."""
    if size < 3:
        return False
    whole = _flat(part.run(part.arguments))
    for other in (1, size - 1):
        alone = _flat(part.run(_rows(part.arguments, [0] + [other] * (size - 1))))
        if _difference(whole, [leaf[:1] for leaf in whole], [leaf[:1] for leaf in alone]) > tolerance:
            return False
    return True


def _finding(part: Part, compared: Compared, size: int, *, by_place: bool) -> Finding:
    """What is wrong with a part that differs."""
    if compared.problem:
        return Finding(Status.FAIL, f"{part.name}: {compared.problem}.", ALONE)
    worst = "one by one" if compared.alone >= compared.reversed else "in reverse order"
    text = f"{part.name}: a batch and its examples {worst} differ by {max(compared.alone, compared.reversed):.2g} of its spread."
    if by_place:
        return Finding(Status.FAIL, text, BY_PLACE.format(part=part.name))
    if part.name != "loss":
        return Finding(Status.FAIL, text, MIXES.get(part.name, METRIC))
    with np.errstate(all="ignore"):
        ratios = compared.whole / compared.singles
    steady = bool(np.isfinite(ratios).all() and np.ptp(ratios) < 0.01 * abs(ratios.mean()))
    if steady and np.isclose(ratios.mean(), size, rtol=0.1):
        return Finding(Status.FAIL, text, SUMS.format(ratio=ratios.mean(), size=size))
    if steady and np.isclose(ratios.mean(), 1 / size, rtol=0.1):
        return Finding(Status.FAIL, text, DIVIDES.format(ratio=ratios.mean(), size=size))
    same = np.ptp(compared.whole) < 1e-4 * abs(compared.whole).max() < np.ptp(compared.singles)
    return Finding(Status.FAIL, text, REDUCED if same else MIXES["loss"])


WRONG_AXIS = "The softmax runs over axis {axis} of outputs {shape}, not over the classes: {how}. Take softmax, log_softmax and logsumexp over the last axis, axis=-1."


def _of_axis(setup: Setup, key: PRNGKeyArray) -> list[Finding]:
    """Whether the softmax of the loss or of the model runs over another axis than the classes'.

    A softmax does not change when the same number is added everywhere along its axis: the loss is asked along which axis that holds.
    """
    outputs, targets = on_host(_outputs(setup, key)), on_host(setup.batch[1])
    if not isinstance(setup.task.target, (Classes, Tokens)) or not isinstance(outputs, np.ndarray):
        return []
    last = outputs.ndim - 1
    if not isinstance(targets, np.ndarray) or outputs.ndim < 2 or outputs.shape[:-1] != targets.shape:
        return []
    rng, clean = np.random.default_rng(0), np.asarray(setup.losses(outputs, targets))

    def unchanged(axis: int | None) -> bool:
        shape = tuple(1 if i == axis else n for i, n in enumerate(outputs.shape))
        moved = (outputs + rng.normal(size=shape)).astype(outputs.dtype)
        return bool(np.allclose(np.asarray(setup.losses(moved, targets)), clean, rtol=1e-3, atol=1e-5))

    wide = [axis for axis in range(outputs.ndim) if outputs.shape[axis] > 1]
    if last in wide and not unchanged(last) and not unchanged(None):
        for axis in wide:
            if axis != last and unchanged(axis):
                how = "the loss does not change when a number is added along that axis"
                return [_wrong_axis(axis, outputs, how)]
    sums = {axis: np.exp(outputs.astype(np.float64)).sum(axis=axis) for axis in wide}
    plain = {axis: outputs.sum(axis=axis) if (outputs >= 0).all() else np.zeros(1) for axis in wide}
    one = [axis for axis in wide if np.allclose(sums[axis], 1, atol=1e-3) or np.allclose(plain[axis], 1, atol=1e-3)]
    if one and last not in one:
        return [_wrong_axis(one[0], outputs, "the model's probabilities sum to one along that axis")]
    return []


OVER_LABELS = (
    "The loss does not change when one number is added to all outputs of an example: it takes a softmax over labels that do not exclude each other, so they compete. Use a sigmoid cross "
    "entropy for each label; where the softmax is meant (targets that are divided by their number), say so with expect."
)


def _of_labels(setup: Setup, key: PRNGKeyArray) -> list[Finding]:
    """Whether a loss for labels that may hold at once takes a softmax over them."""
    outputs, targets = on_host(_outputs(setup, key)), on_host(setup.batch[1])
    if not isinstance(setup.task.target, MultiLabel) or not isinstance(outputs, np.ndarray) or outputs.shape[-1] < 2:
        return []
    rng, clean = np.random.default_rng(0), np.asarray(setup.losses(outputs, targets))

    def unchanged(shape: tuple[int, ...]) -> bool:
        moved = (outputs + rng.normal(size=shape)).astype(outputs.dtype)
        return bool(np.allclose(np.asarray(setup.losses(moved, targets)), clean, rtol=1e-3, atol=1e-5))

    if unchanged((*outputs.shape[:-1], 1)) and not unchanged(outputs.shape):
        return [
            Finding(
                Status.WARN, "The loss takes a softmax over the labels, of which several may hold at once.", OVER_LABELS
            )
        ]
    return []


def _wrong_axis(axis: int, outputs: np.ndarray, how: str) -> Finding:
    text = f"The softmax is taken over axis {axis} of the outputs {list(outputs.shape)}, not over the classes."
    return Finding(Status.FAIL, text, WRONG_AXIS.format(axis=axis, shape=list(outputs.shape), how=how))


MOVED = "augment moves inputs to other examples and leaves the targets where they were (a shuffle of the inputs alone): move both alike, or neither."
MIXED_BOTH = (
    "augment mixes examples, inputs and targets alike, as mixup does. If that is meant, declare mixes_examples=True."
)
MIXED_INPUTS = "augment mixes the inputs of different examples and not their targets: draw and apply it for each example (jax.vmap over examples and keys), or mix the targets too and declare mixes_examples=True."


def _of_augment(setup: Setup, key: PRNGKeyArray, tried: int = 3) -> list[Finding]:
    """Whether augment, with the same key, lets one example's inputs reach another example."""
    if setup.task.augment is None:
        return []
    augment, batch = jax.jit(setup.task.augment), on_host(setup.batch)
    size = trees.leading_size(batch[0])
    clean = augment(key, *batch)

    def reached(part: int, example: int) -> Bool[np.ndarray, "batch"]:
        moved = jax.tree.map(lambda leaf: replaced(leaf, np.arange(size) == example), batch[part])
        after = augment(key, *((moved, batch[1]) if part == 0 else (batch[0], moved)))
        pairs = zip(_flat(after[part]), _flat(clean[part]), strict=True)
        changed = [~np.isclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True).all(axis=1) for a, b in pairs]
        return np.asarray(np.any(changed, axis=0))

    for example in range(min(tried, size)):
        inputs, targets = reached(0, example), reached(1, example)
        others = np.arange(size) != example
        text = f"augment lets the inputs of example {example} reach {int((inputs & others).sum())} other examples."
        if not (inputs & others).any():
            continue
        if not inputs[example] and not (targets == inputs).all():
            return [Finding(Status.FAIL, text, MOVED)]
        if inputs[example] or (targets != inputs).any():
            return [Finding(Status.WARN, text, MIXED_BOTH if (targets & others).any() else MIXED_INPUTS)]
    return []


STEP_SUMS = "The step reports a loss of {reported:.4g} where the mean over the batch of {size} is {mean:.4g}: it sums over the batch where a mean was meant, so that the learning rate depends on the batch size."


def _of_reported_loss(setup: Setup, key: PRNGKeyArray) -> list[Finding]:
    """Whether the user's own step reports the sum of a batch's losses."""
    if not setup.owns_loop or setup.batch_size < 4:
        return []
    mean = setup.mean_loss(setup.params, setup.model_state, *setup.batch, train=True, key=key)
    _, metrics = setup.step(setup.fresh_state(), *setup.batch, key)
    reported = float(np.mean(metrics["loss"])) if "loss" in metrics else float("nan")
    if (
        not np.isfinite([mean, reported]).all()
        or abs(mean) < 1e-6
        or not 0.8 < reported / mean / setup.batch_size < 1.25
    ):
        return []
    text = f"The step's loss is {reported / mean:.3g} times the mean over the batch of {setup.batch_size}."
    return [Finding(Status.FAIL, text, STEP_SUMS.format(reported=reported, size=setup.batch_size, mean=mean))]


MISORDERED = "Class weights are misordered: sorted, they are what the class counts ask for, but they belong to other classes (most: class {top}, which occurs {count} times). Index them by the class that they were computed for."
INVERTED = "Class weights favour frequent classes: they are misordered, or multiplied by the counts instead of divided. Weigh by one over the count, in the order of the classes."


def _of_weights(weights: ClassWeights | None) -> list[Finding]:
    if weights is None or not (weights.misordered or weights.inverted):
        return []
    top = int(weights.weights.argmax())
    text = f"The loss weighs class {top} most, {weights.weights[top]:.2f} times the mean; it occurs {weights.counts[top]} times, the mean class {weights.counts.mean():.0f}."
    if weights.misordered:
        return [Finding(Status.FAIL, text, MISORDERED.format(top=top, count=int(weights.counts[top])))]
    return [Finding(Status.WARN, text, INVERTED)]


def _curve(weights: ClassWeights) -> Curve:
    series = {
        "weight in the loss": weights.weights,
        "count, relative to the mean": weights.counts / weights.counts.mean(),
    }
    return Curve(title="Weights of the classes", x=np.arange(len(weights.counts)), series=series, x_label="class")
