"""Visualize just before the net: what enters `apply`, as it enters it."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.report.result import Evidence, Histogram, Images, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="visualize_just_before_the_net", stage="skeleton")
SHOWN = 16


def visualize_just_before_the_net(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    small_warn: float = 0.05,
    small_fail: float = 0.005,
    large_warn: float = 20.0,
    large_fail: float = 500.0,
) -> Result:
    """The inputs that really enter the model are finite, scaled, alive and different from each other.

    What it does: takes the first training batch after preparation and augmentation, exactly as the training step gets it, and
    measures every floating input: root mean square, range, share of values stuck at the ends of the range, and whether examples
    differ. The pictures, ranges and histograms are the evidence.

    Why it matters: this is the only place where all that the pipeline did can be seen. Pixels divided by 255 twice, or not at
    all, still train, badly: an initialisation keeps the variance of its inputs, so inputs of a thousandth give activations of a
    thousandth, and the biases drown them.

    What to do: scale once, to about zero mean and unit variance; look at the pictures in the report for anything that you would
    not label yourself.

    Args:
        setup: the set-up.
        key: unused; the augmentation follows the set-up's seed.
        small_warn: WARN for inputs whose root mean square, or standard deviation, is below this.
        small_fail: FAIL below this.
        large_warn: WARN for inputs whose root mean square is above this.
        large_fail: FAIL above this.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "visualize just before the net".
    """
    del key
    inputs, targets = setup.training_batch(0)
    leaves = {path or "inputs": np.asarray(leaf) for path, leaf in trees.named_leaves(inputs).items()}
    floating = {path: leaf.astype(np.float64) for path, leaf in leaves.items() if np.issubdtype(leaf.dtype, np.inexact)}
    evidence = (_ranges(leaves), *_pictures(leaves, targets), *_histograms(floating))
    measured, expected, problems = {}, {}, []
    for path, leaf in floating.items():
        size = float(np.sqrt(np.mean(np.square(leaf)))) if np.isfinite(leaf).all() else float("nan")
        measured[f"{path}: root mean square"] = size
        expected[f"{path}: root mean square"] = f"{small_warn:g} to {large_warn:g}"
        problems += _problems(path, leaf, size, (small_fail, small_warn, large_warn, large_fail))
    if problems:
        status, finding, hint = min(problems, key=lambda problem: problem[0] is not Status.FAIL)
        return _result(
            status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=evidence
        )
    shapes = ", ".join(f"{path} {leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves.items())
    return _result(
        status=Status.PASS,
        finding=f"What enters the model: {shapes}.",
        measured=measured,
        expected=expected,
        evidence=evidence,
    )


NOT_FINITE = (
    "Find where NaN or infinity comes in: a division by a standard deviation of zero, missing values, an overflow."
)
TOO_SMALL = "The inputs are tiny: they are probably scaled twice (divided by 255 in the loader and again in prepare). Scale once, to unit variance."
TOO_LARGE = (
    "The inputs are large: they are probably not scaled at all. Divide by their range or standardise them, once."
)
HARDLY_DIFFER = (
    "The inputs are nearly constant, and what tells them apart is tiny: they were probably scaled twice before a mean was taken off (divided by 255 "
    "in the loader and again in prepare). Scale once; look at the pictures in the report."
)
ALL_EQUAL = (
    "Every example enters the model as the same numbers: the pipeline blanks the inputs, or repeats one example."
)


def _problems(
    path: str, leaf: np.ndarray, size: float, limits: tuple[float, float, float, float]
) -> list[tuple[Status, str, str]]:
    """What is wrong with one floating input: status, finding and hint of each."""
    small_fail, small_warn, large_warn, large_fail = limits
    if not np.isfinite(size):
        bad = int((~np.isfinite(leaf)).sum())
        return [(Status.FAIL, f"{path}: {bad} of {leaf.size} values that enter the model are not finite.", NOT_FINITE)]
    if len(leaf) > 1 and (leaf == leaf[:1]).all():
        return [(Status.FAIL, f"{path}: all {len(leaf)} examples of the batch are the same.", ALL_EQUAL)]
    scale = f"{path}: the values that enter the model have a root mean square of {size:.3g} (from {leaf.min():.3g} to {leaf.max():.3g})."
    if size < small_warn:
        return [(Status.FAIL if size < small_fail else Status.WARN, scale, TOO_SMALL)]
    if size > large_warn:
        return [(Status.FAIL if size > large_fail else Status.WARN, scale, TOO_LARGE)]
    spread = float(leaf.std())
    if spread < small_warn:
        finding = f"{path}: the values that enter the model hardly differ: {leaf.mean():.3g} with a standard deviation of {spread:.2g}."
        return [(Status.FAIL if spread < small_fail else Status.WARN, finding, HARDLY_DIFFER)]
    return []


def _ranges(leaves: dict[str, np.ndarray]) -> Table:
    """One row an input: dtype, shape, range, mean, standard deviation, share at the ends."""
    rows = []
    for path, leaf in leaves.items():
        values = leaf.astype(np.float64)
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        ends = float(((values == low) | (values == high)).mean()) if values.size else 0.0
        rows.append(
            (path, str(leaf.dtype), str(list(leaf.shape)), low, high, float(values.mean()), float(values.std()), ends)
        )
    columns = ("input", "dtype", "shape", "lowest", "highest", "mean", "standard deviation", "share at the ends")
    return Table(title="What enters the model", columns=columns, rows=rows)


def _pictures(leaves: dict[str, np.ndarray], targets: Any) -> list[Evidence]:
    """The first examples of every input that can be drawn, captioned with their targets."""
    first = jax.tree.leaves(targets)
    labels = np.asarray(first[0]) if first else np.zeros(SHOWN)
    captions = [
        np.array2string(np.ravel(label)[:4], precision=2) if np.ndim(label) else str(label) for label in labels[:SHOWN]
    ]
    pictures = []
    for path, leaf in leaves.items():
        if leaf.ndim == 4 and leaf.shape[-1] in (1, 3, 4) and min(leaf.shape[1:3]) > 1:
            shown = leaf[:SHOWN].astype(np.float32)
            low, high = (float(np.nanmin(shown)), float(np.nanmax(shown))) if np.isfinite(shown).any() else (0.0, 1.0)
            pictures.append(
                Images(
                    title=f"{path}, as the model gets it",
                    images=shown,
                    captions=captions,
                    low=low,
                    high=max(high, low + 1e-9),
                )
            )
    return pictures


def _histograms(floating: dict[str, np.ndarray]) -> list[Evidence]:
    """Distribution of the values of each floating input."""
    charts = []
    for path, leaf in floating.items():
        finite = leaf[np.isfinite(leaf)]
        if finite.size:
            counts, edges = np.histogram(finite, bins=40)
            charts.append(
                Histogram(title=f"Values of {path}", edges=edges, counts={path: counts}, x_label="value", log_y=True)
            )
    return charts
