"""Visualize just before the net: what enters `apply`, as it enters it."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.data.batches import batch_indices
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.kinds import drawable, input_kinds
from jaxrecipe.probes.step_pass import is_finite
from jaxrecipe.report.result import Evidence, Histogram, Images, Result, Table
from jaxrecipe.setup import Setup

SHOWN = 16
"""Examples that are drawn."""


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

    What it does: takes the first training batch after preparation and augmentation, exactly as the training step gets
    it, and measures every floating input: root mean square, range, share of values stuck at the ends of the range, and
    whether examples differ. The pictures, ranges and histograms are the evidence.

    Why it matters: this is the only place where all that the pipeline did can be seen. Pixels divided by 255 twice, or
    not at all, still train, badly: an initialization keeps the variance of its inputs, so inputs of a thousandth give
    activations of a thousandth, and the biases drown them.

    What to do: scale once, to about zero mean and unit variance; look at the pictures in the report for anything that
    you would not label yourself.

    Args:
        setup: the set-up.
        key: of the step that is taken where something is not finite, to see whether it masks that.
        small_warn: WARN for inputs whose root mean square, or standard deviation, is below this.
        small_fail: FAIL below this.
        large_warn: WARN for inputs whose root mean square is above this.
        large_fail: FAIL above this.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "visualize just before the net".
    """
    inputs, targets = setup.training_batch(0)
    leaves = {path or "inputs": np.asarray(leaf) for path, leaf in trees.named_leaves(inputs).items()}
    floating = {path: leaf.astype(np.float64) for path, leaf in leaves.items() if trees.is_floating(leaf)}
    bounds = {"low": small_warn, "fail_low": small_fail, "high": large_warn, "fail_high": large_fail}
    measures, findings = [], []
    for path, leaf in floating.items():
        own = _measures(path, leaf, bounds)
        measures += own
        found = _finding(setup, path, leaf, own)
        masked = found is not None and not np.isfinite(leaf).all() and _step_is_finite(setup, key)
        findings += [] if found is None or masked else [found]
    shapes = ", ".join(f"{path} {leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves.items())
    return Result(
        summary=f"What enters the model: {shapes}.",
        findings=tuple(findings),
        measures=tuple(measures),
        evidence=(_ranges(leaves), *_pictures(setup, leaves, targets), *_histograms(floating)),
    )


def _measures(path: str, leaf: np.ndarray, bounds: dict[str, float]) -> tuple[Measure, Measure]:
    """Size and spread of one floating input, NaN where any of it is not finite."""
    finite = bool(np.isfinite(leaf).all())
    size = Measure(
        name=f"{path}: root mean square",
        value=float(np.sqrt(np.mean(np.square(leaf)))) if finite else float("nan"),
        severity=Severity.WARN,
        thresholds={"low": "small_warn", "fail_low": "small_fail", "high": "large_warn", "fail_high": "large_fail"},
        low=bounds["low"],
        fail_low=bounds["fail_low"],
        high=bounds["high"],
        fail_high=bounds["fail_high"],
    )
    spread = Measure(
        name=f"{path}: standard deviation",
        value=float(leaf.std()) if finite else float("nan"),
        low=bounds["low"],
        fail_low=bounds["fail_low"],
        severity=Severity.WARN,
        thresholds={"low": "small_warn", "fail_low": "small_fail"},
        code="data/scaled-twice",
    )
    return size, spread


def _finding(setup: Setup, path: str, leaf: np.ndarray, measures: tuple[Measure, Measure]) -> Finding | None:
    """What is wrong with one floating input; one thing, since each explains those after it."""
    size, spread = measures
    if not np.isfinite(leaf).all():
        text = f"{path}: {int((~np.isfinite(leaf)).sum())} of {leaf.size} values that enter the model are not finite."
        codes = ["data/not-finite-after-prepare", "data/not-finite"]
        codes = codes if _finite_before(setup) else codes[::-1]
        return failure(codes[0], text, measures=(size,), causes=causes(*codes))
    if len(leaf) > 1 and (leaf == leaf[:1]).all():
        text = f"{path}: all {len(leaf)} examples of the batch enter the model as the same numbers."
        return failure("data/constant-inputs", text, measures=(spread,), causes=causes("data/constant-inputs"))
    if size.verdict is not None:
        text = f"{path}: the values that enter the model have a root mean square of {size.value:.3g} "
        text += f"(from {leaf.min():.3g} to {leaf.max():.3g})."
        code = "data/scaled-twice" if size.low is not None and size.value < size.low else "data/inputs-not-scaled"
        return Finding(code=code, severity=size.verdict, message=text, measures=(size,))
    if spread.verdict is not None:
        text = f"{path}: the values that enter the model hardly differ: "
        text += f"{leaf.mean():.3g} with a standard deviation of {spread.value:.2g}."
        likeliest = causes("data/scaled-twice", "data/constant-inputs")
        return Finding(code=spread.code, severity=spread.verdict, message=text, measures=(spread,), causes=likeliest)
    return None


def _step_is_finite(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether a step on that batch gives a finite state and metrics all the same: it masks what is not known."""
    state, metrics = setup.step(setup.fresh_state(), *setup.training_batch(0), key)
    return is_finite(state) and is_finite(metrics)


def _finite_before(setup: Setup) -> bool:
    """Whether the same batch is finite before preparation and augmentation."""
    indices, _ = batch_indices(setup.seed, 0, setup.train.size, setup.batch_size)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(setup.train.gather(indices)[0])]
    return all(bool(np.isfinite(leaf).all()) for leaf in leaves if trees.is_floating(leaf))


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


def _pictures(setup: Setup, leaves: dict[str, np.ndarray], targets: Any) -> list[Evidence]:
    """The first examples of every input that can be drawn, captioned with their targets."""
    first = jax.tree.leaves(targets)
    labels = np.asarray(first[0]) if first else np.zeros(SHOWN)
    captions = [
        np.array2string(np.ravel(label)[:4], precision=2) if np.ndim(label) else str(label) for label in labels[:SHOWN]
    ]
    pictures = []
    for path, leaf in leaves.items():
        if drawable(leaf, input_kinds(setup).prepared[path]):
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
