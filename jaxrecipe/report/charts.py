"""Curves and histograms as SVG; the page's script only adds the reading of values under the pointer."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Float

from jaxrecipe.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, frame, x_scale, y_scale
from jaxrecipe.report.evidence import Curve, Histogram
from jaxrecipe.report.markup import Markup, data_block, element, join
from jaxrecipe.report.numbers import floats, number, plural, shorten, thinned

COLORS = 6
"""How many colors the style sheet has for series; then they repeat with another dash."""
_MOST_SERIES = 24
_MOST_POINTS = 1200
_BASE_COUNT = 0.5
"""Where the bars of a logarithmic histogram stand: below one, so that a single count can be seen."""

Series = Mapping[str, Float[np.ndarray, "points"]]


def curve_chart(curve: Curve) -> Markup:
    """Lines with legend, reference levels, and shading where values are not finite."""
    x, series = _points(curve)
    if not x.size or not series:
        return element("p", "Nothing was recorded.", class_="empty")
    levels = {name: float(level) for name, level in curve.levels.items()}
    across = x_scale(x)
    up = y_scale(np.concatenate([*series.values(), floats(list(levels.values()))]), log=curve.log_y)
    shapes = [frame(across, up, x_label=curve.x_label, y_label=curve.y_label)]
    shapes += [_level(name, level, up) for name, level in levels.items() if np.isfinite(up.one(level))]
    shapes += [_line(i, y, across(x), up) for i, y in enumerate(series.values())]
    readings = {name: [number(float(v)) for v in y] for name, y in series.items()}
    heading = [f"{curve.x_label} {number(float(v))}" for v in x]
    hover = _hover(across(x), heading, readings, {name: up(y) for name, y in series.items()})
    notes = _notes(series, curve.log_y, len(curve.series) - len(series))
    return join([_legend(series), _svg(f"{curve.title}: {_ends_in_words(series)}", shapes, hover), *notes])


def histogram_chart(histogram: Histogram) -> Markup:
    """Counts as filled steps over a common axis."""
    counts = {name: floats(values).ravel() for name, values in list(histogram.counts.items())[:_MOST_SERIES]}
    bins = min((len(values) for values in counts.values()), default=0)
    if not bins:
        return element("p", "Nothing was counted.", class_="empty")
    counts = {name: values[:bins] for name, values in counts.items()}
    given = floats(histogram.edges).ravel()
    edges = _drawable_edges(given, bins)
    across = x_scale(edges)
    base = _BASE_COUNT if histogram.log_y else 0.0
    up = y_scale(np.concatenate([*counts.values(), [base]]), log=histogram.log_y, share=0.0)
    shapes = [frame(across, up, x_label=histogram.x_label, y_label="count")]
    shapes += [_steps(i, values, across(edges), up, base) for i, values in enumerate(counts.values())]
    labels = [f"{number(float(a))} … {number(float(b))}" for a, b in itertools.pairwise(given)]
    labels = labels if len(labels) == bins else [f"bin {i}" for i in range(bins)]
    pixels = across(edges)
    readings = {name: [number(float(v)) for v in values] for name, values in counts.items()}
    hover = _hover(
        (pixels[:-1] + pixels[1:]) / 2, labels, readings, {n: up(np.maximum(v, base)) for n, v in counts.items()}
    )
    notes = _notes(counts, False, len(histogram.counts) - len(counts))
    return join([_legend(counts), _svg(f"{histogram.title}: {bins} bins", shapes, hover), *notes])


def _points(curve: Curve) -> tuple[Float[np.ndarray, "points"], Series]:
    """The points to draw: those with a finite x, thinned out when they are too many to see."""
    x = floats(curve.x).ravel()
    series = {name: floats(values).ravel() for name, values in list(curve.series.items())[:_MOST_SERIES]}
    size = min([x.size, *(y.size for y in series.values())])
    usable = np.flatnonzero(np.isfinite(x[:size]))
    each = _MOST_POINTS // max(1, len(series))
    kept = np.unique(
        np.concatenate([usable[thinned(y[usable], each)] for y in series.values()] or [usable]).astype(int)
    )
    return x[kept], {name: y[kept] for name, y in series.items()}


def _line(index: int, y: Float[np.ndarray, "points"], x: Float[np.ndarray, "points"], up: Scale) -> Markup:
    """One series: its unbroken stretches as lines, lone points as dots, shaded bands over what is not finite."""
    heights = up(y)
    shapes = []
    for start, end in _runs(np.isfinite(heights)):
        if end - start == 1:
            shapes.append(element("circle", cx=f"{x[start]:.1f}", cy=f"{heights[start]:.1f}", r=3.2))
        else:
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[start:end], heights[start:end], strict=True))
            shapes.append(element("polyline", points=points))
    for start, end in _runs(~np.isfinite(y)):
        left, width = x[start] - 1.5, x[end - 1] - x[start] + 3
        shapes.append(
            element("rect", class_="bad", x=f"{left:.1f}", width=f"{width:.1f}", y=TOP, height=HEIGHT - BOTTOM - TOP)
        )
    return element("g", *shapes, class_=_color("series", index), data_series=index)


def _steps(
    index: int, counts: Float[np.ndarray, "bins"], x: Float[np.ndarray, "edges"], up: Scale, base: float
) -> Markup:
    tops = up(np.maximum(np.where(np.isfinite(counts), counts, base), base))
    floor = up.one(base)
    corners = [f"{x[0]:.1f},{floor:.1f}"]
    for left, right, top in zip(x[:-1], x[1:], tops, strict=True):
        corners += [f"{left:.1f},{top:.1f}", f"{right:.1f},{top:.1f}"]
    corners.append(f"{x[-1]:.1f},{floor:.1f}")
    return element(
        "g", element("polygon", points=" ".join(corners)), class_=_color("series bars", index), data_series=index
    )


def _drawable_edges(edges: Float[np.ndarray, "edges"], bins: int) -> Float[np.ndarray, "edges"]:
    """The edges, infinite ends drawn one typical bin away; plain numbers where they cannot be drawn."""
    finite = edges[np.isfinite(edges)]
    if edges.size != bins + 1 or np.isnan(edges).any() or not finite.size or (np.diff(edges) < 0).any():
        return np.arange(bins + 1.0)
    width = (finite[-1] - finite[0]) / max(1, finite.size - 1) or 1.0
    drawn = np.nan_to_num(edges, nan=0.0, posinf=finite[-1] + width, neginf=finite[0] - width)
    return drawn if drawn[-1] > drawn[0] else np.arange(bins + 1.0)


def _runs(flags: Bool[np.ndarray, "points"]) -> Iterator[tuple[int, int]]:
    """Start and end of each unbroken run of True."""
    turns = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True)


def _level(name: str, level: float, up: Scale) -> Markup:
    at = up.one(level)
    words = f"{shorten(name, 40)} {number(level)}"
    above = at - 5 if at > TOP + 14 else at + 13
    line = element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{at:.1f}", y2=f"{at:.1f}")
    return element(
        "g", line, element("text", words, x=WIDTH - RIGHT - 2, y=f"{above:.1f}", text_anchor="end"), class_="level"
    )


def _color(kind: str, index: int) -> str:
    return f"{kind} c{index % COLORS} d{index // COLORS % 4}"


def _legend(series: Series) -> Markup:
    """The names beside their colors; each a button that hides its series."""
    if not series:
        return Markup("")
    items = []
    for i, name in enumerate(series):
        swatch = element("svg", element("line", x1=0, x2=22, y1=5, y2=5), viewBox="0 0 22 10", aria_hidden="true")
        button = element("button", swatch, shorten(name, 60), type="button", aria_pressed="true", data_toggle=i)
        items.append(element("li", button, class_=_color("series", i)))
    return element("ul", *items, class_="legend")


def _hover(x: Float[np.ndarray, "points"], heads: list[str], readings: Mapping[str, list[str]], y: Series) -> Markup:
    """What the script needs to read values off the chart."""
    heights = [[None if not np.isfinite(v) else round(float(v), 1) for v in values] for values in y.values()]
    lines = [{"name": shorten(name, 60), "text": text} for name, text in readings.items()]
    return data_block(
        {
            "x": np.round(x, 1).tolist(),
            "head": heads,
            "lines": lines,
            "y": heights,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        }
    )


def _svg(label: str, shapes: list[Markup], hover: Markup) -> Markup:
    drawn = element(
        "svg", *shapes, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, tabindex=0, class_="chart"
    )
    return element("div", drawn, hover, class_="plot", data_plot="lines")


def _ends_in_words(series: Series) -> str:
    """The chart in words: where each series begins and ends."""
    ends = [f"{name} from {number(float(y[0]))} to {number(float(y[-1]))}" for name, y in series.items() if y.size]
    return "; ".join(ends[:6])


def _notes(series: Series, log: bool, left_out: int) -> list[Markup]:
    """What the drawing cannot show is said."""
    everything = np.concatenate(list(series.values()))
    broken, low = int((~np.isfinite(everything)).sum()), int((everything <= 0).sum()) if log else 0
    notes = [f"{plural(broken, 'value')} not finite (shaded)."] if broken else []
    notes += [f"{plural(low, 'value')} at or below zero cannot be drawn on this scale."] if low else []
    notes += [f"{left_out} more series not drawn."] if left_out > 0 else []
    return [element("p", " ".join(notes), class_="note")] if notes else []
