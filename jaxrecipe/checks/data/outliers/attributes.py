"""One number an example for everything that can be computed of it: brightness, sharpness, length, norm, size of the
label.

What to sort, search and plot by; outliers in any of them nearly always show a bug.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

from jaxrecipe.data.sources import Source
from jaxrecipe.inputs import InputKind
from jaxrecipe.probes.heads import heads_with_arrays
from jaxrecipe.probes.reading import by_path, chunks, finite
from jaxrecipe.targets import Binary, Classes, Head, TargetTree, Tokens, Values

FEW = 4
"""Values of a target up to which each is an attribute by itself."""
MOSTLY = 0.75
"""Share of one number from which on a column of a table has no usual spread: counts, borders of images laid flat."""
SAMPLED = 4096
"""Examples from which the usual spread of each column is taken."""
ROUNDING = 1e-6
"""Contrast of an image, as a share of its brightness, below which it is constant but for rounding in float32."""
PIECE = 256
"""Examples at a time: small images as float32 then stay in the cache."""


@dataclass(frozen=True)
class Scale:
    """Usual mean and spread of each column of a table (channel of a series); infinity where there is no usual
    spread.
    """

    mean: Float64[np.ndarray, "columns"]
    spread: Float64[np.ndarray, "columns"]


def attributes(
    source: Source, target: TargetTree, rows: Int[np.ndarray, "n"], kinds: Mapping[str, InputKind]
) -> dict[str, Float64[np.ndarray, "n"]]:
    """Every attribute of the given examples as they are stored, by name ("inputs: brightness", "target: value").

    `kinds` says what each input is, by path.
    """
    scales = _scales(source, rows, kinds)
    found: dict[str, list[np.ndarray]] = {}
    for _, (inputs, targets) in chunks(source, rows, PIECE):
        several = by_path(inputs)
        each = {
            f"{path}: {name}": v
            for path, leaf in several.items()
            for name, v in _input_attributes(leaf, kinds[path], scales.get(path), _padding(target)).items()
        }
        for head in heads_with_arrays(target, targets):
            each |= {f"{head.path or 'target'}: {name}": values for name, values in _target_attributes(head).items()}
        for name, values in each.items():
            found.setdefault(name, []).append(values.astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _input_attributes(leaf: np.ndarray, kind: InputKind, scale: Scale | None, pad: int) -> dict[str, np.ndarray]:
    """The attributes of one input of some examples."""
    match kind:
        case "image":
            return of_images(leaf)
        case "tokens":
            return of_text(leaf.reshape(len(leaf), -1), pad)
        case _:
            return of_numbers(leaf, scale, series=kind == "sequence")


def of_images(images: np.ndarray) -> dict[str, Float[np.ndarray, "n"]]:
    """Brightness, contrast, size of the edges, sharpness (edges by contrast), color, of images `[n, height, width,
    ...]`.

    Edges are mean absolute differences of neighbouring pixels; color is how far the channels are apart.
    """
    values = finite(images.astype(np.float32)).reshape(*images.shape[:3], -1)
    n = len(values)
    flat = values.reshape(n, -1)
    mean = flat.mean(axis=1)
    square = np.einsum("ij,ij->i", flat, flat) / np.float32(flat.shape[1])
    contrast = np.sqrt(np.maximum(square - mean * mean, 0))
    across, down = (_mean_difference(values, axis) for axis in (1, 2))
    edges = (across + down) / 2
    sharpness = np.divide(edges, contrast, out=np.zeros_like(edges), where=contrast > ROUNDING * (1 + np.abs(mean)))
    found = {"brightness": mean, "contrast": contrast, "edges": edges, "sharpness": sharpness}
    if values.shape[-1] >= 3:
        red, green, blue = (values[..., channel] for channel in range(3))
        apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        found["color"] = apart.reshape(n, -1).mean(axis=1)
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


def _scales(source: Source, rows: Int[np.ndarray, "n"], kinds: Mapping[str, InputKind]) -> dict[str, Scale]:
    """Usual mean and spread of each column, from some of the examples."""
    some = rows[:: max(1, len(rows) // SAMPLED)]
    first = by_path(source.gather(some[:1])[0])
    wanted = {path for path, leaf in first.items() if kinds[path] in ("table", "sequence") and leaf.size}
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


def _target_attributes(head: Head) -> dict[str, np.ndarray]:
    """The value of a regression, the size of what a mask shows, the length of a text to predict."""
    labels = head.targets.reshape(len(head.targets), -1)
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


def _padding(target: TargetTree) -> int:
    """The token that stands for padding: the declared one, or 0."""
    if isinstance(target, Mapping):
        return next((_padding(one) for one in target.values()), 0)
    return target.pad if isinstance(target, Tokens) and target.pad is not None else 0
