"""One number an example for everything that can be computed of it: brightness, sharpness, length, norm, size of the label.

What to sort, search and plot by; outliers in any of them nearly always show a bug.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from jaxrecipe.data.sources import Source
from jaxrecipe.probes.reading import Head, by_path, chunks, finite, heads
from jaxrecipe.targets import Binary, Classes, TargetTree, Tokens, Values

LONG = 16
"""Integers an example from which on they are text and no table."""
FEW = 4
"""Values of a target up to which each is an attribute by itself."""
MOSTLY = 0.75
"""Share of one number from which on a column of a table has no usual spread: counts, borders of pictures laid flat."""
SAMPLED = 4096
"""Examples from which the usual spread of each column is taken."""
PIECE = 256
"""Examples at a time: small pictures as float32 then stay in the cache."""


@dataclass(frozen=True)
class Scale:
    """Usual mean and spread of each column of a table (channel of a series); infinity where there is no usual spread."""

    mean: Float64[np.ndarray, "columns"]
    spread: Float64[np.ndarray, "columns"]


def kind_of(leaf: np.ndarray) -> str:
    """What an input looks like, by shape and dtype: "picture", "text", "series" `[time, channels]` or "table"."""
    shape = leaf.shape[1:]
    channels_last = len(shape) == 3 and shape[-1] <= 4
    if (channels_last and min(shape[:2]) >= 4) or (len(shape) == 2 and min(shape) >= 8 and leaf.dtype == np.uint8):
        return "picture"
    if len(shape) == 2 and shape[0] == shape[1] >= 8:
        return "picture"
    if len(shape) == 1 and leaf.dtype.kind in "iu" and leaf.dtype.itemsize > 1 and shape[0] >= LONG:
        return "text"
    return "series" if len(shape) == 2 and shape[0] >= 4 else "table"


def attributes(source: Source, target: TargetTree, rows: Int[np.ndarray, "n"]) -> dict[str, Float64[np.ndarray, "n"]]:
    """Every attribute of the given examples as they are stored, by name ("inputs: brightness", "target: value")."""
    scales = _scales(source, rows)
    found: dict[str, list[np.ndarray]] = {}
    for _, (inputs, targets) in chunks(source, rows, PIECE):
        several = by_path(inputs)
        each = {
            f"{path}: {name}": v
            for path, leaf in several.items()
            for name, v in _of_input(leaf, scales.get(path), _pad(target)).items()
        }
        for head in heads(target, targets):
            each |= {f"{head.path or 'target'}: {name}": values for name, values in _of_target(head).items()}
        for name, values in each.items():
            found.setdefault(name, []).append(values.astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _of_input(leaf: np.ndarray, scale: Scale | None, pad: int) -> dict[str, np.ndarray]:
    """The attributes of one input of some examples."""
    match kind_of(leaf):
        case "picture":
            return of_pictures(leaf)
        case "text":
            return of_text(leaf, pad)
        case kind:
            return of_numbers(leaf, scale, series=kind == "series")


def of_pictures(pictures: np.ndarray) -> dict[str, Float[np.ndarray, "n"]]:
    """Brightness, contrast, size of the edges, sharpness (edges by contrast), colour, of pictures `[n, height, width, ...]`.

    Edges are mean absolute differences of neighbouring pixels; colour is how far the channels are apart.
    """
    values = finite(pictures.astype(np.float32)).reshape(*pictures.shape[:3], -1)
    n = len(values)
    flat = values.reshape(n, -1)
    mean = flat.mean(axis=1)
    square = np.einsum("ij,ij->i", flat, flat) / np.float32(flat.shape[1])
    contrast = np.sqrt(np.maximum(square - mean * mean, 0))
    across, down = (_mean_difference(values, axis) for axis in (1, 2))
    edges = (across + down) / 2
    sharpness = np.divide(edges, contrast, out=np.zeros_like(edges), where=contrast > 1e-6 * (1 + np.abs(mean)))
    found = {"brightness": mean, "contrast": contrast, "edges": edges, "sharpness": sharpness}
    if values.shape[-1] >= 3:
        red, green, blue = (values[..., channel] for channel in range(3))
        apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        found["colour"] = apart.reshape(n, -1).mean(axis=1)
        found["red over blue"] = (red - blue).reshape(n, -1).mean(axis=1)
    return found


def _mean_difference(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean absolute difference of neighbours along an axis."""
    size = values.shape[axis]
    after, before = np.take(values, range(1, size), axis), np.take(values, range(size - 1), axis)
    return np.abs(after - before).reshape(len(values), -1).mean(axis=1)


def of_text(text: np.ndarray, pad: int) -> dict[str, np.ndarray]:
    """Length without padding, share of different tokens and of the commonest one, of rows of tokens."""
    tokens = text.astype(np.int64)
    nothing = np.iinfo(np.int64).min
    real = tokens != pad
    length = real.sum(axis=1)
    ordered = np.sort(np.where(real, tokens, nothing), axis=1)
    new = np.concatenate([np.ones((len(tokens), 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    different = (new & (ordered != nothing)).sum(axis=1)
    place = np.arange(tokens.shape[1])
    since = place - np.maximum.accumulate(np.where(new, place, 0), axis=1) + 1
    commonest = np.where(ordered != nothing, since, 0).max(axis=1)
    some = np.maximum(length, 1)
    return {"length": length, "different tokens": different / some, "commonest token": commonest / some}


def of_numbers(values: np.ndarray, scale: Scale | None, *, series: bool) -> dict[str, np.ndarray]:
    """Norm, largest deviation of a column in standard deviations, share missing; of series also how rough they are."""
    n = len(values)
    numbers = values.astype(np.float64).reshape(n, -1)
    known = np.isfinite(numbers)
    filled = np.where(known, numbers, 0.0)
    found = {"norm": np.sqrt(np.einsum("ij,ij->i", filled, filled))}
    if not known.all():
        found["missing"] = 1 - known.mean(axis=1)
    if scale is not None and np.isfinite(scale.spread).any():
        columns = filled.reshape(n, -1, len(scale.mean))
        apart = np.abs(columns - scale.mean) / scale.spread
        found["largest deviation"] = np.where(known.reshape(columns.shape), apart, 0.0).reshape(n, -1).max(axis=1)
    if series:
        steps = np.diff(filled.reshape(n, values.shape[1], -1), axis=1)
        found["roughness"] = np.abs(steps).reshape(n, -1).mean(axis=1)
    return found


def _scales(source: Source, rows: Int[np.ndarray, "n"]) -> dict[str, Scale]:
    """Usual mean and spread of each column, from some of the examples."""
    some = rows[:: max(1, len(rows) // SAMPLED)]
    first = by_path(source.gather(some[:1])[0])
    wanted = {path for path, leaf in first.items() if kind_of(leaf) in ("table", "series") and leaf.size}
    if not wanted:
        return {}
    leaves = by_path(source.gather(some)[0])
    return {path: _scale(leaf) for path, leaf in leaves.items() if path in wanted}


def _scale(leaf: np.ndarray) -> Scale:
    """Mean and standard deviation of each column; not of one that is mostly one number, which has no usual spread."""
    columns = leaf.reshape(-1, leaf.shape[-1] if leaf.ndim > 1 else 1).astype(np.float64)
    columns = np.where(np.isfinite(columns), columns, np.nan)
    with np.errstate(invalid="ignore"):
        low, high = np.fmin.reduce(columns), np.fmax.reduce(columns)
        two_values = ~((columns > low) & (columns < high)).any(axis=0)
        middle = np.sort(columns, axis=0)[len(columns) // 2]
        one_number = (columns == middle).mean(axis=0) > MOSTLY
        count = np.maximum(np.isfinite(columns).sum(axis=0), 1)
        mean = np.nansum(columns, axis=0) / count
        spread = np.sqrt(np.nansum((columns - mean) ** 2, axis=0) / count)
    return Scale(np.nan_to_num(mean), np.where(two_values | one_number | (spread == 0), np.inf, spread))


def _of_target(head: Head) -> dict[str, np.ndarray]:
    """The value of a regression, the size of what a mask shows, the length of a text to predict."""
    labels = head.labels.reshape(len(head.labels), -1)
    match head.target:
        case Values() if labels.shape[1] == 1:
            return {"value": labels[:, 0]}
        case Values() if labels.shape[1] <= FEW:
            return {f"value {column}": labels[:, column] for column in range(labels.shape[1])}
        case Values():
            return {"norm": np.sqrt(np.square(labels.astype(np.float64)).sum(axis=1))}
        case Classes() | Binary() if labels.shape[1] > 1:
            return {"size of the label": (labels != 0).mean(axis=1)}
        case Tokens(pad=pad) if pad is not None:
            return {"length": (labels != pad).sum(axis=1)}
    return {}


def _pad(target: TargetTree) -> int:
    """The token that stands for padding: the declared one, or 0."""
    if isinstance(target, Mapping):
        return next((_pad(one) for one in target.values()), 0)
    return target.pad if isinstance(target, Tokens) and target.pad is not None else 0


@dataclass(frozen=True)
class Bounds:
    """What an attribute may be: beyond `low` and `high` chance puts an example only with the asked-for probability."""

    low: float
    high: float


def bounds(values: Float64[np.ndarray, "n"], chance: float) -> Bounds:
    """The range that the tails of the bulk lead one to expect for so many examples.

    On each side of the median a tail exp(-(x/c)^k) is laid through two quantiles (90 and 98 %; 75 and 95 % below 500 examples), and
    drawn out to where one of all examples lies beyond with probability `chance`. At a chance of one in a million about 7 standard
    deviations for 1,400 normally distributed numbers, far more for heavy tails. A group of at most a twentieth that a wide gap parts from all the rest is
    beyond too, even when it is large enough to bend the quantiles.
    """
    ordered = np.sort(values[np.isfinite(values)])
    if len(ordered) < 50 or len(np.unique(ordered[:: max(1, len(ordered) // 1000)])) < 8:
        return Bounds(-np.inf, np.inf)
    high = _reach(ordered, chance)
    low = -_reach(-ordered[::-1], chance)
    return Bounds(low, high)


def _reach(ordered: Float64[np.ndarray, "n"], chance: float) -> float:
    """The upper bound of sorted values."""
    n = len(ordered)
    inner, outer = (0.90, 0.98) if n >= 500 else (0.75, 0.95)
    middle = float(np.quantile(ordered, 0.5))
    near, far = (float(np.quantile(ordered, share)) - middle for share in (inner, outer))
    if near <= 0 or far <= near:
        return np.inf
    depths = [np.log(0.5 / (1 - share)) for share in (inner, outer)]
    power = max(0.5, float(np.log(far / near) / np.log(depths[1] / depths[0])))
    bound = middle + far * (np.log(0.5 * n / chance) / depths[1]) ** power
    bulk = np.diff(ordered[n // 10 : n - n // 10])
    joined = float(np.quantile(ordered, 0.95)) - middle <= 2 * near  # so that a group is at most a twentieth
    top = ordered[n - n // 20 - 1 :]
    gaps = np.diff(top)[: len(top) - max(5, n // 500)]
    if joined and gaps.size and gaps.max() > max(2 * near, 5 * bulk.max()):
        bound = min(bound, float(top[int(gaps.argmax())] + gaps.max() / 2))
    return float(bound)
