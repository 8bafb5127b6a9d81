"""Use backprop to chart dependencies, the other way round: what of the inputs the outputs depend on."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.chart_input_dependencies.influence import Influence, input_influences
from jaxrecipe.checks.skeleton.chart_input_dependencies.padding import Padding
from jaxrecipe.checks.skeleton.chart_input_dependencies.padding_token import padding_places
from jaxrecipe.checks.skeleton.chart_input_dependencies.segments import Segments, packed_segments
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.kinds import drawable
from jaxrecipe.report.result import Evidence, Images, Matrix, Result, Table
from jaxrecipe.setup import Setup

MOST_ROWS, MOST_COLUMNS = 64, 256
"""Of an influence that is drawn as a grid."""


def chart_input_dependencies(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    ignored_features: float = 0.25,
    ignored_channels: float = 0.5,
    ignored_channels_warn: float = 0.25,
    ignored_pixels: float = 0.75,
    ignored_pixels_warn: float = 0.25,
    parts: int = 16,
) -> Result:
    """Every input counts for something, and padding for nothing.

    What it does: charts by gradients (and by changed values, where there is no gradient) which input arrays, features,
    channels and pixels the outputs depend on, in evaluation and in training mode. Where the data mark padding
    (`Tokens(pad=...)`, a mask or lengths among the inputs, a mask among the targets) it changes what stands there,
    which must change neither the loss nor a metric; the embedding of the padding token must not move the outputs at
    real positions. Where inputs number the texts that are packed into a row, no text may depend on another. Parameters
    that start at zero are drawn at random first. Parameters without a gradient are the affair of `updates`.

    Why it matters: an input that is dropped on the way (sliced off, overwritten, multiplied by zero) is never missed by
    a program that trains on the rest. Padding that counts teaches the model to predict padding, and makes its result
    depend on the longest row beside it.

    What to do: follow the input that is named through the model. Multiply the losses of padded positions by the mask
    and divide by its sum; pass the mask to attention and pooling.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode.
        ignored_features: FAIL when more than this share of the varying columns of a table has no influence; a WARN
            below, since a single column may be left out on purpose.
        ignored_channels: FAIL when more than this share of the last axis of a sequence, or of an image without
            channels, has no influence.
        ignored_channels_warn: WARN above this share; a crop leaves out borders.
        ignored_pixels: FAIL when more than this share of the pixels or positions has no influence.
        ignored_pixels_warn: WARN above this share; a crop or a stride leaves out borders.
        parts: at most this many columns of an integer table are tried one by one.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "use backprop to chart dependencies".
    """
    influences, padding = input_influences(setup, key, parts), padding_places(setup, key)
    segments = packed_segments(setup, key)
    measures = [*map(_whole, influences), *map(_padding_seen, padding), *map(_segments_seen, segments)]
    counted = [one for one in padding if one.seen > 0]
    ignored = [one for one in influences if one.dead and one.name not in {mask.path for mask in counted}]
    findings = [*map(_ignored, ignored), *map(_counted, counted), *(_crossing(one) for one in segments if one.seen)]
    for one in [one for one in influences if not one.dead]:
        features = _ignored_features(one, ignored_features, ignored_channels, ignored_channels_warn)
        pixels = _ignored_pixels(one, ignored_pixels, ignored_pixels_warn)
        measures += [features, pixels]
        partly = _partly_ignored(one, features) or _partly_ignored(one, pixels)
        findings += [partly] if partly is not None else []
    names = ", ".join(f"{one.share:.0%} of {one.name}" for one in influences)
    summary = f"The outputs depend on {names}" + (", and not on padding." if padding else ".")
    return Result(
        summary=summary,
        findings=tuple(findings),
        measures=tuple(measures),
        evidence=(_table(influences), *_pictures(influences)),
    )


def _whole(one: Influence) -> Measure:
    """Share of an input with influence; none at all is a finding."""
    least = 1.0 / max(int(one.varies.sum()), 1) if one.varies.any() else None
    severity = Severity.WARN if one.looks_like_index else Severity.FAIL
    return Measure(
        name=f"{one.name}: share with influence",
        value=one.share,
        low=least,
        severity=severity,
        code="model/input-ignored",
    )


def _ignored(one: Influence) -> Finding:
    measure = _whole(one)
    here = "It holds a number of the example, which may not be meant for the model." if one.looks_like_index else ""
    found = cause(measure.code, here=here)
    text = f"Nothing depends on {one.name}."
    return Finding(code=measure.code, severity=measure.severity, message=text, measures=(measure,), causes=(found,))


def _ignored_features(one: Influence, columns: float, channels: float, channels_warn: float) -> Measure:
    """Share of the last axis that varies and has no influence anywhere."""
    border = one.places_last  # which a crop may leave out
    return Measure(
        name=f"{one.name}: share of features ignored",
        value=len(_silent_features(one)) / max(int(_varying_features(one).sum()), 1),
        high=channels_warn if border else 0.0,
        fail_high=channels if border else columns,
        severity=Severity.WARN,
        code="model/input-partly-ignored",
        thresholds={"high": "ignored_channels_warn", "fail_high": "ignored_channels"}
        if border
        else {"fail_high": "ignored_features"},
    )


def _ignored_pixels(one: Influence, pixels: float, pixels_warn: float) -> Measure:
    return Measure(
        name=f"{one.name}: share of values ignored",
        value=1 - one.share,
        high=pixels_warn,
        fail_high=pixels,
        severity=Severity.WARN,
        code="model/input-partly-ignored",
        thresholds={"high": "ignored_pixels_warn", "fail_high": "ignored_pixels"},
    )


def _partly_ignored(one: Influence, measure: Measure) -> Finding | None:
    """What a share of ignored features or values beyond its bounds amounts to."""
    if measure.verdict is None:
        return None
    silent = _silent_features(one)
    text, here = f"{measure.value:.0%} of {one.name} has no influence on the outputs.", ""
    if len(silent):
        text = (
            f"{len(silent)} of {_varying_features(one).sum()} features of {one.name} have no influence on the outputs."
        )
        here = f"Columns {_listed(silent)} of {one.name} never reach the outputs."
    found = cause(measure.code, here=here)
    return Finding(code=measure.code, severity=measure.verdict, message=text, measures=(measure,), causes=(found,))


def _varying_features(one: Influence) -> np.ndarray:
    """Which places of the last axis vary anywhere."""
    return np.asarray(one.varies.any(axis=tuple(range(one.strength.ndim - 1))))


def _silent_features(one: Influence) -> np.ndarray:
    """The places of the last axis that vary and have no influence anywhere."""
    strongest = one.strength.max(axis=tuple(range(one.strength.ndim - 1)))
    return np.flatnonzero((strongest == 0) & _varying_features(one))


def _segments_seen(one: Segments) -> Measure:
    severity = Severity.FAIL if one.certain else Severity.WARN
    name = f"{one.path}: share of the rows where one text sees another"
    return Measure(name=name, value=one.seen, high=0.0, severity=severity, code="model/segments-mixed")


def _crossing(one: Segments) -> Finding:
    measure = _segments_seen(one)
    text = (
        f"Texts packed into one row see one another: in {one.seen:.0%} of the rows that {one.path} divides, other "
        "tokens in one of them change the outputs of another."
    )
    return Finding(code=measure.code, severity=measure.severity, message=text, measures=(measure,))


def _padding_seen(one: Padding) -> Measure:
    severity = Severity.FAIL if one.declared else Severity.WARN
    name = f"{one.where}: share of the padding that counts" if one.what == "the loss" else f"{one.where}: {one.what}"
    return Measure(name=name, value=one.seen, low=0.0, high=0.0, severity=severity, code=one.code)


def _counted(one: Padding) -> Finding:
    measure = _padding_seen(one)
    text = f"Padding counts: {one.seen:.0%} of what {one.where} mark changes {one.what}."
    if one.code == "model/padding-seen" and not one.path:
        text = f"Padding is seen: {one.where} change {one.seen:.0%} of {one.what}."
    if one.code == "data/padding-undeclared":
        text = (
            f"Rows end in runs of one token, which looks like padding ({one.where}): {one.seen:.0%} of it changes "
            "the loss."
        )
    return Finding(code=one.code, severity=measure.severity, message=text, measures=(measure,))


def _table(influences: list[Influence]) -> Table:
    rows = [
        (one.name, str(list(one.leaf.shape[1:])), one.share, float(one.strength.max(initial=0.0))) for one in influences
    ]
    columns = ("input", "shape", "share with influence", "largest influence")
    return Table(title="Inputs", columns=columns, rows=rows)


def _pictures(influences: list[Influence]) -> list[Evidence]:
    """A picture of each array's influence where it has the shape of one."""
    found: list[Evidence] = []
    for one in influences:
        title = f"How far the outputs depend on each part of {one.name}"
        if one.strength.ndim > 1 and drawable(one.strength[None], one.kind):
            shown = (one.strength[None] / (one.strength.max() or 1.0)).astype(np.float32)
            found.append(Images(title=title, images=shown, low=0.0, high=1.0))
        elif 1 <= one.strength.ndim <= 2:
            shown = np.atleast_2d(one.strength)[:MOST_ROWS, :MOST_COLUMNS]
            found.append(Matrix(title=title, values=shown, row_label="", column_label="feature"))
    return found


def _listed(numbers: np.ndarray, most: int = 5) -> str:
    more = len(numbers) - most
    return ", ".join(str(number) for number in numbers[:most]) + (f" and {more} more" if more > 0 else "")
