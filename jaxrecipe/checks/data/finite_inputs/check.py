"""Finite inputs: numbers only, on one scale, that vary from example to example, in the form that the model reads."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxrecipe.checks.data.finite_inputs.layout import constant_parts, layout, vocabulary
from jaxrecipe.checks.data.finite_inputs.ranges import Scan, scans
from jaxrecipe.checks.data.finite_inputs.suspicious_numbers import TRIED, codes, narrowed, scales
from jaxrecipe.checks.data.finite_inputs.wrapped import wrapped
from jaxrecipe.data.sources import Source
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.dependencies import on_host
from jaxrecipe.probes.kinds import input_kinds
from jaxrecipe.probes.reading import copes, prepared_inputs, readable_rows, splits
from jaxrecipe.report.result import Curve, Evidence, Result, Table
from jaxrecipe.setup import Setup, Split

ENDS = 8
"""Of the smallest and largest examples of every input so many are prepared."""


def finite_inputs(
    setup: Setup, *, key: PRNGKeyArray, mixed: float = 0.01, constant_warn: float = 0.5, least: int = 20
) -> Result:
    """Inputs are finite, on one scale, vary between examples, and have the layout and range that the model reads.

    What it does: reads the inputs of both splits as they are stored and looks for NaN and infinity; codes for missing
    values (-999, repeated far away from everything else) and numbers whose square overflows; two groups of examples on
    different scales (0 to 1 and 0 to 255); inputs that are the same in every example, and features or channels that
    are; integers that JAX narrows to other ones; token ids that the embedding does not have; images with channels first
    where the convolutions read channels last; bytes that wrap around in prepare, through which it sends every level
    that occurs. What preparation repairs, or the loss masks, is no finding: the examples
    in question are prepared to see.

    Why it matters: one NaN makes every parameter NaN; a code of -999 drowns the rest of its column; a blank input makes
    the model a constant, and a token id out of range is silently another token.

    What to do: follow the hint to the step that makes the numbers.

    Args:
        setup: the set-up.
        key: unused; which examples are read of very large data follows the set-up's seed.
        mixed: share of the examples (and at least five) that make a group on another scale: fewer are outliers.
        constant_warn: WARN when more than this share of an input's features is constant. Borders of images do not
            count, nor do zeros of a table that is mostly zeros.
        least: examples below which nothing is said about what is constant.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "become one with the data".
    """
    del key
    findings: list[Finding] = []
    rows, charts, stored_bad = [], [], 0
    for split, source in splits(setup).items():
        found = scans(source, readable_rows(setup, split), input_kinds(setup).stored)
        tried = _tried(source, found)
        entering = prepared_inputs(setup, split, tried)
        findings += _reaching_the_model(setup, split, found, tried, entering)
        for scan in found.values():
            findings += [*codes(setup, split, source, scan)] or [*scales(setup, split, source, scan, mixed)]
            findings += narrowed(split, scan)
            rows.append((split, *_row(scan)))
            stored_bad += len(scan.bad)
            charts += _sorted_sizes(split, scan)
        if split == "train":
            findings += [*_constant(found, entering, least, constant_warn), *layout(setup, entering)]
            findings += [*vocabulary(setup, entering, tried), *wrapped(setup, *on_host(source.gather(tried)))]
    columns = ("split", "input", "dtype", "shape", "lowest", "highest", "examples not finite", "constant features")
    summary = "Every input is finite, on one scale, and varies."
    if stored_bad:
        summary = (
            f"{stored_bad} examples are stored with NaN or infinity; preparation replaces them or the loss masks them."
        )
    return Result(
        summary=summary,
        findings=tuple(findings),
        measures=(Measure(name="examples stored with NaN or infinity", value=stored_bad, unit="examples"),),
        evidence=[Table(title="Inputs as they are stored", columns=columns, rows=rows), *charts],
    )


def _tried(source: Source, found: dict[str, Scan]) -> Int[np.ndarray, "k"]:
    """Examples to prepare: some from everywhere, and the smallest and largest of every input."""
    ends = [scan.rows[order] for scan in found.values() for order in _ends(scan.sizes)]
    some = np.linspace(0, source.size - 1, min(TRIED, source.size)).astype(np.int64)
    return np.unique(np.concatenate([some, *ends]))


def _ends(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which examples are the smallest and the largest."""
    order = np.argsort(sizes, kind="stable")
    return order[:ENDS], order[-ENDS:]


def _reaching_the_model(
    setup: Setup, split: Split, found: dict[str, Scan], tried: Int[np.ndarray, "k"], entering: dict[str, np.ndarray]
) -> Iterator[Finding]:
    """NaN and infinity that are stored or made by preparation, and neither replaced nor masked."""
    stored = np.unique(np.array([row for scan in found.values() for row in scan.bad], np.int64))
    if stored.size:
        looked_at = stored[:TRIED]
        still = looked_at[_rows_not_finite(prepared_inputs(setup, split, looked_at))]
        if still.size and not copes(setup, split, still):
            where = ", ".join(path for path, scan in found.items() if scan.bad)
            total = len(next(iter(found.values())).rows)
            text = (
                f"{split}, {where}: {len(stored)} of {total} examples hold NaN or infinity, first example {stored[0]}."
            )
            reach = Measure(
                name=f"{split}: examples that reach the model with NaN or infinity",
                value=len(still),
                low=0,
                high=0,
                unit="examples",
            )
            yield failure("data/not-finite", text, measures=(reach,))
    made = np.setdiff1d(tried[_rows_not_finite(entering)], stored)
    if made.size and not copes(setup, split, made):
        text = (
            f"{split}: preparation makes NaN or infinity of {len(made)} of {len(tried)} finite examples, first example "
            f"{made[0]}."
        )
        number = Measure(
            name=f"{split}: finite examples of which preparation makes NaN or infinity",
            value=len(made),
            low=0,
            high=0,
            unit="examples",
        )
        yield failure("data/not-finite-after-prepare", text, measures=(number,))


def _rows_not_finite(leaves: dict[str, np.ndarray]) -> np.ndarray:
    """Which examples hold NaN or infinity in any input."""
    bad = [~np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves.values()]
    return np.any(bad, axis=0)


def _constant(
    found: dict[str, Scan], entering: dict[str, np.ndarray], least: int, constant_warn: float
) -> Iterator[Finding]:
    """Inputs, channels and columns that are the same in every example."""
    scanned = [scan for scan in found.values() if scan.low.size and scan.finite >= least]
    if not scanned:
        return
    if all(scan.constant.all() for scan in scanned):
        text = f"train: all {scanned[0].finite} examples have the same inputs."
        yield failure("data/constant-inputs", text)
        return
    if all((leaf == leaf[:1]).all() for leaf in entering.values()):
        text = f"train: preparation makes all of {len(next(iter(entering.values())))} examples the same."
        yield failure("data/constant-inputs", text)
        return
    for scan in scanned:
        text = constant_parts(scan, constant_warn)
        if text:
            yield warning("data/constant-feature", f"train, {scan.path}: {text}")


def _row(scan: Scan) -> tuple[Any, ...]:
    """One line of the table."""
    low, high = (float(scan.low.min()), float(scan.high.max())) if scan.low.size else (float("nan"), float("nan"))
    constant = float(scan.constant.mean()) if scan.low.size else 0.0
    return scan.path, str(scan.dtype), str(list(scan.shape)), low, high, len(scan.bad), constant


def _sorted_sizes(split: Split, scan: Scan) -> list[Evidence]:
    """The sizes of the examples in rising order: one smooth line, or two where scales are mixed."""
    sizes = np.sort(scan.sizes[np.isfinite(scan.sizes)])
    if scan.integer or not sizes.size:
        return []
    shown = sizes[np.linspace(0, len(sizes) - 1, min(200, len(sizes))).astype(int)]
    return [
        Curve(
            title=f"{split}, {scan.path}: largest absolute value of each example, sorted",
            x=np.linspace(0, 1, len(shown)),
            series={"largest": shown},
            x_label="share of the examples",
            log_y=bool(shown[0] > 0),
        )
    ]
