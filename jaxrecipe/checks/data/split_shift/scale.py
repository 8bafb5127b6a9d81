"""How the spread and mean of the inputs of two splits compare, and whether rescaling one repairs it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.samples import Sample

MOST_COLUMNS = 512
"""Numbers of an input that are compared, evenly spread."""
LEAST_VARYING = 0.05
"""Share of the examples that must differ from the median for a number to have a spread."""
FEWEST_VARYING = 10
"""Examples that must, in any case."""
FEW_NUMBERS = 2
"""One or two numbers may drift; more than that do not drift by one factor."""
NO_DRIFT = 10.0
"""A factor, or a shift in standard deviations, that no drift explains."""
LEAST_GAIN = 0.1
"""Skill that a predictor fitted on the training split must gain on the test split for a rescaling to be a repair."""


@dataclass(frozen=True)
class Scale:
    """How one input of the test split compares with that of the training split, over its numbers that vary.

    Attributes:
        ratio: median of the ratios of their spreads, by standard or mean absolute deviation, whichever is nearer to 1.
        shift: median of the shifts of their means in standard deviations, without sign.
        ratio_errors, shift_errors: the same in standard errors.
        numbers: how many numbers vary.
        means, spreads: over all numbers, `(train, test)`.
    """

    ratio: float
    shift: float
    ratio_errors: float
    shift_errors: float
    numbers: int
    means: tuple[float, float]
    spreads: tuple[float, float]

    @property
    def factor(self) -> float:
        """The ratio of the spreads, the larger one above."""
        return max(self.ratio, 1.0 / self.ratio)


def compare_scales(train: np.ndarray, test: np.ndarray) -> Scale:
    """Spread and mean of every number that varies in both splits."""
    ours, theirs = _varying(train, test)
    whole = (float(ours.mean()), float(theirs.mean())) if ours.size else (0.0, 0.0)
    if not ours.shape[1]:
        return Scale(1.0, 0.0, 0.0, 0.0, 0, whole, (0.0, 0.0))
    means = ours.mean(axis=0), theirs.mean(axis=0)
    spreads = ours.std(axis=0), theirs.std(axis=0)
    standard, absolute = np.log(spreads[1] / spreads[0]), np.log(_deviation(theirs) / _deviation(ours))
    agree = np.sign(standard) == np.sign(absolute)
    logs = np.where(agree, np.sign(standard) * np.minimum(np.abs(standard), np.abs(absolute)), 0.0)
    tails = [
        np.mean(((rows - m) / s) ** 4, axis=0) - 1.0 for rows, m, s in zip((ours, theirs), means, spreads, strict=True)
    ]
    log_error = np.sqrt(tails[0] / (4 * len(ours)) + tails[1] / (4 * len(theirs)))
    pooled = np.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2.0)
    shift = np.abs(means[1] - means[0]) / pooled
    shift_error = np.sqrt(spreads[0] ** 2 / len(ours) + spreads[1] ** 2 / len(theirs)) / pooled
    return Scale(
        ratio=float(np.exp(np.median(logs))),
        shift=float(np.median(shift)),
        ratio_errors=float(abs(np.median(logs)) / np.median(log_error)),
        shift_errors=float(np.median(shift) / np.median(shift_error)),
        numbers=ours.shape[1],
        means=whole,
        spreads=(float(np.sqrt(np.mean(spreads[0] ** 2))), float(np.sqrt(np.mean(spreads[1] ** 2)))),
    )


def _varying(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that vary in both splits, at most 512, `[n, d]` and `[m, d]`."""
    ours, theirs = (
        np.nan_to_num(leaf.reshape(len(leaf), -1).astype(np.float64), posinf=0.0, neginf=0.0) for leaf in (train, test)
    )
    columns = np.linspace(0, ours.shape[1] - 1, min(ours.shape[1], MOST_COLUMNS)).astype(int)
    ours, theirs = ours[:, columns], theirs[:, columns]
    lively = [
        (rows != np.median(rows, axis=0)).sum(axis=0) >= max(FEWEST_VARYING, LEAST_VARYING * len(rows))
        for rows in (ours, theirs)
    ]
    return ours[:, lively[0] & lively[1]], theirs[:, lively[0] & lively[1]]


def _deviation(rows: np.ndarray) -> np.ndarray:
    """Mean absolute deviation from the mean of each column."""
    return np.abs(rows - rows.mean(axis=0)).mean(axis=0)


def rescaled(train: Sample, test: Sample) -> Sample:
    """The test sample with every number on the mean and spread that it has in the training sample."""
    inputs = dict(test.inputs)
    for path, leaf in test.with_scale().items():
        ours, theirs = (
            np.nan_to_num(one.astype(np.float64), posinf=0.0, neginf=0.0) for one in (train.inputs[path], leaf)
        )
        spreads = ours.std(axis=0), theirs.std(axis=0)
        ratio = np.where(spreads[1] > 0, spreads[0] / np.where(spreads[1] > 0, spreads[1], 1.0), 1.0)
        inputs[path] = ((theirs - theirs.mean(axis=0)) * ratio + ours.mean(axis=0)).astype(np.float32)
    return replace(test, inputs=inputs)


@dataclass(frozen=True)
class ScaleLimits:
    """The thresholds in force; `standard_errors` is what each of several tests must show."""

    scale_ratio: float
    mean_shift: float
    standard_errors: float


def scale_measures(path: str, scale: Scale, limits: ScaleLimits) -> tuple[Measure, Measure]:
    """Ratio of the spreads and shift of the means; with a code where it is no chance that they leave their bounds."""
    code = _code(scale)
    ratio = Measure(
        name=f"{path}: ratio of the spreads, test to train",
        value=scale.ratio,
        low=1.0 / limits.scale_ratio,
        high=limits.scale_ratio,
        severity=Severity.WARN,
        thresholds={"high": "scale_ratio"},
        code=code if scale.ratio_errors > limits.standard_errors else "",
    )
    shift = Measure(
        name=f"{path}: shift in standard deviations",
        value=scale.shift,
        high=limits.mean_shift,
        severity=Severity.WARN,
        thresholds={"high": "mean_shift"},
        code=code if scale.shift_errors > limits.standard_errors else "",
    )
    return ratio, shift


def _code(scale: Scale) -> str:
    """What a difference in scale amounts to: one or two numbers may drift, but not by a factor of ten."""
    drift = scale.numbers <= FEW_NUMBERS and max(scale.factor, scale.shift) <= NO_DRIFT
    return "data/drifting-feature" if drift else "data/split-scaled-differently"


def scale_findings(
    path: str, scale: Scale, measures: tuple[Measure, Measure], gain: Callable[[], float | None]
) -> list[Finding]:
    """Other units in one split.

    Args:
        path: of the input.
        scale: how it compares.
        measures: made by `scale_measures`.
        gain: the skill that rescaling gains on the test examples; None where no head can say. Asked only when needed.
    """
    broken = [measure for measure in measures if measure.code and measure.verdict is not None]
    if not broken:
        return []
    means, spreads = scale.means, scale.spreads
    size = f"{scale.ratio:.3g} times" if scale.ratio > 1 else f"1/{1 / scale.ratio:.3g} of"
    what = (
        f"The spread of the test inputs is {size} that of the training inputs"
        if broken[0] is measures[0]
        else f"The test inputs are {scale.shift:.3g} standard deviations away from the training inputs"
    )
    text = (
        f"{what} ({path}: mean {means[0]:.3g} and spread {spreads[0]:.3g} in train, {means[1]:.3g} and "
        f"{spreads[1]:.3g} "
        "in test)."
    )
    if broken[0].code == "data/drifting-feature":
        behind = causes("data/drifting-feature", "data/split-scaled-differently")
        return [warning("data/drifting-feature", text, measures=tuple(broken), causes=behind)]
    gained = gain()
    repaired = max(scale.factor, scale.shift) > NO_DRIFT if gained is None else gained > LEAST_GAIN
    witness = () if gained is None else (Measure(name="skill gained by rescaling the test inputs", value=gained),)
    if repaired:
        return [failure("data/split-scaled-differently", text, measures=(*broken, *witness))]
    behind = causes("data/split-scaled-differently", "data/split-inputs-differ")
    return [warning("data/split-scaled-differently", text, measures=(*broken, *witness), causes=behind)]
